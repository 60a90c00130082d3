"""`axl import` and `axl export`."""
