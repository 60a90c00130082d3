"""What core itself provides, announced like any other plugin."""
