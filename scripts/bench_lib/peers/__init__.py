"""What users would pick instead of imgserve, measured at the same work: one file a peer."""
