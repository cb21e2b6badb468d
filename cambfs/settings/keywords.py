"""Settings given as keywords in Python: the same names, forms and defaults as on a command line. No threads."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping

import click

from cambfs.errors import SettingError
from cambfs.settings.config import Settings
from cambfs.settings.options import SETTINGS, settings_of
from cambfs.settings.setting import Setting
from cambfs.settings.values import did_you_mean
from cambfs.text import quoted


def settings_for(options: tuple[Setting, ...], keywords: Mapping[str, object]) -> Settings:
    """The settings of a command with these options, from the keywords, the environment and config.toml. Raises
    SettingError."""
    command = click.Command("cambfs", params=list(options))
    try:
        return settings_of(command.make_context("cambfs", arguments_for(options, keywords)))
    except click.UsageError as error:
        raise SettingError(error.format_message()) from None


def arguments_for(options: tuple[Setting, ...], keywords: Mapping[str, object]) -> list[str]:
    """The keywords as they are written on a command line. Raises SettingError for one that is no setting there."""
    known = {str(option.name) for option in options}
    for name in keywords:
        if name not in known:
            hint = did_you_mean(name, known) or f"; there are {', '.join(sorted(known))}"
            raise SettingError(f"{quoted(name)} is not a setting here{hint}")
    return [word for name, value in keywords.items() for word in _words(SETTINGS[name], value)]


def _words(setting: Setting, value: object) -> Iterator[str]:
    """None and False are as if they were not given."""
    flag = setting.opts[0]
    if value is None or value is False:
        return
    if value is True:
        yield flag
        return
    for one in value if isinstance(value, list | tuple) else [value]:
        text = os.fspath(one) if isinstance(one, os.PathLike) else str(one)
        yield f"{flag}={text}" if flag.startswith("--") else f"{flag}{text}"
