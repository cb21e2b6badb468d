"""The places of files and mounts: the cache, the log, dead mounts, the directory that was named.

No threads but those of `probe`.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import shlex
import shutil
import stat
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from cambfs.account import account_directories, account_directory
from cambfs.disk.disk import Disk
from cambfs.doctor.report import Check, Finding, State, broken, ok, warning
from cambfs.mounts import mount_table, mountpoint
from cambfs.mounts.mount_table import FSTYPE, Mounted
from cambfs.mounts.probe import outcome, probe
from cambfs.settings.config import Settings
from cambfs.system import logs, private_files
from cambfs.text import shown_size, shown_time

_NETWORK_KINDS = ("nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "ceph", "glusterfs", "lustre", "afs", "fuse.sshfs")
_RESPONSE_S = 2.0
_PREFIX = ".cambfs-doctor-"
_ANOTHER_CACHE = "name a directory on a local disk with --cache-dir"


def checks(settings: Settings | None, directory: Path | None) -> Iterator[Check]:
    if settings is not None:
        yield Check("files", "cache", lambda: cache(settings), 5.0)
        yield Check("files", "log", lambda: log(settings, directory))
    yield Check("mounts", "mounts", lambda: mounts(directory), _RESPONSE_S * 2)
    if directory is not None:
        yield Check("mounts", "DIR", lambda: named(directory), _RESPONSE_S * 2)


def cache(settings: Settings) -> Iterator[Finding]:
    if settings.no_disk_cache:
        yield ok("cache", "in memory, as no_disk_cache says")
        return
    directory = settings.cache_dir
    yield (place := writable("cache", directory, "--cache-dir", check_way=private_files.check_way))
    if place.remedy:
        return
    existing = nearest(directory)
    yield file_system(existing)
    cached_bytes = 0
    if settings.key is not None and account_directory(settings).is_dir():
        stored = Disk(account_directory(settings)).scan()
        cached_bytes = sum(one.size for one in stored)
        accounts = len(account_directories(directory))
        yield ok("results", f"{len(stored)} of this account, {shown_size(cached_bytes)}; accounts here: {accounts}")
    elif settings.key is not None:
        yield ok("results", "none of this account yet")
    yield space(existing, settings.cache_size, cached_bytes)


def nearest(path: Path) -> Path:
    """The file of this name, or if it is missing the nearest directory above it. Raises OSError."""
    for one in (path, *path.parents):
        with suppress(FileNotFoundError, NotADirectoryError):
            one.stat()
            return one
    raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))


def writable(check: str, directory: Path, flag: str, check_way: Callable[[Path], None] = lambda _: None) -> Finding:
    """Makes a file for a moment. Missing directories are fine, because a mount makes them. `check_way` raises OSError
    for a file in an unsafe place."""
    try:
        existing = nearest(directory)
        status = existing.stat()
        if not stat.S_ISDIR(status.st_mode):
            raise NotADirectoryError(errno.ENOTDIR, f"{existing} is not a directory")
        if existing == directory and status.st_uid != os.geteuid():
            raise PermissionError(errno.EPERM, "it is not yours")
        with tempfile.NamedTemporaryFile(dir=existing, prefix=_PREFIX) as file:
            check_way(Path(file.name))
            file.write(b"\0" * 4096)
            file.flush()
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        found, _, remedy = (error.strerror or str(error)).partition("; ")
        return broken(check, f"{directory}: {found}", remedy or f"name another place with {flag}")
    return ok(check, f"{directory}, {'writable' if existing == directory else 'not there yet, can be made'}")


def file_system(directory: Path) -> Finding:
    kind = kind_of(directory)
    if kind in _NETWORK_KINDS:
        return warning("file system", f"{kind}, over a network: slow, and its locks may not hold", _ANOTHER_CACHE)
    with tempfile.NamedTemporaryFile(dir=directory, prefix=_PREFIX) as file:
        if stat.S_IMODE(os.fstat(file.fileno()).st_mode) != 0o600:
            return warning(
                "file system", f"{kind}, which keeps no permissions: others may read results", _ANOTHER_CACHE
            )
    return ok("file system", kind)


def kind_of(directory: Path) -> str:
    """Of the file system that a directory is on."""
    real = Path(os.path.realpath(directory))
    holding = [mounted for mounted in mount_table.all_mounts() if real.is_relative_to(mounted.directory)]
    # Of several at the same place, the last one lies on top.
    return max(reversed(holding), key=lambda mounted: len(mounted.directory.parts)).fstype if holding else "unknown"


def space(directory: Path, limit_bytes: int, cached_bytes: int) -> Finding:
    free = shutil.disk_usage(directory).free
    wanted = max(limit_bytes - cached_bytes, 0)
    found = f"{shown_size(free)} free, and the cache may grow by {shown_size(wanted)}"
    if free < wanted:
        fitting_mib = max((free // 2 + cached_bytes) // 2**20, 1)
        return warning("space", found, f"free some, or set --cache-size to {fitting_mib}MiB")
    return ok("space", found)


def log(settings: Settings, directory: Path | None) -> Iterator[Finding]:
    without_home = None if settings.no_disk_cache else settings.cache_dir
    file = settings.log_file or logs.default_file(directory or Path("/mnt"), without_home)
    yield writable("log", file.parent, "--log-file")


def mounts(directory: Path | None) -> Iterator[Finding]:
    """Of this user's mounts, those that are dead or hang; `directory` has a line of its own."""
    ours = {mounted.directory for mounted in mount_table.own_mounts()}
    asked = {path: probe(path) for path in sorted(ours - {mountpoint_of(directory)})}
    deadline = time.monotonic() + _RESPONSE_S
    bad = 0
    for path, probed in asked.items():
        response = outcome(probed, deadline)
        if response == errno.ENOTCONN:
            yield broken("mounts", f"{path}: its process has died, and every access fails", unmounting(path))
        elif response is None:
            yield warning("mounts", f"{path}: does not respond", unmounting(path))
        bad += response in (errno.ENOTCONN, None)
    if not bad:
        other = "other " if directory else ""
        yield ok("mounts", f"{len(asked)} {other}of yours, and all respond" if asked else f"no {other}mounts of yours")


def mountpoint_of(directory: Path | None) -> Path | None:
    mounted = None if directory is None else mount_table.mounted_at(directory)
    return None if mounted is None else mounted.directory


def unmounting(directory: Path) -> str:
    return f"cambfs unmount {shlex.quote(str(directory))}"


def named(directory: Path) -> Iterator[Finding]:
    mounted = mount_table.mounted_at(directory)
    if mounted is None:
        mountpoint.check_directory(directory)
        yield ok("DIR", f"{directory}: nothing is mounted there; cambfs can be mounted")
        return
    if mounted.fstype != FSTYPE:
        yield broken(
            "DIR", f"{directory}: something else ({mounted.fstype}) is mounted there", "name another directory"
        )
        return
    yield (found := condition(directory, mounted, outcome(probe(directory), time.monotonic() + _RESPONSE_S)))
    if found.state is State.OK:
        yield from shared_cache(mounted)


def shared_cache(mounted: Mounted) -> Iterator[Finding]:
    """What the mount says of its own, which may be another than that of the settings here."""
    try:
        shared = json.loads(mount_table.read_inside(mounted, "status.json", _RESPONSE_S))["shared"]
    except (OSError, ValueError, LookupError):  # another user's mount, or that of an older version
        return
    if shared and (problem := _problem(shared)):
        address = shared["address"]
        # The name of a user would be masked, and then nothing could be done with the command.
        url = "URL, as for this mount" if "@" in address else shlex.quote(address)
        yield warning("DIR", f"its shared cache {address} {problem}", f"cambfs doctor --shared-cache {url}")


def _problem(shared: dict[str, Any]) -> str:
    reason, refusal = (shared.get(name, "").removeprefix(f"{shared['address']}: ") for name in ("reason", "refusal"))
    if shared["is_up"] is False:
        return f"is down: {reason}"
    return f"refused a new result {shown_time(shared['refused_ago_s'])} ago: {refusal}" if refusal else ""


def condition(directory: Path, mounted: Mounted, response: int | None) -> Finding:
    whose = "yours" if mounted.owner == os.geteuid() else "root's" if mounted.owner == 0 else "another user's"
    if response == errno.ENOTCONN:
        return broken("DIR", f"{directory}: dead mount, {whose}; every access fails", unmounting(directory))
    if response is None:
        return broken("DIR", f"{directory}: mounted, {whose}; does not respond", unmounting(directory))
    if response:
        return warning(
            "DIR", f"{directory}: mounted, {whose}; {os.strerror(response).lower()}", "its user needs --allow-other"
        )
    return ok("DIR", f"{directory}: mounted, {whose}; responds")
