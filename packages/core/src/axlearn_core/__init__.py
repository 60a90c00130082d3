"""The core of axlearn: `import axlearn_core` loads neither jax nor any plugin."""
