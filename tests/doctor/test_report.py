"""How checks are run: in order, each within its limit, and no secret leaves."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from threading import Event

import pytest

from cambfs.doctor import report
from cambfs.doctor.report import Censor, Check, Finding, State, broken, examine, ok, refused, warning
from cambfs.errors import CambfsError, ConfigError
from cambfs.redaction.masking import Key

LONG_S = 60.0
NOTHING_HIDDEN = Censor()


def found(*checks: Check, censor: Censor = NOTHING_HIDDEN, total_s: float = LONG_S) -> list[Finding]:
    return list(examine(checks, censor, total_s))


def test_findings_come_in_the_order_of_the_checks_with_their_group() -> None:
    one = Check("first", "a", lambda: [ok("a", "1"), warning("b", "2", "mend b")], LONG_S)
    other = Check("second", "c", lambda: [broken("c", "3", "mend c")], LONG_S)

    assert [(f.group, f.check, f.state, f.found, f.remedy) for f in found(one, other)] == [
        ("first", "a", State.OK, "1", ""),
        ("first", "b", State.WARNING, "2", "mend b"),
        ("second", "c", State.BROKEN, "3", "mend c"),
    ]


class Clock:
    """Stands still but when a test says."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def monotonic(self) -> float:
        return self.now_s


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(report, "time", made)
    return made


def hanging(release: Event) -> Check:
    def hang() -> Iterator[Finding]:
        release.wait(LONG_S)
        yield ok("hung", "too late")

    return Check("g", "hung", hang, LONG_S)


def test_a_check_that_hangs_costs_its_limit_and_not_the_others(clock: Clock) -> None:
    release = Event()

    def hang() -> Iterator[Finding]:
        clock.now_s += LONG_S - 0.1
        yield ok("before", "said before")
        release.wait(LONG_S)

    next_ = Check("g", "next", lambda: [ok("next", "runs")], LONG_S)
    before, silent, after = found(Check("g", "hung", hang, LONG_S), next_, total_s=10 * LONG_S)
    release.set()

    assert (before.found, after.found) == ("said before", "runs")
    assert (silent.check, silent.state, silent.found) == ("hung", State.BROKEN, "no response within 60.0 s")
    assert silent.remedy


def test_all_checks_together_have_a_limit(clock: Clock) -> None:
    release = Event()

    def slow() -> Iterator[Finding]:
        clock.now_s += LONG_S - 0.1
        yield ok("slow", "runs")

    first, silent = found(Check("g", "slow", slow, LONG_S), hanging(release), total_s=LONG_S)
    release.set()

    assert first.found == "runs"
    assert (silent.check, silent.found) == ("hung", "no response within 0.1 s")


def test_what_there_is_no_time_for_is_said(clock: Clock) -> None:
    def slow() -> Iterator[Finding]:
        clock.now_s += LONG_S
        yield ok("slow", "runs")

    late = Check("g", "late", lambda: [ok("late", "runs")], LONG_S)
    first, skipped = found(Check("g", "slow", slow, LONG_S), late, total_s=LONG_S)

    assert first.found == "runs"
    assert (skipped.check, skipped.state) == ("late", State.WARNING)
    assert skipped.found.startswith("not checked")
    assert skipped.remedy


@pytest.mark.parametrize(
    ("error", "said", "remedy"),
    [
        (ConfigError("it is missing; install it"), "it is missing", "install it"),
        (ConfigError("it is wrong"), "it is wrong", "correct it, then run cambfs doctor again"),
        (ZeroDivisionError("two\nlines"), "unexpected ZeroDivisionError: two lines", "please report this line"),
    ],
)
def test_a_check_that_fails_is_a_line_with_a_remedy(error: Exception, said: str, remedy: str) -> None:
    def fail() -> Iterator[Finding]:
        raise error

    (only,) = found(Check("g", "c", fail, LONG_S))
    assert (only.check, only.state, only.found, only.remedy) == ("c", State.BROKEN, said, remedy)


def test_an_error_with_two_remedies_keeps_both() -> None:
    assert refused("c", CambfsError("a; b; c")).remedy == "b; c"


SECRETS = {
    "the key is s3cr3t-k3y-of-mine": "the key is …",
    "half a key: s3cr3t-k3": "half a key: …",
    "https://me:pa/ss@proxy:3128/x": "https://…@proxy:3128/x",
    "see https://store/a.flac?X-Amz-Signature=abc&b=c, ok": "see https://store/a.flac?… ok",
    "https://store/a#frag ment": "https://store/a?… ment",
    "/home/jane/.config/cambfs": "~/.config/cambfs",
    "ln -s '/home/jane/x' /home/janet/y": "ln -s '~/x' /home/janet/y",
    "/mnt/home/jane": "/mnt/home/jane",
    "no\nnew\x1b[31m lines": "no\\nnew\\x1b[31m lines",
}


@pytest.mark.parametrize("text", SECRETS)
def test_secrets_are_taken_out_of_what_was_found_and_of_the_remedy(text: str) -> None:
    censor = Censor((Key("s3cr3t-k3y-of-mine"),), Path("/home/jane"))
    (only,) = found(Check("g", "c", lambda: [broken("c", text, text)], LONG_S), censor=censor)

    assert only.found == only.remedy == SECRETS[text]


@pytest.mark.parametrize("home", [None, Path("/"), Path("/a")])
def test_a_home_that_is_nobodys_is_left(home: Path | None) -> None:
    assert Censor((), home)("/a/b /c") == "/a/b /c"
