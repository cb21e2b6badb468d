"""One setting as click sees it: an option that the environment and `config.toml` can set as well.

click finds the value of each: on the command line, in the environment, in `config.toml` (its `default_map`). This
module adds types with clear error texts, and the name of the place in each error. No threads.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource
from click.shell_completion import CompletionItem

from cambfs.errors import ConfigError, SettingError
from cambfs.settings import config
from cambfs.settings.values import parse_path
from cambfs.system.private_files import KEY_VARIABLE, PASSWORD_VARIABLE

if TYPE_CHECKING:
    _ParamType = click.ParamType[Any]
else:
    _ParamType = click.ParamType  # generic in new versions only

# Keys of a context's `meta`: the values in `config.toml`, the settings that a profile on the command line sets, and the
# mistakes.
STORED = "cambfs.stored"
CHOSEN = "cambfs.chosen"
_MISTAKES = "cambfs.mistakes"
_LONGEST_MESSAGE = 300


def _working_directory() -> Path | None:
    """None when it was removed, which matters only for relative paths."""
    try:
        return Path.cwd()
    except FileNotFoundError:
        return None


@dataclass(frozen=True)
class Start:
    """State at the start of the command. A mount that reads its settings again needs it, because it works in another
    directory, and its environment has no key and no password."""

    directory: Path | None = field(default_factory=_working_directory)
    key: str = field(default_factory=lambda: os.environ.get(KEY_VARIABLE, ""), repr=False)
    password: str = field(default_factory=lambda: os.environ.get(PASSWORD_VARIABLE, ""), repr=False)


class Value(_ParamType):
    """A value that `parse` accepts; a ValueError becomes a usage error."""

    envvar_list_splitter = ","

    def __init__(self, name: str, parse: Callable[[str], Any]) -> None:
        self.name = name
        self._parse = parse

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        try:
            return self._parse(value) if isinstance(value, str) else value
        except (ValueError, ConfigError) as error:
            self.fail(str(error), param, ctx)

    def shell_complete(self, _ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        if self.name in ("DIR", "FILE"):
            return [CompletionItem(incomplete, type=self.name.lower())]
        return []


class PathValue(Value):
    """A path, made absolute at its place: in the configuration it is relative to the configuration file."""

    def __init__(self, name: str) -> None:
        super().__init__(name, parse_path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        base = _base(param, ctx)
        if isinstance(value, str) and base is not None and value.strip() and not value.startswith("~"):
            value = str(base / value)
        return super().convert(value, param, ctx)


def _base(param: click.Parameter | None, ctx: click.Context | None) -> Path | None:
    if ctx is None or param is None or param.name is None:
        return None
    file = config.config_file()
    if file is not None and ctx.get_parameter_source(param.name) is ParameterSource.DEFAULT_MAP:
        return file.parent
    return ctx.obj.directory if isinstance(ctx.obj, Start) else None


@dataclass(frozen=True)
class Mistake:
    """A problem with one setting, or, with "config", with all of config.toml."""

    setting: str
    error: ConfigError


def refuse(ctx: click.Context, setting: str, error: ConfigError) -> None:
    """Raises the error, unless the command reports wrong settings itself."""
    if (mistakes := mistakes_in_settings(ctx)) is None:
        raise error from None
    mistakes.append(Mistake(setting, error))


def mistakes_in_settings(ctx: click.Context) -> list[Mistake] | None:
    """The wrong settings, for a TolerantCommand. Such a setting has its default, and a wrong key counts as missing.
    None for another command, which does not start with a wrong setting."""
    found: list[Mistake] | None = ctx.meta.get(_MISTAKES)
    return found


class TolerantCommand(click.Command):
    """A command that starts although the environment, the configuration or the key file have mistakes."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        ctx.meta[_MISTAKES] = []
        return super().parse_args(ctx, args)


class Setting(click.Option):
    """An option that the environment and the configuration can set as well; an error in it names the place. `kind` is
    None for a switch."""

    def __init__(self, flag: str, kind: Any, text: str, **more: Any) -> None:
        metavar = kind.name if isinstance(kind, Value) else more.pop("metavar", None)
        more |= {"is_flag": True} if kind is None else {"type": kind, "metavar": metavar}
        super().__init__(flag.split("/"), help=text, show_envvar=True, **{"show_default": "default" in more, **more})
        self.envvar = self.envvar or f"CAMBFS_{(self.name or '').upper()}"

    def get_error_hint(self, ctx: click.Context | None) -> str:  # noqa: ARG002
        return f"'{self.opts[0]}'"  # without the variable, which is not wrong

    def resolve_envvar_value(self, ctx: click.Context) -> str | None:
        # A profile on the command line is used as a whole: no key of another profile goes to its URL.
        return None if self.name in ctx.meta.get(CHOSEN, ()) else super().resolve_envvar_value(ctx)

    def type_cast_value(self, ctx: click.Context, value: Any) -> Any:
        if self.multiple and isinstance(value, str):  # from the configuration
            value = self.type.split_envvar_value(value)
        try:
            return super().type_cast_value(ctx, value)
        except click.BadParameter as error:
            if not (place := self._place(ctx)):
                raise
            message = "must be true or false" if self.is_flag else error.message[:_LONGEST_MESSAGE].rstrip(".")
            refuse(ctx, self.name or "", SettingError(f"{place}: {message}"))
            return None

    def _place(self, ctx: click.Context) -> str:
        """Empty for the command line, which click names itself."""
        source = ctx.get_parameter_source(self.name or "")
        if source is ParameterSource.DEFAULT_MAP:
            return str(ctx.meta[STORED][self.name].place)
        return str(self.envvar) if source is ParameterSource.ENVIRONMENT else ""
