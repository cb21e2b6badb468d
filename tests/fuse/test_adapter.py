"""The adapter itself, where a mount cannot easily be brought: memory that there is not, a libfuse that is too old."""

from __future__ import annotations

import ctypes
import errno
from pathlib import Path
from typing import Any, cast

import fuse
import pytest

from cambfs.errors import ConfigError
from cambfs.fuse import adapter, readbuf
from cambfs.fuse.signals import Session
from cambfs.runs.library import Library


@pytest.mark.parametrize("function", ["calloc", "malloc"])
def test_no_memory_for_an_answer(function: str, monkeypatch: pytest.MonkeyPatch) -> None:
    class Opened:
        def readinto(self, _offset: int, length: int, room: Any, _patience: object) -> int:
            room(length)
            return length

    fi = fuse.fuse_file_info()
    operations = adapter.Operations(*cast("Any", (None, None, Session(), 1.0, False, lambda: None)))
    operations._open_files[fi.fh] = cast("Any", Opened())
    monkeypatch.setattr(readbuf._c, function, lambda *_: None)

    with pytest.raises(fuse.FuseOSError) as failed:
        operations("read", "/1.flac", ctypes.pointer(ctypes.c_void_p()), 4096, 0, fi)
    assert failed.value.errno == errno.ENOMEM


def test_a_libfuse_that_is_too_old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fuse._libfuse, "fuse_version", lambda: 28)

    with pytest.raises(ConfigError, match="libfuse is too old"):
        adapter.serve(cast("Library", None), tmp_path)
