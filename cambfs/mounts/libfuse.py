"""Which libfuse a mount uses: libfuse 2 with fusepy, or libfuse 3 with mfusepy; and what either needs on the machine.

Loads a library only to learn its version. No threads.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import os
import pwd
import shutil
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from cambfs.errors import ConfigError
from cambfs.mounts import mountpoint

AUTO = "auto"
VARIABLE = "FUSE_LIBRARY_PATH"
"""The variable of both bindings that names the library to load."""

INSTALL_ANY = "apt install fuse3, dnf install fuse3, or pacman -S fuse3"
_INSTALL_TWO = "apt install libfuse2 (newer: libfuse2t64), dnf install fuse-libs, or pacman -S fuse2"


class Libfuse(NamedTuple):
    """`path` is what the dynamic linker loads; `why` says in a few words why a mount uses this one."""

    major: int
    path: str
    why: str

    @property
    def binding(self) -> str:
        """The Python package that binds it."""
        return _KINDS[self.major].binding

    def version(self) -> str:
        """Loads it. Raises ConfigError unless it is libfuse."""
        number = _version_of(self.path)
        return f"{self.major}.{number % (10 if self.major == 2 else 100)}"


class _Kind(NamedTuple):
    name: str  # of the library, for the linker
    module: str
    binding: str
    fusermount: str


# In the order of preference.
_KINDS = {2: _Kind("fuse", "fuse", "fusepy", "fusermount"), 3: _Kind("fuse3", "mfusepy", "mfusepy", "fusermount3")}


def choose(wanted: str = AUTO) -> Libfuse:
    """The libfuse of a mount. `wanted`: AUTO, "2" or "3". Raises ConfigError when it is not on this machine."""
    if path := os.environ.get(VARIABLE):
        return _named(path, wanted)
    found = [one for major in _KINDS if wanted in (AUTO, str(major)) and (one := _find(major, wanted)) is not None]
    if not found:
        raise ConfigError(_missing(wanted))
    first = found[0]
    usable = next((one for one in found if not fusermount_trouble(one.major)), first)
    if usable is not first:
        return usable._replace(why=f"{_KINDS[first.major].fusermount} is missing, which libfuse {first.major} needs")
    return first


def _find(major: int, wanted: str) -> Libfuse | None:
    kind = _KINDS[major]
    path = ctypes.util.find_library(kind.name)
    if not path or find_spec(kind.module) is None:
        return None
    if wanted != AUTO:
        return Libfuse(major, path, f"--fuse {major}")
    is_preferred = major == next(iter(_KINDS))
    return Libfuse(major, path, "the default" if is_preferred else "libfuse 2 or fusepy is missing")


def _missing(wanted: str) -> str:
    if wanted == AUTO:
        return f"libfuse is missing; as root: {INSTALL_ANY}"
    install, binding = (_INSTALL_TWO if wanted == "2" else INSTALL_ANY), _KINDS[int(wanted)].binding
    return f"--fuse {wanted}: libfuse {wanted} or {binding} is missing; as root: {install}; or leave --fuse out"


def _named(path: str, wanted: str) -> Libfuse:
    major = 2 if _version_of(path) < 300 else 3
    if wanted not in (AUTO, str(major)):
        raise ConfigError(f"--fuse {wanted}: {VARIABLE} names libfuse {major}; unset one of the two")
    return Libfuse(major, path, VARIABLE)


def _version_of(path: str) -> int:
    """29 for libfuse 2.9, 317 for 3.17."""
    try:
        return int(ctypes.CDLL(path).fuse_version())
    except (OSError, AttributeError) as error:
        remedy = f"unset {VARIABLE}" if os.environ.get(VARIABLE) else f"as root: {INSTALL_ANY}"
        raise ConfigError(f"{path} cannot be loaded as libfuse; {remedy}") from error


def check(wanted: str = AUTO, device: Path = Path("/dev/fuse")) -> None:
    """Raises ConfigError unless /dev/fuse, libfuse and, for other users than root, fusermount are there."""
    mountpoint.check_device(device)
    check_fusermount(choose(wanted).major)


def check_fusermount(major: int) -> None:
    """Raises ConfigError unless fusermount can mount for this user, or this process may mount by itself."""
    if trouble := fusermount_trouble(major):
        raise ConfigError(trouble)


def fusermount_of(major: int) -> str:
    """The name of the program with which this libfuse mounts for a user."""
    return _KINDS[major].fusermount


def fusermount_trouble(major: int) -> str:
    """The reason why this user cannot mount with this libfuse, "" when it can."""
    if mountpoint.may_mount():
        return ""
    name = fusermount_of(major)
    if not shutil.which(name):
        beside = shutil.which("fusermount3")
        if major == 2 and beside is not None:
            link = Path(beside).with_name(name)
            return f"{name} is missing, and libfuse 2 does not look for fusermount3; as root: ln -s fusermount3 {link}"
        return f"{name} is missing, and only root can work without it; as root: {INSTALL_ANY}"
    try:
        pwd.getpwuid(os.getuid())
    except KeyError:
        return f"{name} mounts for known users only; add uid {os.getuid()} to /etc/passwd, or mount as root"
    return ""
