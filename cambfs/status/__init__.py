"""The status of a mount: counts, a snapshot, and the files that show it."""
