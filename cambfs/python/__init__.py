"""For Python programs: results as files, and mounts. `cambfs` imports this room when it is first used."""

from __future__ import annotations

from cambfs.python.mounting import mount
from cambfs.python.run_file import open_run

__all__ = ["mount", "open_run"]
