from __future__ import annotations

import re

import pytest

from cambfs.errors import ConfigError
from cambfs.settings.config import Settings
from cambfs.settings.mount_options import settle_options

BREAKING = [
    "encoding=utf-8", "foreground", "nothreads", "debug", "attr_timeout=60", "entry_timeout=1",
    "negative_timeout=9", "ac_attr_timeout=9", "kernel_cache", "auto_cache", "direct_io", "use_ino", "uid=1",
    "gid=1", "umask=9", "nonempty", "modules=iconv", "remember=9", "max_background=1", "=", "ro=1",
    "max_read", "max_read=", "max_read=x", "max_read=-1", "max_readahead=1k", "context", "context=",
    "allow_root=1", "auto_unmount=", "MAX_READ=4096", "suid", "fsname=x", "subtype=y",
]  # fmt: skip


@pytest.mark.parametrize("option", BREAKING)
def test_options_that_could_break_a_promise_are_refused(option: str) -> None:
    with pytest.raises(ConfigError, match=f"^-o {re.escape(option)}: "):
        settle_options(Settings(options=("ro", option)))


@pytest.mark.parametrize(
    "options",
    [
        ("max_read=65536", "max_readahead=0", "auto_unmount", "default_permissions"),
        ("allow_root", "context=system_u:object_r:removable_t:s0", "fscontext=a", "defcontext=b", "rootcontext=c"),
    ],
)
def test_options_that_are_safe_are_handed_on(options: tuple[str, ...]) -> None:
    fstab = ("defaults", "ro", "noexec", "noauto", "user", "nofail", "_netdev", "x-systemd.automount", "noatime")
    flags = ("sync", "async", "dirsync", "lazytime", "strictatime", "nodiratime", "noiversion", "nosymfollow", "silent")
    settled = settle_options(Settings(options=(*fstab, *flags, *options)))
    assert (settled.options, settled.allow_other) == (options, False)
    assert settle_options(Settings(options=("allow_other", *fstab))).allow_other
