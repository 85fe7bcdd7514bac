"""The commands of `imgserve`, one file each, and what they share."""
