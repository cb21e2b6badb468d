"""Results that are kept: the least recently used order, the directory on the disk, and the spool of each run."""
