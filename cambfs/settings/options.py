"""The options that several commands have, and how they become `Settings`: profiles, the key, and settings that are
read again. `setting` has one of them. No threads.
"""

from __future__ import annotations

import copy
import functools
import re
from collections.abc import Callable
from dataclasses import fields
from typing import Any

import click
from click.core import ParameterSource

from cambfs.errors import ConfigError, SettingError
from cambfs.run_list import expand, parse_runs
from cambfs.settings import config
from cambfs.settings.config import FUSE_VERSIONS, LOG_LEVELS, URL_STYLES, ApiKey, Password, Settings
from cambfs.settings.setting import CHOSEN, STORED, PathValue, Setting, Start, Value, mistakes_in_settings, refuse
from cambfs.settings.values import parse_duration, parse_options, parse_size
from cambfs.system.private_files import KEY_VARIABLE, PASSWORD_VARIABLE
from cambfs.text import visible

_ARGUMENTS = "cambfs.arguments"
# Not settings: what the tests and scripts of this project look at.
_NO_SETTINGS = tuple(f"CAMBFS_{name}" for name in ("NO_SKIPS", "RELIABILITY", "HOSTILE", "EXPLORE", "BENCH_NAMESPACE"))


DIRECTORY = PathValue("DIR")
_FILE = PathValue("FILE")
_SIZE = Value("SIZE", parse_size)
_TIME = Value("TIME", parse_duration)


def _read_config(ctx: click.Context, _: click.Parameter, profile: str | None) -> str:
    """Runs before any other option is processed."""
    if ctx.resilient_parsing:  # the shell completes a command
        return ""
    if profile and not re.fullmatch(r"[A-Za-z0-9_-]{1,60}", profile):
        raise click.BadParameter("a profile's name has letters, digits, - and _ only")
    ctx.obj = ctx.obj or Start()
    file, stored = config.config_file(), {}
    try:
        if file is None and profile:
            raise SettingError("no home directory is known for config.toml, which has the profiles; set HOME")
        stored = {} if file is None else config.read_config(file, profile or "", _NAMES)
    except SettingError as error:
        refuse(ctx, "config", error)
    ctx.meta[STORED] = stored
    is_chosen = ctx.get_parameter_source("profile") is ParameterSource.COMMANDLINE
    chosen = {name for name, one in stored.items() if one.is_of_profile} if is_chosen else set()
    # A profile that names a key has no other, so the environment's key file counts no more than CAMB_API_KEY.
    ctx.meta[CHOSEN] = chosen | config.KEY_NAMES if chosen & config.KEY_NAMES else chosen
    ctx.default_map = {name: one.value for name, one in stored.items()}
    return profile or ""


def _runs(text: str) -> str:
    expand(parse_runs(text))
    return text.strip()


def _base_url(text: str) -> str:
    from cambfs.hosts.origins import base_origin

    base_origin(text.strip().rstrip("/"))
    return text.strip()


def _shared_cache(text: str) -> str:
    from cambfs.shared.address import parse

    if text.strip():  # "" in a profile turns it off
        parse(text.strip())
    return text.strip()


_PROFILE = Setting(
    "--profile",
    str,
    "Also use the table [profile.NAME] in config.toml. It overrides the top level.",
    metavar="NAME",
    is_eager=True,
    callback=_read_config,
)
_API = (
    Setting(
        "--api-key-file",
        _FILE,
        "File with the API key, readable only by its owner. The flag takes precedence over CAMB_API_KEY.",
    ),
    Setting(
        "--base-url", Value("URL", _base_url), "URL of the API.", default=Settings.base_url, envvar="CAMB_BASE_URL"
    ),
)
_CACHE_DIR = (Setting("--cache-dir", DIRECTORY, "Directory of the cache.", show_default="~/.cache/cambfs"),)
_CACHE = (
    Setting(
        "--cache-size",
        _SIZE,
        "Size limit of the cache: 5GiB, 500MB, 1.5G or bytes. The least recently used results go first.",
        show_default="5GiB, in memory 512MiB",
    ),
    Setting("--no-disk-cache", None, "Keep results in memory instead, for the life of the process."),
)
_SHARED = (
    Setting(
        "--shared-cache",
        Value("URL", _shared_cache),
        "Valkey or Redis server that several machines share, for example valkey://farm:6379/0.",
    ),
    Setting(
        "--shared-cache-password-file",
        _FILE,
        "File with its password, readable only by its owner. The flag takes precedence over "
        "CAMBFS_SHARED_CACHE_PASSWORD.",
    ),
    Setting("--shared-max-result", _SIZE, "Share no results that are larger than this.", default="64MiB"),
)
_TRANSFER = (
    Setting(
        "--max-transfers",
        click.IntRange(1, 1024),
        "Number of results to download at the same time.",
        default=64,
        metavar="N",
    ),
    Setting("--max-result-size", _SIZE, "Refuse results larger than this.", default="4GiB"),
    Setting("--timeout", _TIME, "Time without progress before an operation fails: 30, 30s, 2m.", default="30s"),
    Setting("--task-wait", _TIME, "Longest wait for a pending task.", default="5m"),
)
_READ_AHEAD = (
    Setting(
        "--read-ahead",
        click.IntRange(0, 64),
        "Number of results to download ahead, at most 64 MiB, while results are opened in listing order. 0: none.",
        default=Settings.read_ahead,
        metavar="N",
    ),
)
_LISTED = (
    Setting("--runs", Value("RUNS", _runs), "Runs to list, for example 1-100,205. Other runs open, too."),
    Setting(
        "--runs-file",
        _FILE,
        "File of runs to list, one run or range per line, perhaps with a name: 1477 Book/01 The harbour. Names appear "
        "in DIR/by-name. Changes take effect while mounted.",
    ),
)
_VIEW = (
    Setting("--url-style", click.Choice(URL_STYLES, case_sensitive=False), "Format of .url files.", default="json"),
    Setting("--no-url-files", None, "Show no .url files. They hold URLs that work without a key."),
    Setting("--wav", None, "List a .wav beside each .flac. A .wav always opens, listed or not."),
    Setting("--allow-other", None, "Let other users read the files."),
    Setting(
        "-o/options",
        Value("OPT,...", parse_options),
        "Mount options, such as max_read=65536. The mount is always read-only.",
        multiple=True,
    ),
    Setting("--fuse", click.Choice(FUSE_VERSIONS), "Version of libfuse: 2 if it is there, else 3.", default="auto"),
)
_LOG = (
    Setting("--log-level", click.Choice(LOG_LEVELS, case_sensitive=False), "How much is logged.", default="info"),
    Setting(
        "--log-file",
        _FILE,
        "Log file. Without it, cambfs logs to standard error in the foreground, else in ~/.local/state/cambfs.",
    ),
)


def _hidden(setting: Setting) -> Setting:
    """For a command that checks the setting, but has little use for it on its own command line."""
    hidden = copy.copy(setting)
    hidden.hidden = True
    return hidden


FOR_MOUNT = (*_API, *_CACHE_DIR, *_CACHE, *_SHARED, *_TRANSFER, *_READ_AHEAD, *_LISTED, *_VIEW, *_LOG, _PROFILE)
FOR_DEMO = (*_CACHE, *_TRANSFER, *_READ_AHEAD, *_VIEW, *_LOG, _PROFILE)
FOR_FETCH = (*_API, *_CACHE_DIR, *_CACHE, *_SHARED, *_TRANSFER, *_LOG, _PROFILE)
FOR_WAIT = (*_API, *_LOG, _PROFILE)
FOR_CACHE = (*_CACHE_DIR, _PROFILE)
FOR_DOCTOR = (
    *_API,
    *_CACHE_DIR,
    *_CACHE,
    *_SHARED,
    _PROFILE,
    *map(_hidden, (*_TRANSFER, *_READ_AHEAD, *_LISTED, *_VIEW, *_LOG)),
)

SETTINGS: dict[str, Setting] = {setting.name or "": setting for setting in FOR_MOUNT}
_NAMES = SETTINGS.keys() - {"profile"}


def with_settings(options: tuple[Setting, ...]) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Gives a command these options, and passes the resulting `Settings` as its first argument."""
    names = {option.name for option in options}

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(command)
        def called(**given: Any) -> Any:
            ctx = click.get_current_context()
            if mistakes_in_settings(ctx) is None:  # unless the command reports them itself
                for line in config.unknown_variables(known_variables()):
                    click.echo(f"cambfs: warning: {visible(line)}", err=True)
            rest = {name: value for name, value in given.items() if name not in names}
            return command(settings_of(ctx), **rest)

        called.__dict__.setdefault("__click_params__", []).extend(reversed(options))
        return called

    return decorate


def known_variables() -> set[str]:
    """The names in the environment that cambfs looks at."""
    return {*(str(setting.envvar) for setting in SETTINGS.values()), KEY_VARIABLE, PASSWORD_VARIABLE, *_NO_SETTINGS}


def settings_of(ctx: click.Context) -> Settings:
    """The settings of a command that was parsed. Raises SettingError naming the place."""
    given = {name: ctx.params.get(name) for name in (one.name for one in fields(Settings))}
    values: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    if "options" in values:
        values["options"] = tuple(option for some in values["options"] for option in some)
    try:
        if values.get("no_disk_cache"):
            values.setdefault("cache_size", config.DEFAULT_MEMORY_BYTES)
        elif "cache_dir" in ctx.params and "cache_dir" not in values:
            values["cache_dir"] = config.cache_directory()
    except ConfigError as error:
        refuse(ctx, "cache_dir", error)
    try:
        values["key"] = _key(ctx) if "api_key_file" in ctx.params else None
    except ConfigError as error:
        refuse(ctx, "key", error)
    try:
        values["shared_cache_password"] = _password(ctx) if values.get("shared_cache") else None
    except ConfigError as error:
        refuse(ctx, "shared_cache_password", error)
    return Settings(**values)


def _key(ctx: click.Context) -> ApiKey | None:
    """From the file on the command line, else from the profile on the command line, else from the environment, else
    from the configuration."""
    file, source = ctx.params["api_key_file"], ctx.get_parameter_source("api_key_file")
    in_environment, stored = ctx.obj.key, ctx.meta[STORED].get("api_key")
    is_chosen = "api_key" in ctx.meta[CHOSEN]
    if in_environment.strip() and source is not ParameterSource.COMMANDLINE and not is_chosen:
        return config.checked_key(KEY_VARIABLE, in_environment)
    if stored is not None and stored.value.strip() and source not in _EXPLICIT:
        return config.checked_key(stored.place, stored.value)
    return None if file is None else config.read_key_file(file)


def _password(ctx: click.Context) -> Password | None:
    """In the same order as the key, without the configuration, which holds no password."""
    name = "shared_cache_password_file"
    is_chosen = name in ctx.meta[CHOSEN] or ctx.get_parameter_source(name) is ParameterSource.COMMANDLINE
    if ctx.obj.password.strip() and not is_chosen:
        return config.checked_password(PASSWORD_VARIABLE, ctx.obj.password)
    file = ctx.params[name]
    return None if file is None else config.read_password_file(file)


_EXPLICIT = (ParameterSource.COMMANDLINE, ParameterSource.ENVIRONMENT)


class RereadableCommand(click.Command):
    """A command whose settings can be read again while it works."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        ctx.meta[_ARGUMENTS] = list(args)
        return super().parse_args(ctx, args)


def rereading(ctx: click.Context) -> Callable[[], Settings]:
    """Returns a function that reads the settings of a RereadableCommand as at its start, with the files as they are
    then. It raises SettingError."""
    start, arguments = ctx.obj, ctx.meta[_ARGUMENTS]
    return lambda: settings_of(ctx.command.make_context(ctx.info_name, list(arguments), obj=start))
