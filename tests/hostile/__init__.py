"""A server that may send anything, and a mount's reaction."""
