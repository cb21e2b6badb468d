"""The settings, the file `config.toml`, and the places of the API key.

A setting comes from the command line, the environment (`CAMBFS_…`), `config.toml` or its default, in this order; click
does that in `options`. This module opens only the configuration and the key file. The API key never comes from the
command line. No threads.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import platformdirs

from cambfs.errors import ConfigError, SettingError
from cambfs.settings.values import did_you_mean
from cambfs.system import user_files
from cambfs.system.private_files import KEY_VARIABLE
from cambfs.text import quoted

DEFAULT_DISK_BYTES = 5 * 2**30
DEFAULT_MEMORY_BYTES = 512 * 2**20
DEFAULT_SHARED_RESULT_BYTES = 64 * 2**20
LOG_LEVELS = ("debug", "info", "warning", "error")
URL_STYLES = ("json", "plain", "shortcut")
FUSE_VERSIONS = ("auto", "2", "3")
# The settings that say what the key is.
KEY_NAMES = frozenset({"api_key", "api_key_file"})

# Far more than any key, or any settings; a larger file is some other file.
_MAX_KEY_BYTES, _MAX_CONFIG_BYTES = 4096, 65_536


class Secret:
    """A key or a password, in a wrapper that never shows it by accident: only `reveal()` returns the text. `place` is
    its source: a variable, a file, or a name in config.toml."""

    __slots__ = ("_text", "place")

    def __init__(self, text: str, place: str = "") -> None:
        self._text = text
        self.place = place

    def reveal(self) -> str:
        return self._text

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and self._text == other._text

    def __hash__(self) -> int:
        return hash(self._text)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(***)"

    __str__ = __repr__


class ApiKey(Secret):
    __slots__ = ()


class Password(Secret):
    """That of the shared cache."""

    __slots__ = ()


@dataclass(frozen=True)
class Settings:
    """The settings of one command. `key` is None when there is none; paths are absolute; sizes are in bytes, times in
    seconds. `shared_cache` is a URL, "" without one. A setting that the command does not have keeps its default."""

    base_url: str = "https://client.camb.ai/apis"
    key: ApiKey | None = None
    cache_dir: Path = Path(os.devnull)  # never used, and not a directory
    cache_size: int = DEFAULT_DISK_BYTES
    no_disk_cache: bool = False
    shared_cache: str = ""
    shared_cache_password: Password | None = None
    shared_max_result: int = DEFAULT_SHARED_RESULT_BYTES
    max_transfers: int = 64
    max_result_size: int = 4 * 2**30
    read_ahead: int = 4
    timeout: float = 30.0
    task_wait: float = 300.0
    runs: str = ""
    runs_file: Path | None = None
    url_style: str = "json"
    no_url_files: bool = False
    wav: bool = False
    allow_other: bool = False
    options: tuple[str, ...] = ()
    fuse: str = "auto"
    log_level: str = "info"
    log_file: Path | None = None
    profile: str = ""


class Stored(NamedTuple):
    """A value of the configuration, as it would be written on a command line. `place` names its place in errors."""

    value: str
    place: str
    is_of_profile: bool = False


def cache_directory() -> Path:
    """The cache's usual directory. Raises ConfigError when the user has no home directory."""
    directory = _of_user(platformdirs.user_cache_dir)
    if directory is None:
        raise ConfigError("no home directory is known for the cache; name a directory with --cache-dir, or set HOME")
    return directory


def config_file() -> Path | None:
    """None when the user has no home directory."""
    directory = _of_user(platformdirs.user_config_dir)
    return None if directory is None else directory / "config.toml"


def _of_user(directory_of: Callable[[str], str]) -> Path | None:
    """One of the user's directories for cambfs; None without a home directory."""
    try:
        return Path(directory_of("cambfs")).absolute()
    except RuntimeError:
        return None


def read_config(file: Path, profile: str, known: Collection[str]) -> dict[str, Stored]:
    """The values in the file, by name: its top level, then the table [profile.NAME], which overrides it. Without a
    profile a missing file has no values.

    `known` are the names of settings beside those of the key. The file decides where the key goes, so one that others
    can change is refused. Raises SettingError naming the place.
    """
    try:
        content, status = user_files.read(file, _MAX_CONFIG_BYTES)
        user_files.check_nobody_else_writes(file, status)
        top = _parse_toml(content)
        profiles = _profiles(top.pop("profile", {}))
        if any("api_key" in table for table in (top, *profiles.values())):
            user_files.check_nobody_else_reads(file, status, "the API key")
    except (FileNotFoundError, NotADirectoryError):
        top, profiles = {}, {}
    except OSError as error:
        raise SettingError(f"{file}: {error.strerror}; let this user read it") from None
    except ValueError as error:
        raise SettingError(f"{file}: {error}") from None
    stored = _stored(f"{file}: ", top, known)
    if profile:
        if profile not in profiles:
            hint = did_you_mean(profile, profiles)
            raise SettingError(f"{file}: there is no table [profile.{profile}]{hint}")
        chosen = _stored(f"{file}: profile.{profile}.", profiles[profile], known)
        if KEY_NAMES & chosen.keys():  # a profile that names a key has no other
            stored = {name: value for name, value in stored.items() if name not in KEY_NAMES}
        stored |= {name: one._replace(is_of_profile=True) for name, one in chosen.items()}
    return stored


def _parse_toml(content: bytes) -> dict[str, Any]:
    """Raises ValueError in one line, whatever the content."""
    try:
        return tomllib.loads(content.decode())
    except (ValueError, RecursionError) as error:
        # The usual mistake; what the parser says about it does not help.
        hint = '; words, paths and sizes need quotes, as in cache_size = "20GiB"'
        is_syntax = isinstance(error, tomllib.TOMLDecodeError)
        raise ValueError(f"not TOML: {' '.join(str(error).split())}{hint if is_syntax else ''}") from None


def _profiles(tables: Any) -> Mapping[str, Mapping[str, Any]]:
    if not isinstance(tables, dict) or not all(isinstance(table, dict) for table in tables.values()):
        raise ValueError("profile: must be tables; write for example [profile.work]")
    return tables


def _stored(place: str, table: Mapping[str, Any], known: Collection[str]) -> dict[str, Stored]:
    return {name: Stored(_plain(place, name, value, known), f"{place}{name}") for name, value in table.items()}


def _plain(place: str, name: str, value: object, known: Collection[str]) -> str:
    names = {*known, *KEY_NAMES}
    if name not in names:
        hint = did_you_mean(name, names) or f"; there are {', '.join(sorted(names))}"
        raise SettingError(f"{place}{quoted(name)} is not a setting{hint}")
    if not isinstance(value, str | bool | int | float):
        raise SettingError(f"{place}{name}: must be a string, a number, true or false")
    try:
        return str(value).lower() if isinstance(value, bool) else str(value)
    except ValueError as error:  # a number of thousands of digits
        raise SettingError(f"{place}{name}: {error}") from None


def unknown_variables(known: Collection[str]) -> list[str]:
    """A line for each variable of the environment that is named like a setting, and is none."""
    unknown = (name for name in sorted(os.environ) if name.startswith("CAMBFS_") and name not in known)
    hints = {*known, KEY_VARIABLE}
    return [f"{name} in the environment is not a setting{did_you_mean(name, hints)}" for name in unknown]


def read_key_file(path: Path) -> ApiKey:
    """The key in a file that only its owner can read, and others cannot replace. Raises SettingError."""
    return checked_key(str(path), _read_secret(path, "the API key").decode("ascii", "replace"))


def read_password_file(path: Path) -> Password:
    """As `read_key_file`."""
    return checked_password(str(path), _read_secret(path, "the password").decode("utf-8", "surrogateescape"))


def _read_secret(path: Path, what: str) -> bytes:
    try:
        content, status = user_files.read(path, _MAX_KEY_BYTES)
        user_files.check_nobody_else_reads(path, status, what)
        user_files.check_nobody_else_writes(path, status)
    except OSError as error:
        raise SettingError(f"{path}: {error.strerror}; it should hold {what}") from None
    except ValueError as error:
        raise SettingError(f"{path}: {error}; it should hold {what} and nothing else") from None
    if not content.strip():
        raise SettingError(f"{path}: is empty; it should hold {what}")
    return content


def checked_key(place: str, text: str) -> ApiKey:
    """Raises SettingError, which names the place and does not show the text."""
    key = text.strip()
    if not re.fullmatch(r"[!-~]+", key):
        raise SettingError(f"{place}: the key has spaces, control or non-ASCII characters in it; copy it again")
    return ApiKey(key, place)


def checked_password(place: str, text: str) -> Password:
    """As `checked_key`. A password may have spaces in it."""
    password = text.strip("\r\n")
    if not password.isprintable():
        raise SettingError(f"{place}: the password has control characters or a second line in it; write it again")
    return Password(password, place)
