"""The settings: what each may be, and where its value comes from.

In this order: the command line, the environment (`CAMBFS_…`), `config.toml` in the user's configuration directory, the
default. The API key never comes from the command line. Not the command line itself (`cli`), and nothing is opened here
but the configuration and the key file. No threads.
"""

from __future__ import annotations

import os
import re
import stat
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

import platformdirs

from cambfs.errors import ConfigError

DEFAULT_BASE_URL = "https://client.camb.ai/apis"
DEFAULT_DISK_BYTES = 5 * 2**30
DEFAULT_MEMORY_BYTES = 512 * 2**20
LOG_LEVELS = ("debug", "info", "warning", "error")
URL_STYLES = ("json", "plain", "shortcut")

_MAX_KEY_BYTES = 4096  # far more than any key; a larger file is some other file
_MAX_SIZE_BYTES = 2**63 - 1
_MAX_TIMEOUT_S = 86_400.0
_SIZE = re.compile(r"([0-9]{1,19}(?:\.[0-9]{1,9})?) ?(?:([KMGTP])(I?B)?|B)?", re.ASCII | re.IGNORECASE)
_DURATION = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,9})?) ?(s|m|h)?", re.ASCII)
_SECONDS = {None: 1, "s": 1, "m": 60, "h": 3600}
_YES = ("1", "true", "yes", "on")
_NO = ("0", "false", "no", "off", "")


class ApiKey:
    """The key, in a wrapping that never shows it by accident: `reveal()` is the only way to the text."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

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
    allow_other: bool
    options: tuple[str, ...]
    log_level: str
    log_file: Path | None


def parse_size(text: str) -> int:
    """Bytes: `500MB` is decimal, `5GiB` and `5G` are binary, `4096` is itself. Raises ValueError with a sentence."""
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"{text!r} is not a size; write for example 5GiB, 500MB, 1.5G or a number of bytes")
    number, letter, unit = match.groups()
    base = 1000 if (unit or "").upper() == "B" else 1024
    size = int(Decimal(number) * base ** (" KMGTP".index(letter.upper()) if letter else 0))
    if size > _MAX_SIZE_BYTES:
        raise ValueError(f"{text!r} is more than any disk holds")
    return size


def parse_duration(text: str) -> float:
    """Seconds, more than none and at most a day: `30`, `30s`, `2m`. Raises ValueError with a sentence."""
    match = _DURATION.fullmatch(text.strip())
    seconds = float(match[1]) * _SECONDS[match[2]] if match else 0.0
    if not 0 < seconds <= _MAX_TIMEOUT_S:
        raise ValueError(f"{text!r} is not a time between 0 and a day; write for example 30, 30s or 2m")
    return seconds


def parse_count(text: str) -> int:
    """A number of transfers, 1 … 1024. Raises ValueError with a sentence."""
    if not re.fullmatch(r"[0-9]{1,4}", text.strip(), re.ASCII) or not 1 <= int(text) <= 1024:
        raise ValueError(f"{text!r} is not a number from 1 to 1024")
    return int(text)


def parse_choice(choices: tuple[str, ...], text: str) -> str:
    """One of `choices`, in any case. Raises ValueError with a sentence."""
    if text.strip().lower() not in choices:
        raise ValueError(f"{text!r} is none of {', '.join(choices)}")
    return text.strip().lower()


def parse_bool(text: str) -> bool:
    """Raises ValueError with a sentence."""
    if text.strip().lower() not in _YES + _NO:
        raise ValueError(f"{text!r} is neither yes nor no; write 1 or 0")
    return text.strip().lower() in _YES


def parse_path(text: str) -> Path:
    """An absolute path; `~` is the home directory. Raises ValueError when empty, or of an unknown user's home."""
    if not text.strip() or "\0" in text:
        raise ValueError(f"{text!r} is not a path")
    try:
        return Path(text).expanduser().absolute()
    except RuntimeError:
        raise ValueError(f"{text!r} is in a home directory that nobody has") from None


def parse_options(text: str) -> tuple[str, ...]:
    return tuple(option for option in (part.strip() for part in text.split(",")) if option)


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
        Setting("cache_dir", parse_path, lambda: Path(platformdirs.user_cache_dir("cambfs")).absolute()),
        Setting("cache_size", parse_size, lambda: None, (str, int)),
        Setting("no_disk_cache", parse_bool, lambda: False, (bool,)),
        Setting("max_transfers", parse_count, lambda: 64, (int,)),
        Setting("max_result_size", parse_size, lambda: 4 * 2**30, (str, int)),
        Setting("timeout", parse_duration, lambda: 30.0, (str, int, float)),
        Setting("runs", str.strip, lambda: "", (str, int)),
        Setting("runs_file", parse_path, lambda: None),
        Setting("url_style", partial(parse_choice, URL_STYLES), lambda: "json"),
        Setting("allow_other", parse_bool, lambda: False, (bool,)),
        Setting("options", parse_options, lambda: ()),
        Setting("log_level", partial(parse_choice, LOG_LEVELS), lambda: "info"),
        Setting("log_file", parse_path, lambda: None),
    )
}


def config_file() -> Path:
    return Path(platformdirs.user_config_dir("cambfs")) / "config.toml"


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
    stored = _read_config(file)
    values = {name: _value(setting, flags, environ, file, stored) for name, setting in SETTINGS.items()}
    if values["cache_size"] is None:
        values["cache_size"] = DEFAULT_MEMORY_BYTES if values["no_disk_cache"] else DEFAULT_DISK_BYTES
    return Settings(key=_find_key(flags, environ, file, stored) if with_key else None, **values)


def _value(
    setting: Setting, flags: Mapping[str, Any], environ: Mapping[str, str], file: Path, stored: Mapping[str, Any]
) -> Any:
    flag = flags.get(setting.name)
    if flag is not None:
        return flag
    if environ.get(setting.in_environment()):
        return _parsed(setting.parse, setting.in_environment(), environ[setting.in_environment()])
    if setting.name in stored:
        return _parsed(_in_file(setting.parse, file), f"{file}: {setting.name}", str(stored[setting.name]))
    return setting.default()


def _in_file(parse: Callable[[str], Any], file: Path) -> Callable[[str], Any]:
    """A relative path in the configuration begins where the configuration is: it is read from anywhere."""
    if parse is not parse_path:
        return parse
    return lambda text: parse_path(text if text.startswith("~") or not text.strip() else str(file.parent / text))


def _parsed(parse: Callable[[str], Any], place: str, text: str) -> Any:
    try:
        return parse(text)
    except ValueError as error:
        raise ConfigError(f"{place}: {error}") from None


def _read_config(file: Path) -> Mapping[str, Any]:
    """What the file says, all of known name and type; nothing where there is no file."""
    try:
        with file.open("rb") as stream:
            mode = os.fstat(stream.fileno()).st_mode
            stored = tomllib.load(stream)
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except OSError as error:
        raise ConfigError(f"{file}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file}: not TOML: {_in_one_line(error)}") from None
    if "api_key" in stored:
        _refuse_if_others_read(file, mode)
    for name, value in stored.items():
        _check_type(file, name, value)
    return stored


def _check_type(file: Path, name: str, value: object) -> None:
    known: dict[str, tuple[type, ...]] = {name: setting.types for name, setting in SETTINGS.items()}
    known |= {"api_key": (str,), "api_key_file": (str,)}
    if name not in known:
        raise ConfigError(f"{file}: {name!r} is not a setting; there are {', '.join(sorted(known))}")
    # `type`, not isinstance: True is an int to Python and a mistake here.
    if type(value) not in known[name]:
        wanted = " or ".join({str: "a string", int: "a number", bool: "true or false"}.get(t, "") for t in known[name])
        raise ConfigError(f"{file}: {name}: must be {wanted.removesuffix(' or ')}")


def _find_key(
    flags: Mapping[str, Any], environ: Mapping[str, str], file: Path, stored: Mapping[str, Any]
) -> ApiKey | None:
    if flags.get("api_key_file") is not None:
        return read_key_file(flags["api_key_file"])
    if environ.get("CAMB_API_KEY", "").strip():
        return _checked_key("CAMB_API_KEY", environ["CAMB_API_KEY"])
    if environ.get("CAMBFS_API_KEY_FILE"):
        return read_key_file(_parsed(parse_path, "CAMBFS_API_KEY_FILE", environ["CAMBFS_API_KEY_FILE"]))
    if stored.get("api_key", "").strip():
        return _checked_key(f"{file}: api_key", stored["api_key"])
    if stored.get("api_key_file"):
        return read_key_file(_parsed(_in_file(parse_path, file), f"{file}: api_key_file", stored["api_key_file"]))
    return None


def read_key_file(path: Path) -> ApiKey:
    """The key in a file that only its owner can read. Raises ConfigError."""
    try:
        with path.open("rb") as stream:
            _refuse_if_others_read(path, os.fstat(stream.fileno()).st_mode)
            content = stream.read(_MAX_KEY_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}; it should hold the API key") from None
    if not content.strip():
        raise ConfigError(f"{path}: is empty; it should hold the API key")
    if len(content) > _MAX_KEY_BYTES:
        raise ConfigError(f"{path}: is too long for a key; it should hold the API key and nothing else")
    return _checked_key(str(path), content.decode("ascii", "replace"))


def _refuse_if_others_read(path: Path, mode: int) -> None:
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise ConfigError(f"{path}: others can read the key in it; run: chmod 600 {path}")


def _checked_key(place: str, text: str) -> ApiKey:
    key = text.strip()
    if not re.fullmatch(r"[!-~]+", key):
        raise ConfigError(f"{place}: the key has spaces, control or non-ASCII characters in it; copy it again")
    return ApiKey(key)


def _in_one_line(error: Exception) -> str:
    return " ".join(str(error).split())
