"""A small API on this machine that behaves as the real one does: for `cambfs demo`, and for the tests to build on.

It is separate from the file system: only the command `demo` imports it. Start at `cambfs.demo.server`. No threads run
here.
"""

from __future__ import annotations

from pathlib import Path

# A task that `cambfs demo` has. It is pending for ten seconds from the first question about it on.
TASK_ID = "3f2b8a52-1c7e-4b0d-9a6f-5d1e8c2b7a10"


def samples() -> dict[int, Path]:
    """The results that come with cambfs: run id → a FLAC of real speech, from a sentence to three minutes."""
    return {int(path.stem): path for path in sorted((Path(__file__).parent / "samples").glob("*.flac"))}
