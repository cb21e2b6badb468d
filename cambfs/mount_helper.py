"""`mount.cambfs`, which mount(8) and fstab start for the type cambfs: turns their options into `cambfs mount`.

Every option of `cambfs mount` is an option here, without its dashes. No threads.
"""

from __future__ import annotations

import os
import pwd
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import click

from cambfs.cli.app import run
from cambfs.cli.mount import mount
from cambfs.errors import ConfigError
from cambfs.settings.values import did_you_mean
from cambfs.system import limits, private_files
from cambfs.text import visible

# Exit codes of mount(8).
_WRONG_USE, _FAILED = 1, 32
_NOT_SETTINGS = ("options", "foreground", "verbose")
# Options in fstab for mount(8) alone, and those that cambfs always or never has.
_NOT_FOR_US = re.compile(
    r"rw|(no)?(user|users|owner|group|auto|fail|exec|suid|dev)(=.*)?|_netdev|x-.*|comment=.*", re.I
)
# A value in double quotes may have commas.
_OPTION = re.compile(r'(?:[^,"]|"[^"]*")+')


@dataclass
class Request:
    """A call of mount(8). `uid` and `gid` are "" when they are not given."""

    source: str
    directory: str
    options: list[str]
    flags: str = ""
    uid: str = ""
    gid: str = ""


def main() -> None:
    """Exits as mount(8) expects: 0, 1 for wrong use, or 32 when nothing was mounted."""
    try:
        request = parse(sys.argv[1:])
        arguments = translate(request)
        _become_user(request)
    except ConfigError as error:
        click.echo(f"mount.cambfs: {visible(str(error))}", err=True)
        sys.exit(_WRONG_USE)
    if "f" in request.flags:  # only to check the options
        sys.exit(0)
    sys.exit({0: 0, 2: _WRONG_USE}.get(run(arguments), _FAILED))


def parse(words: Sequence[str]) -> Request:
    """Raises ConfigError."""
    names: list[str] = []
    options: list[str] = []
    flags, rest = "", iter(words)
    for word in rest:
        if word in ("-o", "-t", "-N"):
            value = next(rest, "")
            options += _OPTION.findall(value) if word == "-o" else []
        elif word.startswith("-"):
            flags += word[1:]
        else:
            names.append(word)
    if len(names) != 2 or set(flags) - set("sfnv"):
        raise ConfigError("usage: mount -t cambfs cambfs DIR [-o OPTION,...]")
    return Request(names[0], names[1], options, flags)


def translate(request: Request) -> list[str]:
    """The arguments for `cambfs`. Takes `uid` and `gid` out of the options. The source `cambfs#NAME` stands for the
    profile NAME. Unknown options are left to `cambfs mount`, or ignored with the flag `s`. Raises ConfigError."""
    _check(request)
    arguments = ["mount", *(["--verbose"] if "v" in request.flags else [])]
    others = []
    for option in _with_profile(request):
        name, _, value = option.partition("=")
        if (setting := _settings().get(name.replace("-", "_"))) is not None:
            arguments.append(_argument(setting, option))
        elif name in ("uid", "gid"):
            setattr(request, name, value)
        elif not _NOT_FOR_US.fullmatch(option):
            others.append(option)
    if others and "s" not in request.flags:
        _check_spelling(others)
        arguments += ["-o", ",".join(others)]
    return [*arguments, "--", request.directory]


def _check_spelling(options: Sequence[str]) -> None:
    """Raises ConfigError for an option that looks like a setting; `cambfs mount -o` knows none of them."""
    names = _settings().keys() - {"allow_other"}  # which `allow_root` looks like
    for option in options:
        if hint := did_you_mean(option.partition("=")[0], names):
            raise ConfigError(f"-o {option}: unknown option{hint}")


def _check(request: Request) -> None:
    """The mount must show the source that fstab has: `mount -a` takes it for another one otherwise, and tries again."""
    if not re.fullmatch("cambfs(#.+)?", request.source):
        raise ConfigError(f"{request.source}: the first column must be cambfs, or cambfs#NAME for the profile NAME")
    for option in request.options:
        name, _, value = option.partition("=")
        if name == "profile":
            raise ConfigError(f"-o {option}: name the profile in the first column: cambfs#{value}")
        if name == "remount":
            raise ConfigError("-o remount: cambfs cannot change a mount; unmount it, then mount it again")


def _with_profile(request: Request) -> Iterator[str]:
    profile = request.source.partition("#")[2]
    if profile:
        yield f"profile={profile}"
    yield from request.options


def _settings() -> dict[str, click.Option]:
    """The options of `cambfs mount` that make sense here, by name."""
    options = (option for option in mount.params if isinstance(option, click.Option))
    return {option.name: option for option in options if option.name and option.name not in _NOT_SETTINGS}


def _argument(setting: click.Option, option: str) -> str:
    name, has_value, value = option.partition("=")
    if setting.is_flag and has_value:
        raise ConfigError(f"-o {option}: {name} takes no value")
    if not (setting.is_flag or value):
        raise ConfigError(f"-o {option}: {name} needs a value, as in {name}={setting.metavar or '…'}")
    flag, unquoted = max(setting.opts, key=len), value.strip('"')
    return flag if setting.is_flag else f"{flag}={unquoted}"


def _become_user(request: Request) -> None:
    """With `uid=` root mounts as this user: with the user's key, settings and cache. Raises ConfigError."""
    if not (request.uid or request.gid):
        return
    uid = _number(request.uid, "uid") if request.uid else os.getuid()
    name, home, gid = _account(uid)
    gid = _number(request.gid, "gid") if request.gid else gid
    if os.geteuid() != 0:
        if (uid, gid) != (os.getuid(), os.getgid()):
            raise ConfigError("-o uid=,gid=: only root can mount for another user or group; leave them out")
        return
    try:
        limits.become(uid, gid, os.getgrouplist(name, gid) if name else [gid])
    except OSError as error:
        raise ConfigError(f"-o uid={uid}: cannot become this user: {error.strerror}") from None
    _check_readable(uid)
    # Root's own settings, a key above all, are not for this user, whose config.toml says where a key goes.
    for variable in [variable for variable in os.environ if variable.startswith(("XDG_", "CAMB"))]:
        private_files.forget_variable(variable)
    os.environ.update(HOME=home, USER=name, LOGNAME=name)


def _check_readable(uid: int) -> None:
    """Raises ConfigError when the user of this process cannot import what is still to be imported."""
    for file in (os.__file__, __file__):
        if not os.access(file, os.R_OK, effective_ids=True):
            advice = (
                "install cambfs where all users can read it, with a Python that all can read, such as /usr/bin/python3"
            )
            raise ConfigError(f"-o uid={uid}: this user cannot read {file}; {advice}")


def _account(uid: int) -> tuple[str, str, int]:
    """Name, home and group; a uid without an account has none of its own."""
    try:
        entry = pwd.getpwuid(uid)
    except KeyError:
        return "", "/nonexistent", uid
    return entry.pw_name, entry.pw_dir, entry.pw_gid


def _number(text: str, kind: str) -> int:
    if not re.fullmatch(r"[0-9]{1,9}", text):
        raise ConfigError(f"-o {kind}={text}: not a number; to see yours: id")
    return int(text)


if __name__ == "__main__":
    main()
