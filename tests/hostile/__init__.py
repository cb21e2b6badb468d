"""A peer that says anything, and what a mount makes of it."""
