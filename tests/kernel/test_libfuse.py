"""A mount through each libfuse: which one it is, and how the kernel reads through it."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from tests.kernel.audio import Audio
from tests.kernel.conftest import Mounted
from tests.kernel.harness import Mount

both = pytest.mark.parametrize("version", ["2", "3"])


def _read_ahead_kb(mount: Mount) -> int:
    device = mount.path.stat().st_dev
    return int(Path(f"/sys/class/bdi/{os.major(device)}:{os.minor(device)}/read_ahead_kb").read_text())


@both
def test_the_chosen_libfuse_serves_the_mount(mounted: Mounted, audio: Audio, version: str) -> None:
    with mounted("--fuse", version) as mount:
        assert mount.run(["cat", "101.flac"]).out == audio.sentence.read_bytes()
        if os.geteuid() == 0:  # the mount shows this to nobody else
            maps = Path(f"/proc/{mount.process.pid}/maps").read_text()
            assert set(re.findall(r"/libfuse(3?)\.so", maps)) == {"3" if version == "3" else ""}


@both
@pytest.mark.parametrize(("option", "kb"), [((), 1024), (("-o", "max_readahead=65536"), 64)])
def test_root_lets_the_kernel_read_a_mebibyte_ahead(
    mounted: Mounted, version: str, option: tuple[str, ...], kb: int
) -> None:
    with mounted("--fuse", version, *option) as mount:
        assert mount.run(["cat", "101.flac"]).status == 0
        assert _read_ahead_kb(mount) == (kb if os.geteuid() == 0 else min(kb, 128))
