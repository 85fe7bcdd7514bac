"""The worker: takes jobs from the broker, moves bytes, and has pixel processes make the results."""
