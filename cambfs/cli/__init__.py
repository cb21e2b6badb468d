"""The command line: what is typed becomes settings, and what goes wrong one line.

Not what the commands do: all of it can be had from Python through `config`, `wiring`, `daemon`, `bulk_fetch` and
`unmount`. What takes long to import is imported where it is used, so that `--help` is quick. One module a command.
"""

from cambfs.cli.app import main, run

__all__ = ["main", "run"]
