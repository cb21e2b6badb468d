"""The mount options after `-o`: which are for this mount, which mean nothing here, and which are refused.

No threads.
"""

from __future__ import annotations

import re
from dataclasses import replace

from cambfs.errors import SettingError
from cambfs.settings.config import Settings

# These describe every cambfs mount, so they change nothing.
_ALWAYS = ("ro", "nosuid", "nodev", "noexec", "defaults")
# Options that fstab has for other programs than the file system, or that make no difference to a read-only mount.
_WITH_AND_WITHOUT_NO = (
    *("auto", "user", "users", "owner", "group", "fail", "mand", "iversion", "symfollow"),
    *("atime", "diratime", "relatime", "strictatime", "lazytime"),
)
_IGNORED = (
    *_WITH_AND_WITHOUT_NO,
    *(f"no{name}" for name in _WITH_AND_WITHOUT_NO),
    *("_netdev", "sync", "async", "dirsync", "silent", "loud"),
)
_IGNORED_PREFIX = "x-"
_NEVER = ("rw", "suid", "dev", "exec", "fsname", "subtype")
# The accepted options, with the form of their values. Others could break the files' promises, for example their sizes.
_FORMS = {
    "allow_root": "",
    "auto_unmount": "",
    "default_permissions": "",
    "max_read": "=[0-9]{1,9}",
    "max_readahead": "=[0-9]{1,9}",
    "umask": "=[0-7]{1,4}",
    "context": "=.+",
    "fscontext": "=.+",
    "defcontext": "=.+",
    "rootcontext": "=.+",
}


def settle_options(settings: Settings) -> Settings:
    """The settings with the mount options sorted out. Raises SettingError for options that are not allowed."""
    known = (*_ALWAYS, *_IGNORED, "allow_other")
    left = tuple(
        option for option in settings.options if option not in known and not option.startswith(_IGNORED_PREFIX)
    )
    for option in left:
        _check_option(option)
    allow_other = settings.allow_other or "allow_other" in settings.options
    if allow_other and "allow_root" in left:
        raise SettingError("-o allow_root: --allow-other includes root; use one of the two")
    return replace(settings, options=left, allow_other=allow_other)


def _check_option(option: str) -> None:
    name = option.split("=")[0]
    if name in _NEVER:
        raise SettingError(
            f"-o {option}: leave it out; cambfs always mounts with {','.join(_ALWAYS[:4])} under its own name"
        )
    if name not in _FORMS:
        raise SettingError(f"-o {option}: unknown option; known are allow_other, {', '.join(_FORMS)}")
    if not re.fullmatch(name + _FORMS[name], option):
        kinds = {"": "takes no value", "=.+": "needs a value", "=[0-7]{1,4}": "needs an octal number, such as 077"}
        raise SettingError(f"-o {option}: {name} {kinds.get(_FORMS[name], 'needs a number of bytes')}")
