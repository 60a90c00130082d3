"""What tests of plugins need."""
