"""The settings on both sides: as they should be, and as they come."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterable
from pathlib import Path

import pytest

from cambfs.cli.doctor import doctor, setup_of
from cambfs.doctor import setup
from cambfs.doctor.report import Finding, State
from cambfs.doctor.setup import Setup
from cambfs.settings.options import settings_of
from tests.wire.raw_server import CERTIFICATE

KEY = "k3y-that-nobody-sees"
PASSWORD = "pr0xy-pass"


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's environment, without the tester's own variables."""
    for name in list(os.environ):
        if name.startswith(("CAMB", "XDG_", "SSL_")) or "PROXY" in name.upper() or name.endswith("CA_BUNDLE"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".config/cambfs").mkdir(parents=True, mode=0o700)
    return tmp_path


def config(home: Path, text: str, mode: int = 0o600) -> Path:
    file = home / ".config/cambfs/config.toml"
    file.write_text(text)
    file.chmod(mode)
    return file


def findings(**flags: object) -> dict[str, Finding]:
    arguments = [word for name, value in flags.items() for word in (f"--{name.replace('_', '-')}", str(value))]
    with doctor.make_context("doctor", arguments, help_option_names=["-h", "--help"]) as ctx:
        found_setup = setup_of(ctx, settings_of(ctx))
    found = {}
    for check in setup.checks(found_setup):
        for finding in check.look():
            assert bool(finding.remedy) == (finding.state is not State.OK), "a remedy, unless all is well"
            assert KEY not in finding.found + finding.remedy
            assert PASSWORD not in finding.found + finding.remedy
            found[finding.check] = finding
    return found


def state(check: str, **flags: object) -> State:
    return findings(**flags)[check].state


def test_no_configuration_is_no_fault() -> None:
    found = findings()
    assert found["config.toml"].state is State.OK
    assert "there is none" in found["config.toml"].found


def test_a_configuration_that_is_right(home: Path) -> None:
    config(home, 'cache_size = "1GiB"\n')
    found = findings()["config.toml"]
    assert found.state is State.OK
    assert "mode 0600" in found.found


@pytest.mark.parametrize(
    ("text", "mode", "said"),
    [
        ('cache_sise = "1GiB"', 0o600, "did you mean cache_size?"),
        ("cache_size = ", 0o600, "not TOML"),
        ("allow_other = 3", 0o600, "true or false"),
        ('cache_size = "many"', 0o600, "is not a size"),
        ("", 0o666, "chmod go-w"),
        (f'api_key = "{KEY}"', 0o644, "chmod 600"),
    ],
)
def test_a_configuration_that_is_refused(home: Path, text: str, mode: int, said: str) -> None:
    config(home, text, mode)
    found = findings()["config.toml"]
    assert found.state is State.BROKEN
    assert said in found.found + found.remedy


def test_a_variable_that_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CAMBFS_CACHE_SIZE", "many")
    found = findings()["settings"]
    assert found.state is State.BROKEN
    assert "CAMBFS_CACHE_SIZE" in found.found


def test_a_variable_that_is_no_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CAMBFS_CACHE_SISE", "1GiB")
    found = findings()["environment"]
    assert found.state is State.WARNING
    assert found.remedy == "did you mean CAMBFS_CACHE_SIZE?"
    monkeypatch.delenv("CAMBFS_CACHE_SISE")
    monkeypatch.setenv("CAMBFS_XYZZY", "1")
    assert findings()["environment"].remedy == "unset CAMBFS_XYZZY"


def test_no_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(setup, "config_file", lambda: None)
    (found,) = setup.configuration(Setup(None))
    assert (found.state, found.remedy) == (State.WARNING, "set HOME")


def test_no_key() -> None:
    found = findings()["key"]
    assert found.state is State.BROKEN
    assert "CAMB_API_KEY" in found.remedy


def test_where_the_key_was_found(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = config(home, f'api_key = "{KEY}"')
    assert findings()["key"].found == f"from {file}: api_key"
    key_file = home / "key"
    key_file.write_text(KEY)
    key_file.chmod(0o600)
    assert findings(api_key_file=key_file)["key"].found == f"from {key_file}, mode 0600"
    monkeypatch.setenv("CAMB_API_KEY", KEY)
    found = findings()["key"]
    assert (found.state, found.found) == (State.OK, "from CAMB_API_KEY")


def test_a_key_file_that_others_can_read(home: Path) -> None:
    key_file = home / "key"
    key_file.write_text(KEY)
    key_file.chmod(0o644)
    found = findings(api_key_file=key_file)["key"]
    assert found.state is State.BROKEN
    assert f"chmod 600 {key_file}" in found.remedy


def test_a_key_that_was_copied_wrongly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CAMB_API_KEY", f"{KEY} {KEY}")
    assert state("key") is State.BROKEN


@pytest.mark.parametrize(
    ("url", "wanted", "said"),
    [
        ("https://client.camb.ai/apis", State.OK, ""),
        ("http://127.0.0.1:1/apis", State.OK, "unencrypted, on this machine"),
        ("https://client.camb.ai", State.WARNING, "perhaps to https://client.camb.ai/apis"),
    ],
)
def test_base_urls(url: str, wanted: State, said: str) -> None:
    found = findings(base_url=url)["base URL"]
    assert found.state is wanted
    assert said in found.found + found.remedy


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("http://client.camb.ai/apis", "https://"),
        (f"https://me:{PASSWORD}@client.camb.ai/apis", "it looks like https://client.camb.ai/apis"),
    ],
)
def test_base_urls_that_are_refused(url: str, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CAMB_BASE_URL", url)
    found = findings()["settings"]
    assert found.state is State.BROKEN
    assert said in found.found + found.remedy


@pytest.mark.parametrize(
    ("environment", "wanted", "said"),
    [
        ({}, State.OK, "none"),
        ({"https_proxy": "http://proxy:3128"}, State.OK, "http://proxy:3128 from https_proxy"),
        ({"HTTPS_PROXY": f"http://me:{PASSWORD}@proxy"}, State.OK, "http://proxy:80 from HTTPS_PROXY"),
        ({"ALL_PROXY": "proxy:3128"}, State.OK, "http://proxy:3128 from ALL_PROXY"),
        ({"HTTPS_PROXY": "http://proxy", "NO_PROXY": "camb.ai"}, State.OK, "none for this host, although HTTPS_PROXY"),
        ({"HTTPS_PROXY": "ftp://proxy"}, State.BROKEN, "HTTPS_PROXY names a proxy that is none of http"),
        ({"HTTPS_PROXY": f"http://me:{PASSWORD}/x@proxy"}, State.BROKEN, "write %2F for /"),
        ({"HTTPS_PROXY": f"http://{PASSWORD}/x@proxy"}, State.BROKEN, "write %2F for /"),
        ({"HTTPS_PROXY": "http://proxy:port"}, State.BROKEN, "HTTPS_PROXY does not name a proxy"),
        ({"HTTPS_PROXY": "socks5h://proxy"}, State.OK, "socks5h://proxy:1080 from HTTPS_PROXY"),
    ],
)
def test_proxies(environment: dict[str, str], wanted: State, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    found = findings()["proxy"]
    assert found.state is wanted
    assert said in found.found + found.remedy


def test_a_socks_proxy_without_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "socks5://proxy")
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    found = findings()["proxy"]
    assert (found.state, found.remedy) == (State.BROKEN, "pip install PySocks, or unset it")


def test_no_proxy_line_for_a_bad_base_url(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CAMB_BASE_URL", "nonsense")
    assert "proxy" not in findings()


def test_certificates(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "certifi" in findings()["certificates"].found
    monkeypatch.setenv("SSL_CERT_FILE", str(CERTIFICATE))
    assert findings()["certificates"].found.endswith(f"{CERTIFICATE}, from SSL_CERT_FILE")
    for bundle in (CERTIFICATE, CERTIFICATE.parent):
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(bundle))
        assert state("certificates") is State.OK
    empty = home / "empty.pem"
    empty.touch()
    for bundle in (home / "missing", empty):
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(bundle))
        found = findings()["certificates"]
        assert found.state is State.BROKEN
        assert str(bundle) in found.found
        assert "unset" in found.remedy


def test_what_does_not_depend_on_the_settings_is_checked_without() -> None:
    names = [check.name for check in setup.checks(Setup(None))]
    assert names == ["config.toml", "certificates"]


def test_everything_has_a_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CAMB_API_KEY", KEY)
    monkeypatch.setenv("CAMB_BASE_URL", "x")
    found: Iterable[Finding] = findings().values()
    assert {finding.state for finding in found} == {State.OK, State.BROKEN}
