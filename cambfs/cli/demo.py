"""`cambfs demo`: the embedded API and a mount of it, both in this process. Leaves nothing behind.

The mount's loop has the main thread, the API one of its own. This process must never access its own mount.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from cambfs.cli.mount import check, claimed, stay
from cambfs.mounts import mountpoint
from cambfs.settings.config import ApiKey, Settings
from cambfs.settings.mount_options import settle_options
from cambfs.settings.options import DIRECTORY, FOR_DEMO, with_settings
from cambfs.settings.setting import Value
from cambfs.settings.values import parse_duration, parse_size

if TYPE_CHECKING:
    from cambfs.demo.profile import Profile
    from cambfs.demo.server import Server

Command = TypeVar("Command", bound=Callable[..., Any])

_HINTS = """\
mounted at {directory}, with {count} spoken results. In another terminal:
    ls -l {directory}
    cp {directory}/101.flac .
    mpv {directory}/102.flac
    mpv {directory}/by-name/playlist.m3u8  # all of them, by their names
    cat {directory}/101.url
    cp {directory}/tasks/{task_id}.flac .  # a task that takes ten seconds
Ctrl-C unmounts and cleans up."""

_NAMES = """\
# The runs file of the demo.
101  Short/One sentence
102  Short/What cambfs is
103  Short/Why a file
104  Stories/The lighthouse keeper's log
105  Stories/The library at the end of the line
"""


def _duration_option(flag: str, default: str | None, text: str) -> Callable[[Command], Command]:
    return click.option(
        flag, type=Value("TIME", parse_duration), metavar="TIME", default=default, show_default=True, help=text
    )


def _size_option(flag: str, text: str) -> Callable[[Command], Command]:
    """Of at least one byte."""

    def parse(given: str) -> int:
        if (size := parse_size(given)) < 1:
            raise ValueError("0 is too little")
        return size

    return click.option(flag, type=Value("SIZE", parse), metavar="SIZE", help=text)


@click.command()
@click.argument("directory", metavar="[DIR]", type=DIRECTORY, default="camb", required=False)
@click.option(
    "--length",
    type=click.Choice(["chunked", "content-length", "close"]),
    default="chunked",
    show_default=True,
    help="How a response marks the end of the audio.",
)
@click.option(
    "--ranges/--no-ranges", default=False, show_default=True, help="Whether the API supports Range requests for audio."
)
@click.option(
    "--storage",
    type=click.Choice(["ranges", "no-ranges", "wav", "other", "unreachable"]),
    default="ranges",
    show_default=True,
    help="The object behind the signed URL: with or without Range support, a WAV, another FLAC, or unreachable.",
)
@_duration_option("--url-life", "1h", "How long a signed URL is valid.")
@click.option(
    "--redirect/--no-redirect", default=False, show_default=True, help="Whether the API redirects requests for audio."
)
@click.option(
    "--bulk",
    type=click.Choice(["objects", "strings", "fails", "absent"]),
    default="objects",
    show_default=True,
    help="How the API responds to a request for several URLs.",
)
@_duration_option("--latency", None, "Delay before each response: 300ms, 2s.")
@_size_option("--rate", "Bytes per second of each audio response.")
@with_settings(FOR_DEMO)
def demo(settings: Settings, directory: Path, url_life: float, latency: float | None, **behaviour: Any) -> None:
    """Try cambfs without a key, with a few spoken results.

    Starts an API on this machine and mounts its results at DIR (./camb). DIR is created if it is missing and removed at
    the end. Ctrl-C ends the mount and the API. The first options change how the API behaves. The defaults are believed
    to match the real API.
    """
    from cambfs.demo.profile import Profile
    from cambfs.system.signals import ending_on_signals, without_signals

    profile = Profile(url_life_s=url_life, latency_s=latency or 0.0, **behaviour)
    settings = settle_options(settings)
    with ExitStack() as stack:
        stack.enter_context(ending_on_signals())
        stack.enter_context(mountpoint.made(directory, keep=False))
        stack.enter_context(claimed(directory))
        cache_dir = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="cambfs-demo-")))
        server = _server(profile)
        with without_signals():
            stack.enter_context(server)
        settings = _settings_for(server, settings, cache_dir)
        declared = check(settings, directory)
        stay(settings, directory, declared, _hints(directory, server))


def _server(profile: Profile) -> Server:
    from cambfs.demo import TASK_ID, samples
    from cambfs.demo.server import Server
    from cambfs.demo.store import Task

    server = Server(samples(), profile)
    run_id = max(server.results) + 1
    server.tasks[TASK_ID] = Task("tts", run_id, server.results[101])
    return server


def _settings_for(server: Server, settings: Settings, cache_dir: Path) -> Settings:
    names_file = cache_dir / "names.txt"
    names_file.write_text(_NAMES)
    return replace(
        settings,
        base_url=server.base_url,
        key=ApiKey(server.key),
        cache_dir=cache_dir,
        runs=",".join(map(str, server.results)),
        runs_file=names_file,
    )


def _hints(directory: Path, server: Server) -> str:
    (task_id,) = server.tasks
    return _HINTS.format(directory=_shown(directory), count=len(server.results), task_id=task_id)


def _shown(directory: Path) -> Path:
    """The path as the user would type it."""
    return directory.relative_to(Path.cwd()) if directory.is_relative_to(Path.cwd()) else directory
