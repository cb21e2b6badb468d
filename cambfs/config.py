"""The settings: what each may be, and where its value comes from.

In this order: the command line, the environment (`CAMBFS_…`), `config.toml` in the user's configuration directory, the
default. The API key never comes from the command line. The command line itself is in `cli`; no file is opened here but
the configuration and the key file. No threads.
"""

from __future__ import annotations

import difflib
import os
import re
import tomllib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import platformdirs

from cambfs.errors import ConfigError
from cambfs.system import user_files
from cambfs.values import (
    parse_bool,
    parse_choice,
    parse_count,
    parse_duration,
    parse_options,
    parse_path,
    parse_size,
    quoted,
)

DEFAULT_BASE_URL = "https://client.camb.ai/apis"
DEFAULT_DISK_BYTES = 5 * 2**30
DEFAULT_MEMORY_BYTES = 512 * 2**20
LOG_LEVELS = ("debug", "info", "warning", "error")
URL_STYLES = ("json", "plain", "shortcut")

# Far more than any key, or any settings; a larger file is some other file.
_MAX_KEY_BYTES, _MAX_CONFIG_BYTES = 4096, 65_536
_LONGEST_NAME = 60


class ApiKey:
    """The key, in a wrapping that never shows it by accident: `reveal()` is the only way to the text. `place` is where
    it was found: a variable, a file, or a name in config.toml."""

    __slots__ = ("_text", "place")

    def __init__(self, text: str, place: str = "") -> None:
        self._text = text
        self.place = place

    def reveal(self) -> str:
        return self._text

    def __repr__(self) -> str:
        return "ApiKey(***)"

    __str__ = __repr__


@dataclass(frozen=True)
class Settings:
    """What one command works with. `key` is None when there is none; paths are absolute; sizes are in bytes."""

    base_url: str
    key: ApiKey | None
    cache_dir: Path
    cache_size: int
    no_disk_cache: bool
    max_transfers: int
    max_result_size: int
    timeout: float
    runs: str
    runs_file: Path | None
    url_style: str
    no_url_files: bool
    allow_other: bool
    options: tuple[str, ...]
    log_level: str
    log_file: Path | None


@dataclass(frozen=True)
class Setting:
    """One setting other than the key. `types` are what its value in config.toml may be; `variable` is its name in the
    environment; `parse` raises ValueError with a sentence."""

    name: str
    parse: Callable[[str], Any]
    default: Callable[[], Any]
    types: tuple[type, ...] = (str,)
    variable: str = ""

    def in_environment(self) -> str:
        return self.variable or f"CAMBFS_{self.name.upper()}"


SETTINGS = {
    setting.name: setting
    for setting in (
        Setting("base_url", str.strip, lambda: DEFAULT_BASE_URL, variable="CAMB_BASE_URL"),
        Setting("cache_dir", parse_path, lambda: _of_user(platformdirs.user_cache_dir)),
        Setting("cache_size", parse_size, lambda: None, (str, int)),
        Setting("no_disk_cache", parse_bool, lambda: False, (bool,)),
        Setting("max_transfers", parse_count, lambda: 64, (int,)),
        Setting("max_result_size", parse_size, lambda: 4 * 2**30, (str, int)),
        Setting("timeout", parse_duration, lambda: 30.0, (str, int, float)),
        Setting("runs", str.strip, lambda: "", (str, int)),
        Setting("runs_file", parse_path, lambda: None),
        Setting("url_style", partial(parse_choice, URL_STYLES), lambda: "json"),
        Setting("no_url_files", parse_bool, lambda: False, (bool,)),
        Setting("allow_other", parse_bool, lambda: False, (bool,)),
        Setting("options", parse_options, lambda: ()),
        Setting("log_level", partial(parse_choice, LOG_LEVELS), lambda: "info"),
        Setting("log_file", parse_path, lambda: None),
    )
}


_KEY_FILE_VARIABLE = "CAMBFS_API_KEY_FILE"
# Not settings: what the tests and scripts of this project look at.
_NO_SETTINGS = ("CAMBFS_NO_SKIPS", "CAMBFS_RELIABILITY", "CAMBFS_BENCH_NAMESPACE")


def _of_user(directory_of: Callable[[str], str]) -> Path | None:
    """One of the user's directories for cambfs; None where it is not known, for want of a home."""
    try:
        return Path(directory_of("cambfs")).absolute()
    except RuntimeError:
        return None


def config_file() -> Path | None:
    """None when the user has no home directory."""
    directory = _of_user(platformdirs.user_config_dir)
    return None if directory is None else directory / "config.toml"


def unknown_variables(environ: Mapping[str, str] | None = None) -> list[str]:
    """A line for each variable of the environment that has a name like a setting's, and is none."""
    environ = os.environ if environ is None else environ
    known = {*(setting.in_environment() for setting in SETTINGS.values()), _KEY_FILE_VARIABLE, "CAMB_API_KEY"}
    unknown = (name for name in sorted(environ) if name.startswith("CAMBFS_") and name not in (*known, *_NO_SETTINGS))
    return [f"{name} in the environment is not a setting{_did_you_mean(name, known)}" for name in unknown]


def _did_you_mean(name: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(name[:_LONGEST_NAME], sorted(known), n=1, cutoff=0.75)
    return f"; did you mean {close[0]}?" if close else ""


def load(
    flags: Mapping[str, Any] | None = None,
    environ: Mapping[str, str] | None = None,
    file: Path | None = None,
    *,
    with_key: bool = True,
) -> Settings:
    """The settings in force. `flags` are parsed values from the command line by name, None where not given, and
    `api_key_file` may be among them. Without `with_key` the key is not looked for. Raises ConfigError naming the place
    and the setting."""
    flags = {} if flags is None else flags
    environ = os.environ if environ is None else environ
    file = config_file() if file is None else file
    stored = {} if file is None else _read_config(file)
    values = {name: _value(setting, flags, environ, file, stored) for name, setting in SETTINGS.items()}
    if values["cache_size"] is None:
        values["cache_size"] = DEFAULT_MEMORY_BYTES if values["no_disk_cache"] else DEFAULT_DISK_BYTES
    if values["cache_dir"] is None:
        if "cache_dir" in flags and not values["no_disk_cache"]:
            raise ConfigError(
                "no home directory is known for the cache; name a directory with --cache-dir, or set HOME"
            )
        values["cache_dir"] = Path(os.devnull)  # nobody looks there, and nobody could
    return Settings(key=_find_key(flags, environ, file, stored) if with_key else None, **values)


def _value(
    setting: Setting, flags: Mapping[str, Any], environ: Mapping[str, str], file: Path | None, stored: Mapping[str, Any]
) -> Any:
    flag = flags.get(setting.name)
    if flag is not None:
        return flag
    if environ.get(setting.in_environment()):
        return _parsed(setting.parse, setting.in_environment(), environ[setting.in_environment()])
    if file is not None and setting.name in stored:
        return _parsed(_in_file(setting.parse, file), f"{file}: {setting.name}", stored[setting.name])
    return setting.default()


def _in_file(parse: Callable[[str], Any], file: Path) -> Callable[[str], Any]:
    """A relative path in the configuration begins where the configuration is: it is read from anywhere."""
    if parse is not parse_path:
        return parse
    return lambda text: parse_path(text if text.startswith("~") or not text.strip() else str(file.parent / text))


def _parsed(parse: Callable[[str], Any], place: str, value: object) -> Any:
    try:
        return parse(str(value))  # of a number of thousands of digits, no text can be made
    except ValueError as error:
        raise ConfigError(f"{place}: {error}") from None


def _read_config(file: Path) -> Mapping[str, Any]:
    """What the file says, all of known name and type; nothing where there is no file. It says where the key goes, so
    nobody else may write there."""
    try:
        content, status = user_files.read(file, _MAX_CONFIG_BYTES)
        user_files.check_nobody_else_writes(file, status)
        stored = _parse_toml(content)
        if "api_key" in stored:
            user_files.check_nobody_else_reads(file, status)
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (OSError, ValueError) as error:
        raise ConfigError(f"{file}: {_reason(error)}") from None
    for name, value in stored.items():
        _check_type(file, name, value)
    return stored


def _parse_toml(content: bytes) -> Mapping[str, Any]:
    """Raises ValueError in one line, whatever the content."""
    try:
        return tomllib.loads(content.decode())
    except (ValueError, RecursionError) as error:
        raise ValueError(f"not TOML: {_in_one_line(error)}") from None


def _check_type(file: Path, name: str, value: object) -> None:
    known: dict[str, tuple[type, ...]] = {name: setting.types for name, setting in SETTINGS.items()}
    known |= {"api_key": (str,), "api_key_file": (str,)}
    if name not in known:
        hint = _did_you_mean(name, known) or f"; there are {', '.join(sorted(known))}"
        raise ConfigError(f"{file}: {quoted(name)} is not a setting{hint}")
    # `type`, not isinstance: True is an int to Python and a mistake here.
    if type(value) not in known[name]:
        wanted = " or ".join({str: "a string", int: "a number", bool: "true or false"}.get(t, "") for t in known[name])
        raise ConfigError(f"{file}: {name}: must be {wanted.removesuffix(' or ')}")


def _find_key(
    flags: Mapping[str, Any], environ: Mapping[str, str], file: Path | None, stored: Mapping[str, Any]
) -> ApiKey | None:
    if flags.get("api_key_file") is not None:
        return read_key_file(flags["api_key_file"])
    if environ.get("CAMB_API_KEY", "").strip():
        return _checked_key("CAMB_API_KEY", environ["CAMB_API_KEY"])
    if environ.get(_KEY_FILE_VARIABLE):
        return read_key_file(_parsed(parse_path, _KEY_FILE_VARIABLE, environ[_KEY_FILE_VARIABLE]))
    if stored.get("api_key", "").strip():
        return _checked_key(f"{file}: api_key", stored["api_key"])
    if file is not None and stored.get("api_key_file"):
        return read_key_file(_parsed(_in_file(parse_path, file), f"{file}: api_key_file", stored["api_key_file"]))
    return None


def read_key_file(path: Path) -> ApiKey:
    """The key in a file that only its owner can read, and nobody else can swap. Raises ConfigError."""
    try:
        content, status = user_files.read(path, _MAX_KEY_BYTES)
        user_files.check_nobody_else_reads(path, status)
        user_files.check_nobody_else_writes(path, status)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}; it should hold the API key") from None
    except ValueError as error:
        raise ConfigError(f"{path}: {error}; it should hold the API key and nothing else") from None
    if not content.strip():
        raise ConfigError(f"{path}: is empty; it should hold the API key")
    return _checked_key(str(path), content.decode("ascii", "replace"))


def _checked_key(place: str, text: str) -> ApiKey:
    key = text.strip()
    if not re.fullmatch(r"[!-~]+", key):
        raise ConfigError(f"{place}: the key has spaces, control or non-ASCII characters in it; copy it again")
    return ApiKey(key, place)


def _reason(error: OSError | ValueError) -> str:
    return (error.strerror or str(error)) if isinstance(error, OSError) else str(error)


def _in_one_line(error: Exception) -> str:
    return " ".join(str(error).split())
