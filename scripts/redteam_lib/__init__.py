"""Attacks on a running service, each with the figure that it got."""
