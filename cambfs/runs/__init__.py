"""The results in use: the library of all runs, one run, and the uses of it."""
