"""One file a work."""
