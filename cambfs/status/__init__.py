"""What a mount says of itself: counts, a snapshot, and the files that show it."""
