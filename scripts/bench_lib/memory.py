"""Allocates memory in advance, so that the page cache is filled at the speed of memory. No threads."""

from __future__ import annotations

# A copy through a mount with a cache fills the pages of three files.
_FILES = 3
_MORE_MB = 64


def take_and_give_back(megabytes: float) -> None:
    """Before a sample that fills files of so many megabytes in any process.

    A virtual machine gets its memory from its host page by page, when each is used for the first time (at 0.5 GB/s on
    the first test machine, a tenth of the speed of memory), and returns free memory after a while. Without this,
    samples would mostly measure the number of new pages.
    """
    bytearray(int(_FILES * megabytes + _MORE_MB) << 20)
