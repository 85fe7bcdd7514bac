"""The gateway: the HTTP interface, on the same client that native users have."""
