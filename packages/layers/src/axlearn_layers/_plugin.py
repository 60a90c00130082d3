"""What this package provides."""
