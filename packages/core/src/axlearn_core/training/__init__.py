"""The loop that trains, and the contract of what it is fed with."""
