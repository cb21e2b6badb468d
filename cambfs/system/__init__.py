"""The machine: the daemon, mount points, private files, logs, limits and threads."""
