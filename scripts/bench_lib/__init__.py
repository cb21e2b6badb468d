"""The benchmark behind `scripts/bench`: compares cambfs with the usual alternatives, on one machine, in one session.

It has no tests: slowness is not a failure. `__main__` is the command line. `lab` is the environment of a measurement
(`audio`, `server`, `link`, `mounts`, `peers`). The `rows_…` measure. `figures` compares a measurement with its goals.
`table`, `plot` and `page` show it. The main thread does everything, except for the threads of `readers`.
"""
