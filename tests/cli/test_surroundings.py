"""`cambfs mount` in difficult surroundings: a wrong base URL, an API in trouble, proxies, certificates."""

from __future__ import annotations

import shutil
from dataclasses import replace
from typing import Literal

import pytest

from tests.api.faults import Fault
from tests.api.server import Server
from tests.cli.shell import Shell, complaint
from tests.wire.raw_server import CERTIFICATE


@pytest.mark.parametrize("unknown_status", [400, 404, 422])
def test_a_base_url_without_its_path_is_refused_and_never_remembered(
    shell: Shell, api: Server, unknown_status: Literal[400, 404, 422]
) -> None:
    api.profile = replace(api.profile, unknown_status=unknown_status)
    wrong = api.base_url.removesuffix("/apis")
    for options in ((), (), ("-f",)):
        line = complaint(shell("mount", "mnt", *options, "--base-url", wrong))
        assert line == f"no CAMB.AI API at {wrong}; does the base URL end in /apis?"
    assert not list(shell.directory.glob("home/**/.accepted"))
    assert shell("mount", "mnt").returncode == 0
    assert list(shell.directory.glob("home/**/.accepted"))


@pytest.mark.parametrize(("status", "is_warning"), [(503, False), (429, False), (418, True)])
def test_an_answer_that_tells_nothing_of_the_key_is_not_remembered(
    shell: Shell, api: Server, status: int, is_warning: bool
) -> None:
    api.fail(Fault("status", target="sign", run_id=0, status=status, times=None))
    done = shell("mount", "mnt")
    assert done.returncode == 0
    told = "mounted, but the key could not be checked: "
    assert done.stderr.startswith(f"cambfs: warning: {told}" if is_warning else "")
    assert bool(done.stderr) == is_warning
    (log,) = shell.directory.glob("home/**/*.log")
    assert f"{'WARNING' if is_warning else 'INFO'} {told}" in log.read_text()
    assert not list(shell.directory.glob("home/**/.accepted"))


ELSEWHERE = {"CAMB_BASE_URL": "https://192.0.2.1/apis"}


@pytest.mark.parametrize("value", ["http://me:a-password@h:abc", "ftp://me:a-password@h"])
def test_a_proxy_that_cannot_be_is_one_line_that_names_the_setting(shell: Shell, value: str) -> None:
    line = complaint(shell("mount", "mnt", https_proxy=value, **ELSEWHERE))
    assert "https_proxy" in line
    assert "a-password" not in line


def test_a_proxy_that_refuses_is_a_warning_that_names_the_setting(shell: Shell) -> None:
    done = shell("mount", "mnt", all_proxy="socks://me:a-password@127.0.0.1:1", **ELSEWHERE)
    assert done.returncode == 0
    assert "through the proxy that all_proxy names" in done.stderr
    assert done.stderr.count("\n") == 1
    assert not list(shell.directory.glob("home/**/.accepted"))
    (log,) = shell.directory.glob("home/**/*.log")
    assert "a-password" not in done.stderr + log.read_text()


@pytest.mark.parametrize("name", ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE"])
def test_a_relative_ca_bundle_is_the_same_file_in_the_background(shell: Shell, name: str) -> None:
    shutil.copy(CERTIFICATE, shell.directory / "ca.pem")
    assert shell("mount", "mnt", **{name: "ca.pem"}).returncode == 0
    assert shell("unmount", "mnt").returncode == 0
    assert f"{name} names absent.pem, which does not exist" in complaint(shell("mount", "mnt", **{name: "absent.pem"}))
