"""A mount for as long as a `with` lasts. The mount is a process of its own. No threads."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from cambfs.errors import ConfigError
from cambfs.settings.config import checked_key
from cambfs.settings.keywords import arguments_for, settings_for
from cambfs.settings.options import FOR_MOUNT
from cambfs.system.private_files import KEY_VARIABLE


@contextmanager
def mount(
    directory: str | os.PathLike[str] | None = None, *, api_key: str | None = None, **settings: object
) -> Iterator[Path]:
    """Mounts at `directory`, an empty one that is made if it is missing, or at a temporary one. Unmounts at the end.

    The keywords are the settings of `cambfs mount`, as `runs="1-100"`; the environment and config.toml count, too.
    Raises ConfigError for a wrong setting, and when it cannot be mounted.
    """
    arguments = arguments_for(FOR_MOUNT, settings)
    settings_for(FOR_MOUNT, settings)  # raises for a wrong one
    environment = dict(os.environ)
    if api_key is not None:
        environment[KEY_VARIABLE] = checked_key("api_key", api_key).reveal()
    with ExitStack() as stack:
        if directory is None:
            directory = stack.enter_context(tempfile.TemporaryDirectory(prefix="cambfs-"))
        path = Path(directory).absolute()
        _call("mount", "--mkdir", *arguments, str(path), env=environment)
        stack.callback(_call, "unmount", str(path))
        yield path


def _call(*arguments: str, env: dict[str, str] | None = None) -> None:
    """Runs a command of cambfs. Raises ConfigError with the last line of its output."""
    command = [sys.executable, "-m", "cambfs", *arguments]
    with tempfile.TemporaryFile() as output:  # the mount in the background would keep a pipe open
        status = subprocess.run(command, env=env, stdin=subprocess.DEVNULL, stdout=output, stderr=output).returncode
        if status:
            output.seek(0)
            last = output.read().decode(errors="replace").strip().rpartition("\n")[2]
            raise ConfigError(last.removeprefix("cambfs: ") or f"cambfs {arguments[0]} ended with status {status}")
