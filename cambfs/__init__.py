"""cambfs mounts the results of CAMB.AI text-to-speech runs as files.

For Python programs: `open_run` opens a result as a file, `mount` mounts all of them, ConfigError says which setting is
wrong.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cambfs.errors import ConfigError
    from cambfs.python import mount, open_run

__version__ = "0.1.0"
__all__ = ["ConfigError", "__version__", "mount", "open_run"]


def __getattr__(name: str) -> Any:
    """Imports what Python programs use at its first use: the command line does not need it."""
    if name == "ConfigError":
        from cambfs.errors import ConfigError

        return ConfigError
    if name in ("mount", "open_run"):
        from cambfs import python

        return getattr(python, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
