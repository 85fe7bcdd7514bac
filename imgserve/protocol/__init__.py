"""What travels between the parts: message kinds, their frames, and where the broker is."""
