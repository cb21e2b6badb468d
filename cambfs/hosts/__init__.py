"""The hosts that requests go to: which are allowed, how they are reached, and which are down."""
