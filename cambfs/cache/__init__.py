"""Which results are kept, and how they get there."""
