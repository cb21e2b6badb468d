"""The machine's requirements: Python, /dev/fuse, libfuse, fusermount, limits. No threads."""

from __future__ import annotations

import os
import platform
import resource
import shutil
import stat
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from cambfs import __version__
from cambfs.doctor.report import Check, Finding, broken, ok, refused, warning
from cambfs.errors import ConfigError
from cambfs.mounts import mountpoint
from cambfs.mounts.libfuse import AUTO, check_fusermount, choose, fusermount_of
from cambfs.settings.config import Settings

_LIBRARIES = ("fusepy", "mfusepy", "requests", "urllib3")
# Each open result and each transfer has descriptors; a mount raises the soft limit to the hard one by itself.
_ENOUGH_OPEN_FILES = 4096


def checks(settings: Settings | None) -> Iterator[Check]:
    """Without settings, the checks that need them are left out."""
    yield Check("system", "versions", versions)
    yield Check("system", "/dev/fuse", device)
    wanted = AUTO if settings is None else settings.fuse
    yield Check("system", "libfuse", lambda: libfuse(wanted))
    yield Check("system", "fusermount", lambda: fusermount(wanted))
    yield Check("system", "/etc/mtab", mtab)
    if settings is not None:
        yield Check("system", "user_allow_other", lambda: allow_other(settings))
    yield Check("system", "open files", open_files)


def versions() -> Iterator[Finding]:
    """With too old a Python the program would not have started."""
    release = os_release().get("PRETTY_NAME", "an unknown distribution")
    yield ok("Python", f"{platform.python_version()} on Linux {platform.release()}, {release}")
    libraries = ", ".join(f"{name} {_version(name)}" for name in _LIBRARIES)
    yield ok("cambfs", f"cambfs {__version__}, {libraries}")


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "(not installed)"


def os_release() -> dict[str, str]:
    try:
        return platform.freedesktop_os_release()
    except OSError:
        return {}


def device(path: Path = Path("/dev/fuse")) -> Iterator[Finding]:
    try:
        mountpoint.check_device(path)
    except ConfigError as error:
        yield refused("/dev/fuse", error)
        return
    if mountpoint.has_capability("CapBnd"):
        yield ok("/dev/fuse", "can be opened")
    else:
        remedy = "start the container with --device /dev/fuse --cap-add SYS_ADMIN"
        yield broken("/dev/fuse", "can be opened, but nothing may be mounted here", remedy)


def libfuse(wanted: str = AUTO) -> Iterator[Finding]:
    """`wanted` as for `choose`."""
    try:
        chosen = choose(wanted)
        version = chosen.version()
    except ConfigError as error:
        yield refused("libfuse", error)
        return
    yield ok("libfuse", f"{version} ({chosen.path}) with {chosen.binding}: {chosen.why}")


def fusermount(wanted: str = AUTO) -> Iterator[Finding]:
    """Without libfuse there is nothing to say."""
    if mountpoint.has_capability("CapEff"):
        yield ok("fusermount", "not needed, as this user may mount")
        return
    try:
        major = choose(wanted).major
    except ConfigError:
        return
    try:
        check_fusermount(major)
    except ConfigError as error:
        yield refused("fusermount", error)
        return
    name = fusermount_of(major)
    yield from _setuid(Path(shutil.which(name) or name))


def _setuid(program: Path) -> Iterator[Finding]:
    status = program.stat()
    if status.st_uid or not status.st_mode & stat.S_ISUID:
        remedy = f"as root: chown root {program} && chmod u+s {program}"
        yield broken("fusermount", f"{program} does not run as root", remedy)
    elif no_new_privileges():
        yield broken("fusermount", "this process may not gain privileges, as in a sandbox", "run cambfs outside it")
    else:
        yield ok("fusermount", f"{program}, which runs as root")


def no_new_privileges(status: Path = Path("/proc/self/status")) -> bool:
    return "\nNoNewPrivs:\t1\n" in status.read_text()


def mtab(path: Path = Path("/etc/mtab")) -> Iterator[Finding]:
    if path.exists():
        yield ok("/etc/mtab", "is there")
    else:
        yield warning("/etc/mtab", "is missing, and fusermount needs it", f"as root: ln -s /proc/self/mounts {path}")


def allow_other(settings: Settings, fuse_conf: Path = Path("/etc/fuse.conf")) -> Iterator[Finding]:
    wanted = settings.allow_other or {"allow_other", "allow_root"} & set(settings.options)
    try:
        mountpoint.check_allow_other(fuse_conf)
    except ConfigError as error:
        if wanted:
            yield refused("user_allow_other", error)
        else:
            yield ok("user_allow_other", f"not set in {fuse_conf}; only --allow-other needs it")
        return
    may_mount = os.geteuid() == 0 or mountpoint.has_capability("CapEff")
    yield ok("user_allow_other", "not needed by root" if may_mount else f"set in {fuse_conf}")


def open_files() -> Iterator[Finding]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard not in (-1, resource.RLIM_INFINITY) and hard < _ENOUGH_OPEN_FILES:
        remedy = f"raise the hard limit of open files (ulimit -Hn) to {_ENOUGH_OPEN_FILES} or more"
        yield warning("open files", f"at most {hard}, too few for many results at the same time", remedy)
    else:
        yield ok("open files", f"at most {'unlimited' if hard in (-1, resource.RLIM_INFINITY) else hard}, now {soft}")
