from __future__ import annotations

import grp
import os
import pwd
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import click
import platformdirs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cambfs.errors import ConfigError, SettingError
from cambfs.settings import config
from cambfs.settings.config import ApiKey, Settings, read_key_file, unknown_variables
from cambfs.settings.options import (
    FOR_CACHE,
    FOR_MOUNT,
    SETTINGS,
    RereadableCommand,
    known_variables,
    rereading,
    settings_of,
)
from cambfs.settings.setting import TolerantCommand, mistakes_in_settings
from cambfs.settings.values import parse_duration, parse_size
from cambfs.system import logs


@pytest.fixture(autouse=True)
def _empty_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("CAMB"):
            monkeypatch.delenv(name)


def load(arguments: Sequence[str], environ: Mapping[str, str], file: Path | None) -> Settings:
    """The settings of a command with every option."""
    command = click.Command("every", params=list(FOR_MOUNT))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(config, "config_file", lambda: file)
        for name, value in environ.items():
            patch.setenv(name, value)
        return settings_of(command.make_context("every", [*arguments]))


def load_from(
    tmp_path: Path, toml: str = "", environ: Mapping[str, str] | None = None, mode: int = 0o600, **flags: object
) -> Settings:
    file = tmp_path / "config.toml"
    file.write_text(toml)
    file.chmod(mode)
    return load([f"--{name.replace('_', '-')}={value}" for name, value in flags.items()], environ or {}, file)


def refusal(tmp_path: Path, toml: str = "", environ: dict[str, str] | None = None, mode: int = 0o600) -> str:
    with pytest.raises(ConfigError) as caught:
        load_from(tmp_path, toml, environ, mode)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_config_file_that_cannot_be_read_comes_with_a_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def read(path: Path, max_bytes: int) -> None:
        raise PermissionError(13, "Permission denied", path, max_bytes)

    monkeypatch.setattr("cambfs.system.user_files.read", read)
    assert refusal(tmp_path).endswith("config.toml: Permission denied; let this user read it")


def key_file(tmp_path: Path, content: bytes = b"from-file\n", mode: int = 0o600) -> Path:
    file = tmp_path / "key"
    file.write_bytes(content)
    file.chmod(mode)
    return file


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("4096", 4096),
        ("4096B", 4096),
        ("5GiB", 5 * 2**30),
        ("5G", 5 * 2**30),
        ("5 gib", 5 * 2**30),
        ("500MB", 500_000_000),
        ("1.5G", 3 * 2**29),
        ("1.5KB", 1500),
        ("2TiB", 2 * 2**40),
    ],
)
def test_a_size_is_read(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["5GB?", "", "-1", "5XB", "G", "1e9", "5,5G", "٥", "1.G", "5iB", "99999999P", "0x10"])
def test_what_is_no_size_is_refused_and_quoted(text: str) -> None:
    with pytest.raises(ValueError, match=r"is not a size|more than any disk") as caught:
        parse_size(text)
    assert repr(text) in str(caught.value)


@given(st.integers(0, 2**20), st.sampled_from([("", 1), ("KiB", 2**10), ("MB", 10**6), ("g", 2**30), ("TB", 10**12)]))
def test_a_whole_number_of_any_unit_is_exact(number: int, unit: tuple[str, int]) -> None:
    assert parse_size(f"{number}{unit[0]}") == number * unit[1]


@given(st.text())
def test_any_text_is_a_size_or_refused(text: str) -> None:
    try:
        size = parse_size(text)
    except ValueError:
        return
    assert 0 <= size < 2**63


@pytest.mark.parametrize(
    ("text", "seconds"), [("30", 30), ("30s", 30), ("2m", 120), ("300ms", 0.3), ("0.5", 0.5), ("1h", 3600)]
)
def test_a_duration_is_read(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["0", "-1", "", "s", "2d", "25h", "nan", "inf", "1e3"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"is not a time|must be more than 0 and at most 24h"):
        parse_duration(text)


def test_the_flag_comes_before_the_environment_the_file_and_the_default(tmp_path: Path) -> None:
    toml, environ = 'cache_size = "3"', {"CAMBFS_CACHE_SIZE": "2"}
    assert load_from(tmp_path, toml, environ, cache_size=1).cache_size == 1
    assert load_from(tmp_path, toml, environ).cache_size == 2
    assert load_from(tmp_path, toml).cache_size == 3
    assert load_from(tmp_path).cache_size == 5 * 2**30


def test_a_switch_that_is_off_on_the_command_line_leaves_the_others_their_say(tmp_path: Path) -> None:
    assert load_from(tmp_path, "allow_other = true").allow_other
    assert not load_from(tmp_path, "allow_other = true", {"CAMBFS_ALLOW_OTHER": "0"}).allow_other


def test_the_defaults(tmp_path: Path) -> None:
    settings = load([], {}, tmp_path / "none.toml")
    assert settings.base_url == "https://client.camb.ai/apis"
    assert (settings.max_transfers, settings.timeout, settings.url_style) == (64, 30.0, "json")
    assert settings.cache_dir.is_absolute()
    assert settings.key is None


def test_paths_become_absolute_from_where_they_are_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir("/usr")
    monkeypatch.setenv("HOME", "/home/someone")
    settings = load_from(tmp_path, 'runs_file = "runs.txt"\ncache_dir = "~/c"', {"CAMBFS_LOG_FILE": "log"})
    assert settings.runs_file == tmp_path / "runs.txt"
    assert settings.cache_dir == Path("/home/someone/c")
    assert settings.log_file == Path("/usr/log")


def test_the_file_takes_natural_types(tmp_path: Path) -> None:
    settings = load_from(tmp_path, "timeout = 5\nruns = 7\nmax_transfers = 3\ncache_size = 1024")
    assert (settings.timeout, settings.runs, settings.max_transfers, settings.cache_size) == (5.0, "7", 3, 1024)


@pytest.mark.parametrize(
    ("toml", "words"),
    [
        ("cache-sise = 1", "'cache-sise' is not a setting; did you mean cache_size?"),
        ("xyzzy = 1", "'xyzzy' is not a setting; there are allow_other, "),
        ("cache_size = true", "cache_size: 'true' is not a size"),
        ('allow_other = "maybe"', "allow_other: must be true or false"),
        ("log_file = [1]", "log_file: must be a string, a number, true or false"),
        ('cache_size = "5GB?"', "cache_size: '5GB?' is not a size"),
        ("max_transfers = 0", "max_transfers: 0 is not in the range 1<=x<=1024"),
        ('url_style = "xml"', "url_style: 'xml' is not one of 'json', 'plain', 'shortcut'"),
        ('api_key = "a b"', "api_key: the key has spaces"),
        ('runs = "5-1"', "runs: '5-1' is a range that descends; write 1-5"),
        ('base_url = "foo"', "base_url: the base URL is not a plain http or https URL"),
        ("profile = 1", "profile: must be tables; write for example [profile.work]"),
        ("profile.work = 1", "profile: must be tables"),
        ("cache_size", "not TOML"),
        ("[mount]", "'mount' is not a setting"),
    ],
)
def test_what_is_wrong_in_the_file_is_named_with_the_file(tmp_path: Path, toml: str, words: str) -> None:
    assert f"{tmp_path / 'config.toml'}: {words}" in refusal(tmp_path, toml)


def test_a_size_without_quotes_is_told_to_have_them(tmp_path: Path) -> None:
    """The parser's own words are about lines and columns."""
    hint = 'column 16); words, paths and sizes need quotes, as in cache_size = "20GiB"'
    assert hint in refusal(tmp_path, "cache_size = 20GiB")


def test_a_file_that_is_not_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="not TOML"):
        load([], {}, tmp_path / "config.toml")


def test_what_is_wrong_in_the_environment_is_named(tmp_path: Path) -> None:
    assert refusal(tmp_path, environ={"CAMBFS_TIMEOUT": "soon"}).startswith("CAMBFS_TIMEOUT: 'soon' is not a time")


def revealed(settings: Settings) -> str:
    assert settings.key is not None
    return settings.key.reveal()


def test_the_key_file_on_the_command_line_comes_first_then_the_environment_then_the_file(tmp_path: Path) -> None:
    file = key_file(tmp_path)
    toml, environ = 'api_key = "from-toml"', {"CAMB_API_KEY": "from-env"}
    assert revealed(load_from(tmp_path, toml, environ, api_key_file=file)) == "from-file"
    assert revealed(load_from(tmp_path, toml, environ | {"CAMBFS_API_KEY_FILE": str(file)})) == "from-env"
    assert revealed(load_from(tmp_path, toml, {"CAMBFS_API_KEY_FILE": str(file)})) == "from-file"
    assert revealed(load_from(tmp_path, toml, {"CAMB_API_KEY": " "})) == "from-toml"
    assert revealed(load_from(tmp_path, 'api_key_file = "key"')) == "from-file"


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o610])
def test_a_key_file_that_others_can_use_is_refused(tmp_path: Path, mode: int) -> None:
    file = key_file(tmp_path, mode=mode)
    with pytest.raises(ConfigError, match=f"chmod 600 {file}"):
        load_from(tmp_path, api_key_file=file)


def test_a_configuration_that_others_can_read_is_refused_only_with_a_key_in_it(tmp_path: Path) -> None:
    assert load_from(tmp_path, "timeout = 5", mode=0o644).timeout == 5
    assert "chmod 600" in refusal(tmp_path, 'api_key = "k"', mode=0o644)


@pytest.mark.parametrize("content", [b"", b" \n", b"a b", b"a\nb", "schlüssel".encode(), b"a\0b", b"k" * 5000])
def test_a_key_file_with_anything_but_a_key_is_refused_without_showing_it(tmp_path: Path, content: bytes) -> None:
    file = key_file(tmp_path, content)
    with pytest.raises(ConfigError, match=f"^{file}: ") as caught:
        load_from(tmp_path, api_key_file=file)
    shown = str(caught.value).removeprefix(f"{file}: ")
    assert "schl" not in shown
    assert "kkk" not in shown


def test_a_key_file_that_is_missing_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file or directory; it should hold the API key"):
        load_from(tmp_path, api_key_file=tmp_path / "nothing")


def test_a_key_with_a_control_character_in_the_environment_is_refused(tmp_path: Path) -> None:
    shown = refusal(tmp_path, environ={"CAMB_API_KEY": "secret\x1b[0m"})
    assert shown.startswith("CAMB_API_KEY: ")
    assert "secret" not in shown


def test_white_space_around_a_key_is_dropped(tmp_path: Path) -> None:
    assert revealed(load_from(tmp_path, environ={"CAMB_API_KEY": " secret\r\n"})) == "secret"


def test_a_key_never_shows(tmp_path: Path) -> None:
    settings = load_from(tmp_path, environ={"CAMB_API_KEY": "s3cret"})
    assert "s3cret" not in f"{settings} {settings!r} {settings.key} {settings.key!r} {[settings.key]}"
    assert "s3cret" not in str(vars(settings))
    assert ApiKey("s3cret").reveal() == "s3cret"


def password(settings: Settings) -> str:
    assert settings.shared_cache_password is not None
    return settings.shared_cache_password.reveal()


def test_the_shared_cache_is_off_unless_it_is_named(tmp_path: Path) -> None:
    assert (load_from(tmp_path).shared_cache, load_from(tmp_path).shared_max_result) == ("", 64 * 2**20)
    toml = 'shared_cache = "valkey://farm:6379/0"\nshared_max_result = "1MB"\n[profile.alone]\nshared_cache = ""'
    assert load_from(tmp_path, toml).shared_cache == "valkey://farm:6379/0"
    assert load_from(tmp_path, toml).shared_max_result == 1_000_000
    assert load_from(tmp_path, toml, profile="alone").shared_cache == ""


_URL_WITH_PASSWORD = "valkey://farmer:s3cret@farm:6379/0"


@pytest.mark.parametrize(
    ("place", "given"),
    [
        ("--shared-cache", {"shared_cache": _URL_WITH_PASSWORD}),
        ("CAMBFS_SHARED_CACHE", {"environ": {"CAMBFS_SHARED_CACHE": _URL_WITH_PASSWORD}}),
        ("config.toml", {"toml": f'shared_cache = "{_URL_WITH_PASSWORD}"'}),
    ],
)
def test_a_password_in_the_url_is_refused_in_a_line_that_does_not_show_it(
    tmp_path: Path, place: str, given: dict[str, Any]
) -> None:
    with pytest.raises((ConfigError, click.BadParameter)) as caught:
        load_from(tmp_path, **given)
    shown = caught.value.format_message() if isinstance(caught.value, click.BadParameter) else str(caught.value)
    assert place in shown
    assert "CAMBFS_SHARED_CACHE_PASSWORD" in shown
    assert "shared_cache_password_file" in shown.replace("-", "_")
    assert "s3cret" not in shown
    assert "\n" not in shown


def test_the_password_comes_from_the_flag_the_environment_or_the_file(tmp_path: Path) -> None:
    file = key_file(tmp_path, b"from file\n")
    toml, environ = 'shared_cache = "valkey://farm"\n', {"CAMBFS_SHARED_CACHE_PASSWORD": "from-env\n"}
    stored = f'{toml}shared_cache_password_file = "key"\n'
    assert password(load_from(tmp_path, stored, environ, shared_cache_password_file=file)) == "from file"
    assert password(load_from(tmp_path, stored, environ)) == "from-env"
    assert password(load_from(tmp_path, stored, {"CAMBFS_SHARED_CACHE_PASSWORD": ""})) == "from file"
    assert load_from(tmp_path, toml).shared_cache_password is None


def test_a_profile_with_a_password_uses_no_other(tmp_path: Path) -> None:
    key_file(tmp_path, b"from file\n")
    toml = '[profile.work]\nshared_cache = "valkey://farm"\nshared_cache_password_file = "key"'
    environ = {"CAMBFS_SHARED_CACHE_PASSWORD": "from-env", "CAMBFS_SHARED_CACHE_PASSWORD_FILE": "/none"}
    assert password(load_from(tmp_path, toml, environ, profile="work")) == "from file"


def test_a_password_is_not_read_without_a_shared_cache(tmp_path: Path) -> None:
    assert load_from(tmp_path, shared_cache_password_file=tmp_path / "none").shared_cache_password is None


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620])
def test_a_password_file_that_others_can_use_is_refused(tmp_path: Path, mode: int) -> None:
    file = key_file(tmp_path, mode=mode)
    with pytest.raises(ConfigError, match=f"chmod 600 {file}") as caught:
        load_from(tmp_path, shared_cache="valkey://farm", shared_cache_password_file=file)
    assert "key" not in str(caught.value).replace(str(file), "")


@pytest.mark.parametrize("content", [b"", b"\n", b"s3cret\nmore", b"s3cret\x1b[0m", b"s3cret\xff"])
def test_a_wrong_password_file_is_refused_without_showing_it(tmp_path: Path, content: bytes) -> None:
    file = key_file(tmp_path, content)
    with pytest.raises(ConfigError, match=f"^{file}: ") as caught:
        load_from(tmp_path, shared_cache="valkey://farm", shared_cache_password_file=file)
    assert "s3cret" not in str(caught.value)


def test_a_password_never_shows_and_is_no_setting_of_the_file(tmp_path: Path) -> None:
    environ = {"CAMBFS_SHARED_CACHE": "valkey://farm", "CAMBFS_SHARED_CACHE_PASSWORD": "s3cret"}
    settings = load_from(tmp_path, environ=environ)
    assert password(settings) == "s3cret"
    assert "s3cret" not in f"{settings} {settings!r} {settings.shared_cache_password} {vars(settings)}"
    words = refusal(tmp_path, 'shared_cache_password = "s3cret"')
    assert "did you mean shared_cache_password_file?" in words
    assert "s3cret" not in words
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CAMBFS_SHARED_CACHE_PASSWORD", "s3cret")
        assert unknown_variables(known_variables()) == []


def test_a_command_without_a_key_opens_no_key_file(tmp_path: Path) -> None:
    command = click.Command("some", params=list(FOR_CACHE))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CAMBFS_API_KEY_FILE", str(tmp_path / "none"))
        assert settings_of(command.make_context("some", ["--cache-dir", str(tmp_path)])).key is None


@pytest.mark.parametrize("value", ["", "  "])
def test_an_empty_path_is_refused(tmp_path: Path, value: str) -> None:
    assert "is not a path" in refusal(tmp_path, f'cache_dir = "{value}"')


def test_a_home_that_nobody_has_is_one_line(tmp_path: Path) -> None:
    for name in ("cache_dir", "api_key_file"):
        assert f"{name}: '~nobody-of-this-name/x'" in refusal(tmp_path, f'{name} = "~nobody-of-this-name/x"')
    assert refusal(tmp_path, environ={"CAMBFS_API_KEY_FILE": "~nobody-of-this-name"}).startswith("CAMBFS_API_KEY_FILE:")


def test_a_configuration_that_cannot_be_read_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "config.toml").mkdir()
    with pytest.raises(ConfigError, match=os.strerror(21)):
        load([], {}, tmp_path / "config.toml")


# Files that are missing, too long, or writable by other users.

_NO_FILES: dict[str, tuple[Callable[[Path], object], str]] = {
    "FIFO": (lambda path: os.mkfifo(path, 0o600), "is not a regular file"),
    "directory": (lambda path: path.mkdir(), os.strerror(21) + "|is not a regular file"),
    "device": (lambda path: path.symlink_to("/dev/zero"), "is not a regular file"),
    "terminal": (lambda path: path.symlink_to("/dev/ptmx"), "is not a regular file"),
    "huge file": (lambda path: _write(path, b"#" * 100_000), "is longer than"),
    "loop": (lambda path: path.symlink_to(path.name), os.strerror(40)),
}


def _write(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    path.chmod(0o600)


@pytest.mark.timeout(10)
@pytest.mark.parametrize("name", _NO_FILES)
def test_what_is_no_file_of_settings_or_a_key_is_refused_and_not_waited_for(tmp_path: Path, name: str) -> None:
    make, words = _NO_FILES[name]
    path = tmp_path / "file"
    make(path)
    with pytest.raises(ConfigError, match=f"^{path}: ({words})"):
        load([], {}, path)
    with pytest.raises(ConfigError, match=f"^{path}: ({words}).*; it should hold the API key"):
        read_key_file(path)


@pytest.mark.parametrize(
    ("toml", "words"),
    [
        ("timeout = " + "[" * 20_000, "not TOML: "),
        ("timeout = " + "{a=" * 10_000, "not TOML: "),
        (".".join("a" * 9_000) + " = 1", "'a' is not a setting"),
        ("cache_size = " + "9" * 5_000, "not TOML: "),
        ("cache_size = 0x" + "f" * 5_000, "cache_size: "),
        ("max_transfers = 0x" + "f" * 5_000, "max_transfers: "),
        ("runs = 0x" + "f" * 5_000, "runs: "),
        ("cache_size = " + "9" * 4_000, "cache_size: "),
        ("timeout = 1e400", "timeout: 'inf' is not a time"),
        ("timeout = " + "9" * 4_000, "timeout: "),
        ('url_style = "' + "x" * 5_000 + '"', "url_style: "),
        ("x" * 5_000 + " = 1", "'xxx"),
        ('log_file = "' + "x/" * 5_000 + '\\u0000"', "log_file: "),
    ],
    ids=lambda value: value[:20],
)
def test_any_content_is_refused_in_one_short_line(tmp_path: Path, toml: str, words: str) -> None:
    shown = refusal(tmp_path, toml)

    assert shown.startswith(f"{tmp_path / 'config.toml'}: {words}")
    assert len(shown) < 600


@pytest.mark.parametrize("mode", [0o602, 0o622, 0o646])
def test_settings_that_others_can_change_are_refused(tmp_path: Path, mode: int) -> None:
    file = tmp_path / "config.toml"
    assert f"others can change {file}; run: chmod go-w {file}" in refusal(tmp_path, "timeout = 5", mode=mode)


@pytest.mark.parametrize("mode", [0o757, 0o777, 0o707])
def test_files_in_a_directory_where_others_can_swap_them_are_refused(tmp_path: Path, mode: int) -> None:
    shared = tmp_path / "shared"
    (shared / "own").mkdir(parents=True, mode=0o700)
    file = key_file(shared / "own")
    assert read_key_file(file).reveal() == "from-file"
    shared.chmod(mode)
    with pytest.raises(ConfigError, match=f"others can change {shared}; run: chmod g?o?-w {shared}"):
        read_key_file(file)
    assert f"others can change {shared};" in refusal(shared / "own", "timeout = 5")
    shared.chmod(mode | 0o1000)  # others cannot rename there
    assert read_key_file(file).reveal() == "from-file"
    assert load_from(shared / "own", "timeout = 5").timeout == 5


def test_a_link_is_followed_to_where_others_can_swap_the_file(tmp_path: Path) -> None:
    (tmp_path / "shared").mkdir()
    (tmp_path / "link").symlink_to(key_file(tmp_path / "shared"))
    assert read_key_file(tmp_path / "link").reveal() == "from-file"
    (tmp_path / "shared").chmod(0o777)
    with pytest.raises(ConfigError, match=f"others can change {tmp_path / 'shared'};"):
        read_key_file(tmp_path / "link")


def test_a_file_of_another_user_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = key_file(tmp_path)
    if os.geteuid() == 0:
        os.chown(file, 4242, -1)
    else:
        uid = os.geteuid() + 1
        monkeypatch.setattr(os, "geteuid", lambda: uid)
    with pytest.raises(ConfigError, match=f"{file} belongs to another user"):
        read_key_file(file)


def test_the_group_that_a_user_has_alone_is_nobody_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where each user has such a group, the usual umask makes files that it can write."""
    user = pwd.getpwuid(os.geteuid()).pw_name
    groups = {"own": (user, []), "named": (user, [user]), "shared": (user, [user, "else"]), "other": ("staff", [])}
    answers = []
    for name, members in groups.values():
        entry = SimpleNamespace(gr_name=name, gr_mem=members, gr_gid=pwd.getpwuid(os.geteuid()).pw_gid)
        monkeypatch.setattr(grp, "getgrgid", lambda _, entry=entry: entry)
        file = tmp_path / "config.toml"
        file.write_text("timeout = 5")
        file.chmod(0o664)
        try:
            answers.append(load([], {}, file).timeout == 5)
        except ConfigError:
            answers.append(False)
    assert answers == [True, True, False, False]


def test_links_on_the_way_are_followed_one_by_one(tmp_path: Path) -> None:
    """A link in a directory where others can swap it leads anywhere tomorrow."""
    for name in ("home", "dotfiles", "open"):
        (tmp_path / name).mkdir(mode=0o700)
    file = key_file(tmp_path / "dotfiles")
    (tmp_path / "open" / "middle").symlink_to(file)
    (tmp_path / "home" / "key").symlink_to(tmp_path / "open" / "middle")
    assert read_key_file(tmp_path / "home" / "key").reveal() == "from-file"
    (tmp_path / "open").chmod(0o777)
    with pytest.raises(ConfigError, match=f"others can change {tmp_path / 'open'};"):
        read_key_file(tmp_path / "home" / "key")


# Names that are nearly right.


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("CAMBFS_CACHESIZE", "; did you mean CAMBFS_CACHE_SIZE?"),
        ("CAMBFS_BASE_URL", "; did you mean CAMB_BASE_URL?"),
        ("CAMBFS_API_KEY", "; did you mean CAMB_API_KEY?"),
        ("CAMBFS_TIMEOUTS", "; did you mean CAMBFS_TIMEOUT?"),
        ("CAMBFS_XYZZY", ""),
    ],
)
def test_a_variable_that_is_no_setting_is_named(name: str, hint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in (name, "CAMBFS_CACHE_SIZE", "CAMBFS_NO_SKIPS", "CAMB_API_KEY"):
        monkeypatch.setenv(variable, "1")
    assert unknown_variables(known_variables()) == [f"{name} in the environment is not a setting{hint}"]


def test_the_variables_of_the_scripts_are_known() -> None:
    scripts = [path for path in (Path(__file__).parents[2] / "scripts").glob("*") if path.is_file()]
    named = {name for path in scripts for name in re.findall(r"\bCAMBFS_[A-Z_]+(?==)", path.read_text())}
    assert "CAMBFS_NO_SKIPS" in named
    assert named <= known_variables()


def test_every_variable_that_is_a_setting_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    assert all(isinstance(setting.envvar, str) for setting in SETTINGS.values())
    for name in [setting.envvar for setting in SETTINGS.values()]:
        monkeypatch.setenv(str(name), "1")
    assert unknown_variables(known_variables()) == []


@pytest.mark.parametrize(
    ("name", "meant"), [("cache_sizee", "cache_size"), ("api-key", "api_key"), ("Timeout", "timeout")]
)
def test_a_setting_in_the_file_that_is_nearly_right(tmp_path: Path, name: str, meant: str) -> None:
    assert f"'{name}' is not a setting; did you mean {meant}?" in refusal(tmp_path, f"{name} = 1")


# Profiles.

_PROFILES = """
base_url = "https://top.example/apis"
timeout = 5
runs = "5-1"
api_key = "top-key"
[profile.work]
timeout = "7s"
runs = "1-5"
api_key_file = "key"
[profile.home]
runs = "3-2"
timeouts = 1
"""


def test_a_profile_overrides_the_top_level(tmp_path: Path) -> None:
    key_file(tmp_path)
    for settings in (
        load_from(tmp_path, _PROFILES, profile="work"),
        load_from(tmp_path, _PROFILES, {"CAMBFS_PROFILE": "work"}),
    ):
        assert (settings.base_url, settings.timeout, settings.runs) == ("https://top.example/apis", 7.0, "1-5")
        assert (settings.profile, revealed(settings)) == ("work", "from-file")
    in_environment = {"CAMBFS_TIMEOUT": "9", "CAMB_API_KEY": "env-key", "CAMB_BASE_URL": "https://env.example/apis"}
    settings = load_from(tmp_path, _PROFILES, in_environment, profile="work")
    assert (settings.timeout, revealed(settings)) == (7.0, "from-file"), "chosen on the command line, it comes first"
    assert settings.base_url == "https://env.example/apis"
    settings = load_from(tmp_path, _PROFILES, {**in_environment, "CAMBFS_PROFILE": "work"})
    assert (settings.timeout, revealed(settings)) == (9.0, "env-key")
    assert load_from(tmp_path, _PROFILES, profile="work", timeout=8).timeout == 8


def test_a_key_file_in_the_environment_does_not_go_to_the_url_of_a_chosen_profile(tmp_path: Path) -> None:
    of_environment = {"CAMBFS_API_KEY_FILE": str(key_file(tmp_path))}
    toml = '[profile.work]\napi_key = "work-key"\nbase_url = "https://work.example/apis"'
    settings = load_from(tmp_path, toml, of_environment, profile="work")
    assert (settings.base_url, revealed(settings)) == ("https://work.example/apis", "work-key")
    settings = load_from(tmp_path, toml, {**of_environment, "CAMBFS_PROFILE": "work"})
    assert revealed(settings) == "from-file"


@pytest.mark.parametrize(
    ("profile", "words"),
    [
        ("wrok", "there is no table [profile.wrok]; did you mean work?"),
        ("xyzzy", "there is no table [profile.xyzzy]"),
        ("home", "profile.home.'timeouts' is not a setting; did you mean timeout?"),
        ("bad", "profile.bad.timeout: 'soon' is not a time"),
    ],
)
def test_a_mistake_in_a_profile_is_named_with_its_place(tmp_path: Path, profile: str, words: str) -> None:
    toml = _PROFILES.replace('runs = "5-1"', "") + '[profile.bad]\ntimeout = "soon"\n'
    with pytest.raises(SettingError) as caught:
        load_from(tmp_path, toml, profile=profile)
    assert str(caught.value).startswith(f"{tmp_path / 'config.toml'}: {words}")


@pytest.mark.parametrize("name", ["a/b", "a,b", "ä", "x" * 61])
def test_a_profile_has_a_plain_name(tmp_path: Path, name: str) -> None:
    with pytest.raises(click.UsageError, match="letters, digits, - and _ only"):
        load_from(tmp_path, "", profile=name)


def test_a_key_in_any_profile_makes_the_file_private(tmp_path: Path) -> None:
    assert "chmod 600" in refusal(tmp_path, '[profile.other]\napi_key = "k"', mode=0o644)


# The defaults that the help shows are those of `Settings`.


def test_the_defaults_of_the_options_are_those_of_the_settings(tmp_path: Path) -> None:
    settings = load([], {}, tmp_path / "none.toml")
    assert settings == replace(Settings(), cache_dir=settings.cache_dir)


def test_mount_options_come_as_a_list_from_everywhere(tmp_path: Path) -> None:
    assert load_from(tmp_path, 'options = "ro, nodev"').options == ("ro", "nodev")
    assert load_from(tmp_path, environ={"CAMBFS_OPTIONS": "ro,nodev"}).options == ("ro", "nodev")
    assert load(["-o", "ro,nodev", "-o", "noexec"], {}, tmp_path / "none").options == (
        "ro",
        "nodev",
        "noexec",
    )


def test_a_command_that_reports_mistakes_begins_in_spite_of_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = TolerantCommand("every", params=list(FOR_MOUNT))
    monkeypatch.setattr(config, "config_file", lambda: tmp_path / "config.toml")
    monkeypatch.setenv("CAMBFS_TIMEOUT", "soon")
    monkeypatch.setenv("CAMB_API_KEY", "a b")
    (tmp_path / "config.toml").write_text("timeout = 1\nmax_transfers = 0\nurl_style = 'plain'")
    ctx = command.make_context("every", [])
    settings = settings_of(ctx)
    assert (settings.timeout, settings.max_transfers, settings.url_style, settings.key) == (30.0, 64, "plain", None)
    places = [str(mistake.error).partition(": ")[0] for mistake in mistakes_in_settings(ctx) or ()]
    assert sorted(places) == sorted([str(tmp_path / "config.toml"), "CAMBFS_TIMEOUT", "CAMB_API_KEY"])
    (tmp_path / "config.toml").write_text("timeouts = 1")
    ctx = command.make_context("every", [])
    assert settings_of(ctx).url_style == "json"
    assert "did you mean timeout?" in str((mistakes_in_settings(ctx) or [])[0])
    with pytest.raises(click.UsageError):
        command.make_context("every", ["--timeout", "soon"])


def test_a_directory_that_is_gone_matters_only_for_relative_paths(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    assert load(["--log-file", "/log"], {}, tmp_path / "none").log_file == Path("/log")
    with pytest.raises(click.UsageError, match="the working directory was removed"):
        load(["--log-file", "log"], {}, tmp_path / "none")


def test_settings_are_read_again_as_at_the_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A relative path begins where the command began, and the key that was in the environment stays."""
    command = RereadableCommand("every", params=list(FOR_MOUNT))
    file = tmp_path / "config.toml"
    monkeypatch.setattr(config, "config_file", lambda: file)
    monkeypatch.setenv("CAMB_API_KEY", "k")
    monkeypatch.chdir(tmp_path)
    again = rereading(command.make_context("every", ["--runs-file", "runs.txt"]))
    monkeypatch.delenv("CAMB_API_KEY")
    monkeypatch.chdir("/")
    file.write_text('log_level = "debug"')
    settings = again()
    assert (settings.runs_file, settings.log_level) == (tmp_path / "runs.txt", "debug")
    assert revealed(settings) == "k"
    file.write_text("timeout = 0")
    with pytest.raises(SettingError, match=f"{file}: timeout: '0' is out of range"):
        again()


# Users without a home.


@pytest.fixture
def _homeless(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: str) -> str:
        raise RuntimeError("could not determine the home directory")

    for name in ("user_cache_dir", "user_config_dir", "user_state_dir"):
        monkeypatch.setattr(platformdirs, name, refuse)


@pytest.mark.usefixtures("_homeless")
def test_a_user_without_a_home_names_a_cache_or_has_none(tmp_path: Path) -> None:
    assert load(["--cache-dir", str(tmp_path)], {}, None).cache_dir == tmp_path
    assert load([], {"CAMBFS_CACHE_DIR": str(tmp_path)}, None).cache_dir == tmp_path
    assert load(["--no-disk-cache"], {}, None).no_disk_cache
    with pytest.raises(
        ConfigError, match="no home directory is known for the cache; name a directory with --cache-dir"
    ):
        load([], {}, None)
    with pytest.raises(SettingError, match=r"no home directory is known for config\.toml"):
        load(["--profile", "work", "--no-disk-cache"], {}, None)


@pytest.mark.usefixtures("_homeless")
def test_who_has_no_home_has_the_log_beside_the_cache(tmp_path: Path) -> None:
    assert logs.default_file(Path("/mnt/camb"), tmp_path) == tmp_path / "mnt-camb.log"
    with pytest.raises(ConfigError, match="no home directory is known for the log; name a file with --log-file"):
        logs.default_file(Path("/mnt/camb"))
