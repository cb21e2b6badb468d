"""How long a result is, and when it counts as complete."""
