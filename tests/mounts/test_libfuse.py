"""Which libfuse a mount uses, by what the machine has."""

from __future__ import annotations

import ctypes.util
import shutil
from collections.abc import Callable, Collection

import pytest

from cambfs.errors import ConfigError
from cambfs.mounts import libfuse, mountpoint

Machine = Callable[..., None]
_FILES = {2: "libfuse.so.2", 3: "libfuse3.so.3"}


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    """Makes this machine one with only these versions of libfuse, Python packages and programs, for a user."""

    def have(
        versions: Collection[int] = (2, 3),
        modules: Collection[str] = ("fuse", "mfusepy"),
        programs: Collection[str] = ("fusermount", "fusermount3"),
    ) -> None:
        files = {{2: "fuse", 3: "fuse3"}[version]: _FILES[version] for version in versions}
        monkeypatch.delenv(libfuse.VARIABLE, raising=False)
        monkeypatch.setattr(ctypes.util, "find_library", files.get)
        monkeypatch.setattr(libfuse, "find_spec", lambda name: name if name in modules else None)
        monkeypatch.setattr(shutil, "which", lambda name: f"/opt/bin/{name}" if name in programs else None)
        monkeypatch.setattr(mountpoint, "may_mount", lambda: False)

    return have


@pytest.mark.parametrize(
    ("wanted", "has", "major", "why"),
    [
        ("auto", {}, 2, "the default"),
        ("auto", {"versions": [3]}, 3, "libfuse 2 or fusepy is missing"),
        ("auto", {"modules": ["mfusepy"]}, 3, "libfuse 2 or fusepy is missing"),
        ("auto", {"modules": ["fuse"]}, 2, "the default"),
        ("auto", {"programs": ["fusermount3"]}, 3, "fusermount is missing, which libfuse 2 needs"),
        ("auto", {"programs": []}, 2, "the default"),
        ("2", {}, 2, "--fuse 2"),
        ("3", {}, 3, "--fuse 3"),
        ("2", {"programs": ["fusermount3"]}, 2, "--fuse 2"),
    ],
)
def test_libfuse_2_is_chosen_where_it_works(
    machine: Machine, wanted: str, has: dict[str, Collection[object]], major: int, why: str
) -> None:
    machine(**has)
    assert libfuse.choose(wanted) == (major, _FILES[major], why)


@pytest.mark.parametrize(
    ("wanted", "has", "said"),
    [
        ("auto", {"versions": []}, r"libfuse is missing; as root: apt install fuse3, dnf install fuse3, or pacman"),
        ("auto", {"modules": []}, "libfuse is missing"),
        (
            "2",
            {"versions": [3]},
            r"--fuse 2: libfuse 2 .* libfuse2 \(newer: libfuse2t64\).* leave --fuse out",
        ),
        ("3", {"versions": [2]}, "--fuse 3: libfuse 3 or mfusepy is missing; .* apt install fuse3"),
    ],
)
def test_what_is_missing_is_one_line(
    machine: Machine, wanted: str, has: dict[str, Collection[object]], said: str
) -> None:
    machine(**has)
    with pytest.raises(ConfigError, match=said):
        libfuse.choose(wanted)


@pytest.mark.parametrize(
    ("major", "programs", "said"),
    [
        (
            2,
            ["fusermount3"],
            "does not look for fusermount3; as root: ln -s fusermount3 /opt/bin/fusermount$",
        ),
        (3, ["fusermount"], "fusermount3 is missing, .*apt install fuse3"),
        (2, [], "fusermount is missing, .*apt install fuse3"),
    ],
)
def test_a_user_needs_the_fusermount_of_that_libfuse(
    machine: Machine, major: int, programs: list[str], said: str
) -> None:
    machine(programs=programs)
    with pytest.raises(ConfigError, match=said):
        libfuse.check_fusermount(major)


@pytest.mark.parametrize(("number", "major"), [("29", 2), ("314", 3), ("317", 3)])
def test_the_variable_of_the_bindings_names_the_library(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, number: str, major: int
) -> None:
    machine(versions=[])
    monkeypatch.setenv(libfuse.VARIABLE, "/opt/lib/libfuse.so")
    monkeypatch.setattr(libfuse, "_version_of", lambda _: int(number))

    assert libfuse.choose() == (major, "/opt/lib/libfuse.so", libfuse.VARIABLE)
    with pytest.raises(ConfigError, match=f"FUSE_LIBRARY_PATH names libfuse {major}; unset one of the two"):
        libfuse.choose(str(5 - major))
