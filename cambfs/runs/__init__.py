"""The results in use: the library of all runs, one run, who fetches it, and how its size is known."""
