"""The results in use: the library of all runs, one run, its downloads, and its size."""
