"""The command line: runs the commands, and turns errors into one line.

Everything that the commands do can be had from Python through `settings`, `wiring`, `daemon`, `bulk_fetch` and
`unmount`. Slow imports are made where they are used, so that `--help` is quick. One module per command.
"""

from cambfs.cli.app import main, run

__all__ = ["main", "run"]
