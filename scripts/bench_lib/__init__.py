"""The benchmark behind `scripts/bench`: cambfs beside what people would use instead, on one machine, in one session.

Not tests: nothing here fails because something is slow. `__main__` is the command line; `lab` is the place where a
measurement is made (`audio`, `server`, `link`, `mounts`, `peers`); the `rows_…` measure; `figures` says what a
measurement means; `table`, `plot` and `page` show it. The main thread does everything but what `readers` does in
threads of its own.
"""
