"""The machine: the daemon, private files, logs, limits and threads."""
