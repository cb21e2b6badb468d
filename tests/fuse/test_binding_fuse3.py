"""The agreement of libfuse 3 with the kernel, as libfuse offers it and as a mount leaves it."""

from __future__ import annotations

import ctypes
from typing import Any

import pytest

from cambfs.fuse import adapter
from cambfs.mounts import libfuse
from tests.fuse.fakes import FakeTree, make_operations

_OFFERED = 131_072


@pytest.fixture
def module() -> Any:
    adapter.load(libfuse.choose("3"))
    from cambfs.fuse import binding_fuse3

    return binding_fuse3


def _agreed(module: Any, monkeypatch: pytest.MonkeyPatch, **options: str) -> tuple[Any, Any, list[str]]:
    """What libfuse and the kernel agree on, the configuration of libfuse, and its command line."""
    conn, config = module.mfusepy.fuse_conn_info(), module.mfusepy.fuse_config()
    conn.want, conn.max_readahead = 0xFFFFFFFF, _OFFERED
    words: list[str] = []

    def main(argc: int, argv: Any, operations: Any, *_: Any) -> int:
        words.extend(word.decode() for word in argv[:argc])
        operations.contents.init(ctypes.pointer(conn), ctypes.pointer(config))
        return 0

    monkeypatch.setattr(module.mfusepy, "fuse_main_real", main)
    module.Fuse3().serve(make_operations(FakeTree()), b"/mnt", {**adapter._OPTIONS, **options})
    return conn, config, words


def test_stalled_results_leave_threads_and_requests_for_others(module: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    conn, _, words = _agreed(module, monkeypatch)
    assert conn.max_background == 512
    assert "max_threads=100000" in words[words.index("-o") + 1].split(",")


def test_an_older_libfuse_has_no_limit_of_threads(module: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module.mfusepy, "fuse_version_minor", 10)
    _, _, words = _agreed(module, monkeypatch)
    assert "max_threads" not in words[words.index("-o") + 1]


def test_the_kernel_does_not_ask_for_attributes_at_every_read(module: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    conn, _, words = _agreed(module, monkeypatch)
    assert not conn.want & 1 << 12
    assert conn.want & 1 << 0, "reads may be under way side by side"
    assert "attr_timeout=0" in words[words.index("-o") + 1].split(",")


def test_interrupts_and_inodes_are_ours(module: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    _, config, _ = _agreed(module, monkeypatch)
    assert (config.intr, config.use_ino) == (1, 1)


@pytest.mark.parametrize(("wanted", "agreed"), [({}, _OFFERED), ({"max_readahead": "4096"}, 4096)])
def test_a_mount_option_can_make_readahead_smaller(
    module: Any, monkeypatch: pytest.MonkeyPatch, wanted: dict[str, str], agreed: int
) -> None:
    conn, _, words = _agreed(module, monkeypatch, **wanted)
    assert conn.max_readahead == agreed
    assert "max_readahead" not in " ".join(words), "libfuse 3 does not know it"


def test_a_limit_of_reads_is_told_to_both_ends(module: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    conn, _, words = _agreed(module, monkeypatch, max_read="65536")
    assert conn.max_read == 65536
    assert "max_read=65536" in words[words.index("-o") + 1].split(",")


def test_any_mount_point_reaches_libfuse_as_it_is(module: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[bytes] = []
    monkeypatch.setattr(module.mfusepy, "fuse_main_real", lambda argc, argv, *_: given.extend(argv[:argc]))
    module.Fuse3().serve(make_operations(FakeTree()), b"/mnt/B\xc3\xa4che\xff", {})
    assert given[-1] == b"/mnt/B\xc3\xa4che\xff"


def test_a_refused_mount_is_an_error(module: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module.mfusepy, "fuse_main_real", lambda *_: 1)
    with pytest.raises(RuntimeError):
        module.Fuse3().serve(make_operations(FakeTree()), b"/mnt", {})
