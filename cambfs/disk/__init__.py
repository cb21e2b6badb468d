"""One directory of results: files, sidecars, and the spool of each run."""
