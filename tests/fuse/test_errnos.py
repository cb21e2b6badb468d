"""The table from errors to errnos, and which failures are logged and kept for `.cambfs/errors`."""

from __future__ import annotations

import errno
import logging

import pytest

from cambfs import errors
from cambfs.errors import CambfsError
from cambfs.fuse.errnos import Errnos, errno_of
from cambfs.fuse.error_log import ErrorLog

_TABLE = [
    (errors.NoSuchName("x"), "ENOENT"),
    (errors.UnknownRun("x", 404), "ENOENT"),
    (errors.UnknownPath("x", 404), "ENOENT"),
    (errors.NoWav("x"), "ENOENT"),
    (errors.KeyRefused("x", 401), "EACCES"),
    (errors.ReadOnly("x"), "EROFS"),
    (errors.UnknownTask("x", 404), "ENOENT"),
    (errors.MisplacedTask("x"), "ENOENT"),
    (errors.TaskPending("x"), "ETIMEDOUT"),
    (errors.TaskFailed("x"), "EIO"),
    (errors.TimedOut("x"), "ETIMEDOUT"),
    (errors.ConnectTimedOut("x"), "ETIMEDOUT"),
    (errors.ResultChanged("x"), "ESTALE"),
    (errors.TooLarge("x"), "EFBIG"),
    (errors.NoSpace("x"), "ENOSPC"),
    (errors.TooManyOpenFiles("x"), "EMFILE"),
    (errors.Cancelled("x"), "EINTR"),
    (errors.Closing("x"), "ENODEV"),
    (errors.Unreachable("x"), "EHOSTUNREACH"),
    (errors.Unreachable("x", errno.ENETUNREACH), "ENETUNREACH"),
    (errors.Unreachable("x", errno.ECONNREFUSED), "ECONNREFUSED"),
    (errors.RateLimited("x", 429), "EIO"),
    (errors.ServerError("x", 503), "EIO"),
    (errors.NotAudio("x", 200), "EIO"),
    (errors.BadResponse("x", 302), "EIO"),
    (errors.SignatureExpired("x", 403), "EIO"),
    (errors.BrokenBody("x"), "EIO"),
    (errors.CacheDamaged("x"), "EIO"),
    (errors.NotWhole("x"), "EIO"),
    (errors.StorageUseless("x"), "EIO"),
    (errors.NotRepeated("x"), "EIO"),
    (errors.Undecodable("x"), "EIO"),
    (CambfsError("x"), "EIO"),
]


@pytest.mark.parametrize(("error", "name"), _TABLE, ids=[f"{type(e).__name__}-{name}" for e, name in _TABLE])
def test_an_error_has_one_errno(error: CambfsError, name: str) -> None:
    assert errno.errorcode[errno_of(error)] == name


def _all_kinds(kind: type[CambfsError]) -> set[type[CambfsError]]:
    return {kind}.union(*map(_all_kinds, kind.__subclasses__()))


def test_no_kind_of_error_is_forgotten() -> None:
    # The first two have no errno of their own; a ConfigError never comes out of an operation.
    without = {errors.RemoteError, errors.LinkError, errors.ConfigError, errors.SettingError}
    ours = {kind for kind in _all_kinds(CambfsError) if kind.__module__ == errors.__name__}

    assert ours == {type(error) for error, _ in _TABLE} | without


def test_a_failure_is_logged_and_kept_once_for_all_who_share_it(caplog: pytest.LogCaptureFixture) -> None:
    error_log = ErrorLog()
    failures, error = Errnos(error_log), errors.TimedOut("no response")
    numbers = {failures.note("read", "/1.flac", error) for _ in range(1000)}

    assert numbers == {errno.ETIMEDOUT}
    assert caplog.messages == ["read /1.flac: no response (ETIMEDOUT)"]
    assert error_log.text().count(b"\n") == 1


@pytest.mark.parametrize("error", [errors.NoSuchName("x"), errors.ReadOnly("x"), errors.Cancelled("x")])
def test_what_a_user_causes_all_the_time_is_neither_a_warning_nor_kept(
    error: CambfsError, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    error_log = ErrorLog()
    Errnos(error_log).note("open", "/x", error)

    assert [record.levelno for record in caplog.records] == [logging.DEBUG]
    assert error_log.text() == b""


def test_the_run_id_is_not_blamed_first_for_a_path_that_is_not_there() -> None:
    error_log = ErrorLog()
    Errnos(error_log).note("open", "/5.flac", errors.UnknownPath("run 5: the API says 404: Not Found", 404))
    Errnos(error_log).note("open", "/6.flac", errors.UnknownRun("run 6: the API says 404: no such run", 404))

    path, run = error_log.text().decode().splitlines()
    assert path.split("\t")[-1].startswith("check that the base URL ends in /apis")
    assert "base URL" not in run
