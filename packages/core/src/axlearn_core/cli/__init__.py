"""The axl command."""
