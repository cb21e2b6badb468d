"""The options that several commands have, and how they become `Settings`.

What a value may be is said by `values`, here it is only called by click. No threads.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click
from click.shell_completion import CompletionItem

from cambfs.config import LOG_LEVELS, SETTINGS, URL_STYLES, Settings, load, unknown_variables
from cambfs.text import visible
from cambfs.values import parse_duration, parse_path, parse_size

if TYPE_CHECKING:
    _ParamType = click.ParamType[Any]
else:
    _ParamType = click.ParamType  # generic in new versions only

Command = TypeVar("Command", bound=Callable[..., Any])


class _Value(_ParamType):
    """A value that `parse` takes; what it refuses is a usage error."""

    def __init__(self, name: str, parse: Callable[[str], Any]) -> None:
        self.name = name
        self._parse = parse

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        try:
            return self._parse(value) if isinstance(value, str) else value
        except ValueError as error:
            self.fail(str(error), param, ctx)

    def shell_complete(self, _ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        if self.name in ("DIR", "FILE"):
            return [CompletionItem(incomplete, type=self.name.lower())]
        choices = self._parse.args[0] if isinstance(self._parse, functools.partial) else ()
        return [CompletionItem(choice) for choice in choices if choice.startswith(incomplete)]


DIRECTORY = _Value("DIR", parse_path)


def _setting(flag: str, metavar: str, text: str) -> Callable[[Command], Command]:
    setting = SETTINGS[flag.removeprefix("--").replace("-", "_")]
    return click.option(
        flag, type=_Value(metavar, setting.parse), metavar=metavar, help=f"{text}  [{setting.in_environment()}]"
    )


def _switch(flag: str, text: str) -> Callable[[Command], Command]:
    setting = SETTINGS[flag.removeprefix("--").replace("-", "_")]
    # None, not False, where it is not given: then the environment and the file have their say.
    return click.option(flag, is_flag=True, default=None, help=f"{text}  [{setting.in_environment()}]")


_API = (
    click.option(
        "--api-key-file",
        type=_Value("FILE", parse_path),
        metavar="FILE",
        help="File with the API key, readable only by its owner. The flag takes precedence over CAMB_API_KEY."
        "  [CAMBFS_API_KEY_FILE]",
    ),
    _setting("--base-url", "URL", "URL of the API (https://client.camb.ai/apis)."),
)
_CACHE_DIR = (_setting("--cache-dir", "DIR", "Directory of the cache (~/.cache/cambfs)."),)
_CACHE = (
    _setting(
        "--cache-size",
        "SIZE",
        "Size limit of the cache: 5GiB, 500MB, 1.5G or bytes. The least recently used results go first (5GiB).",
    ),
    _switch("--no-disk-cache", "Keep results in memory instead (512MiB), for the life of the process."),
)
_TRANSFER = (
    _setting("--max-transfers", "N", "Number of results to download at the same time (64)."),
    _setting("--max-result-size", "SIZE", "Refuse results larger than this (4GiB)."),
    _setting("--timeout", "TIME", "Time without progress before an operation fails: 30, 30s, 2m (30s)."),
)
_LISTED = (
    _setting("--runs", "RUNS", "Runs to list, for example 1-100,205. Other runs open, too."),
    _setting(
        "--runs-file", "FILE", "File of runs to list, one run or range a line. Changes take effect while mounted."
    ),
)
_VIEW = (
    _setting("--url-style", "STYLE", f"Format of .url files: {', '.join(URL_STYLES)} (json)."),
    _switch("--no-url-files", "Show no .url files. They hold URLs that work without a key."),
    _switch("--allow-other", "Let other users read the files."),
    click.option(
        "-o",
        "options",
        metavar="OPT,...",
        multiple=True,
        help="Mount options, such as max_read=65536. The mount is always read-only.  [CAMBFS_OPTIONS]",
    ),
)
_LOG = (
    _setting("--log-level", "LEVEL", f"{', '.join(LOG_LEVELS)} (info)."),
    _setting(
        "--log-file",
        "FILE",
        "Log file. Without it, cambfs logs to standard error in the foreground, else in ~/.local/state/cambfs.",
    ),
)

FOR_MOUNT = (*_API, *_CACHE_DIR, *_CACHE, *_TRANSFER, *_LISTED, *_VIEW, *_LOG)
FOR_DEMO = (*_CACHE, *_TRANSFER, *_VIEW, *_LOG)
FOR_FETCH = (*_API, *_CACHE_DIR, *_CACHE, *_TRANSFER, *_LOG)
FOR_CACHE = _CACHE_DIR
FOR_DOCTOR = (*_API, *_CACHE_DIR, *_CACHE)


def with_settings(options: tuple[Callable[[Any], Any], ...]) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Gives a command these options, and hands it the `Settings` they come to as its first argument."""

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(command)
        def called(**given: Any) -> Any:
            flags = {name: given.pop(name) for name in (*SETTINGS, "api_key_file") if name in given}
            return command(_load(flags, with_key="api_key_file" in flags), **given)

        for option in reversed(options):
            called = option(called)
        return called

    return decorate


def with_flags(options: tuple[Callable[[Any], Any], ...]) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """As `with_settings`, but hands the command what was given, as `config.load` takes it: it looks itself at what is
    wrong with the settings."""

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(command)
        def called(**given: Any) -> Any:
            return command({name: given.pop(name) for name in (*SETTINGS, "api_key_file") if name in given}, **given)

        for option in reversed(options):
            called = option(called)
        return called

    return decorate


def _load(flags: dict[str, Any], *, with_key: bool) -> Settings:
    for line in unknown_variables():
        click.echo(f"cambfs: warning: {visible(line)}", err=True)
    if "options" in flags:
        flags["options"] = SETTINGS["options"].parse(",".join(flags["options"])) or None
    return load(flags, with_key=with_key)


def duration_option(flag: str, default: str | None, text: str) -> Callable[[Command], Command]:
    kind = _Value("TIME", parse_duration)
    return click.option(flag, type=kind, metavar="TIME", default=default, show_default=True, help=text)


def size_option(flag: str, text: str) -> Callable[[Command], Command]:
    """Of at least one byte."""

    def parse(given: str) -> int:
        if (size := parse_size(given)) < 1:
            raise ValueError("0 is too little")
        return size

    return click.option(flag, type=_Value("SIZE", parse), metavar="SIZE", help=text)
