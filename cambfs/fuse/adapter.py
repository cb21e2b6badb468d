"""Mounts the tree: chooses the binding, puts the operations and the mount options together, and serves.

The bindings are imported by `load` only, because each loads its library. No threads; `signals` has the one that ends
the mount.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from cambfs.errors import ConfigError
from cambfs.fuse.binding import Binding
from cambfs.fuse.errnos import Errnos
from cambfs.fuse.error_log import ErrorLog
from cambfs.fuse.operations import Operations
from cambfs.fuse.signals import Session
from cambfs.mounts.libfuse import VARIABLE, Libfuse
from cambfs.vfs.nodes import ENTRY_TIMEOUT_S
from cambfs.vfs.tree import Tree
from cambfs.vfs.xattrs import Xattrs

_OPTIONS: dict[str, str | int | bool] = {
    **dict.fromkeys(("ro", "nosuid", "nodev", "noexec", "use_ino", "intr"), True),
    "subtype": "cambfs",
    "attr_timeout": 0,
    "entry_timeout": ENTRY_TIMEOUT_S,
}


def load(libfuse: Libfuse) -> Binding:
    """Loads the library, for the life of the process. Raises ConfigError when it cannot be loaded."""
    try:
        with _library_named(libfuse.path):
            if libfuse.major == 2:
                from cambfs.fuse.binding_fuse2 import Fuse2

                return Fuse2()
            from cambfs.fuse.binding_fuse3 import Fuse3

            return Fuse3()
    except (OSError, AttributeError) as error:
        raise ConfigError(f"{libfuse.path} cannot be loaded as libfuse {libfuse.major}: {error}") from error


@contextmanager
def _library_named(path: str) -> Iterator[None]:
    """The bindings load their library when they are imported, and would look for it once more."""
    before = os.environ.get(VARIABLE)
    os.environ[VARIABLE] = path
    try:
        yield
    finally:
        del os.environ[VARIABLE]
        if before is not None:
            os.environ[VARIABLE] = before


def serve(
    binding: Binding,
    tree: Tree,
    xattrs: Xattrs,
    mountpoint: Path,
    *,
    timeout_s: float,
    close: Callable[[], None],
    allow_other: bool = False,
    options: Sequence[str] = (),
    error_log: ErrorLog | None = None,
    source: str = "cambfs",
    on_ready: Callable[[], None] = lambda: None,
    on_first_open: Callable[[], None] = lambda: None,
    on_hangup: Callable[[], None] | None = None,
) -> int | None:
    """Mounts and serves until unmounted, or until SIGINT or SIGTERM; returns the signal, or None.

    An operation waits at most `timeout_s`. `close` is called at a signal and lets all operations fail. SIGHUP calls
    `on_hangup`; without it, SIGHUP ends the mount, too. Call it in the main thread, before other threads start that
    should not get these signals: it blocks them. `source` is what `df` shows. `on_ready` is called at the kernel's
    first request, and `on_first_open` before it reads a file, both in any thread. Raises ConfigError when the mount is
    refused.
    """
    session = Session(on_ready)
    mount_options = _mount_options(source, allow_other, options)
    umask = int(str(mount_options.pop("umask", "0")), 8)
    if umask:  # without this the kernel leaves all checks to cambfs
        mount_options["default_permissions"] = True
    errnos = Errnos(error_log or ErrorLog())
    operations = Operations(tree, xattrs, errnos, session, binding, timeout_s, umask, on_first_open)
    session.end_on_signals(close, on_hangup)
    try:
        binding.serve(operations, os.fsencode(mountpoint), mount_options)
    except RuntimeError as error:
        raise ConfigError(f"cannot mount at {mountpoint}") from error
    finally:
        session.ignore_late_signals()
    return session.ended_by


def _mount_options(source: str, allow_other: bool, options: Sequence[str]) -> dict[str, str | int | bool]:
    chosen = (option.partition("=") for option in options)
    return (
        _OPTIONS | {"fsname": source, "allow_other": allow_other} | {name: value or True for name, _, value in chosen}
    )
