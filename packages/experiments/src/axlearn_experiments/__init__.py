"""Named experiments that compose the other packages."""
