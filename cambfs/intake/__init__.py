"""What one run has of its result, and what is fetched of it."""
