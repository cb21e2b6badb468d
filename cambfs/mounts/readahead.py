"""How far the kernel reads ahead in a mount. No threads."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from cambfs.mounts.mount_table import all_mounts

_READ_AHEAD_KB = 1024  # as much as one request can bring


def read_further_ahead(directory: Path, bdi: Path = Path("/sys/class/bdi")) -> None:
    """Makes the kernel read 1 MiB ahead in the mount at `directory` (a resolved path), not 128 KiB. Only root may;
    for others nothing changes. Call it after the mount has answered the first request: the kernel sets its own limit
    then."""
    found = [mounted.device for mounted in all_mounts() if mounted.directory == directory]
    if found:
        with suppress(OSError):
            (bdi / found[-1] / "read_ahead_kb").write_text(str(_READ_AHEAD_KB))
