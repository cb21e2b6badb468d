"""Checks and their findings. Checks run one after the other, each within a time limit.

Every text passes through one `Censor` on its way out, so a report can be shared as it is.

Threads: each check runs in one of its own, named `doctor`, because resolving a name, or accessing a hanging mount, has
no timeout. A check that outlives its limit is left behind in its thread, which ends with the process.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Thread

from cambfs.errors import CambfsError
from cambfs.redaction.masking import MASK, Key
from cambfs.text import visible

_log = logging.getLogger(__name__)

# The end of a URL in a sentence is not clear, so everything up to the next white space or quote counts.
_USER_AND_PASSWORD = re.compile(r"(?<=://)[^\s\"'<>]*@")
_QUERY = re.compile(r"(?<=://)([^\s\"'<>?#]*)[?#][^\s\"'<>]*")
# A shorter home, such as / or /root's parent, names no person.
_SHORTEST_HOME = 3


class State(StrEnum):
    OK = "ok"
    WARNING = "warning"
    BROKEN = "broken"


@dataclass(frozen=True)
class Finding:
    """The finding of one check. `remedy` is a command or a setting that fixes it, "" when all is well."""

    check: str
    state: State
    found: str
    remedy: str = ""
    group: str = ""


def ok(check: str, found: str) -> Finding:
    return Finding(check, State.OK, found)


def warning(check: str, found: str, remedy: str) -> Finding:
    return Finding(check, State.WARNING, found, remedy)


def broken(check: str, found: str, remedy: str) -> Finding:
    return Finding(check, State.BROKEN, found, remedy)


def refused(check: str, error: CambfsError) -> Finding:
    """From an error whose text says what to do, mostly behind a semicolon."""
    found, _, remedy = str(error).partition("; ")
    return broken(check, found, remedy or "correct it, then run cambfs doctor again")


@dataclass(frozen=True)
class Check:
    """`look` yields findings one by one. After `limit_s` the check ends with a finding that says so."""

    group: str
    name: str
    look: Callable[[], Iterable[Finding]]
    limit_s: float = 5.0


@dataclass(frozen=True)
class Censor:
    """Removes secrets from a text: keys, the queries of URLs, the user and the password before a host; and the home
    directory, which holds a user name."""

    keys: tuple[Key, ...] = ()
    home: Path | None = None

    def __call__(self, text: str) -> str:
        for key in self.keys:
            text = key.mask(text)
        text = _USER_AND_PASSWORD.sub(f"{MASK}@", text)
        text = _QUERY.sub(rf"\1?{MASK}", text)
        return visible(self._without_home(text))

    def _without_home(self, text: str) -> str:
        if self.home is None or len(str(self.home)) < _SHORTEST_HOME:
            return text
        return re.sub(rf"(?<![^\s\"'=:]){re.escape(str(self.home))}(?![\w.-])", "~", text)


def examine(checks: Iterable[Check], censor: Censor, total_s: float) -> Iterator[Finding]:
    """The findings of all checks, as they come, without secrets; the checks have `total_s` together. May be interrupted
    at any moment."""
    deadline = time.monotonic() + total_s
    for check in checks:
        for finding in _findings(check, min(check.limit_s, deadline - time.monotonic())):
            yield replace(finding, found=censor(finding.found), remedy=censor(finding.remedy), group=check.group)


def _findings(check: Check, limit_s: float) -> Iterator[Finding]:
    if limit_s <= 0:
        yield warning(check.name, "not checked, as the checks before took too long", "mend these first")
        return
    queue: SimpleQueue[Finding | None] = SimpleQueue()
    deadline = time.monotonic() + limit_s
    Thread(target=_look, args=(check, queue), name="doctor", daemon=True).start()
    while True:
        try:
            finding = queue.get(timeout=max(deadline - time.monotonic(), 0.0))
        except Empty:
            yield broken(check.name, f"no response within {limit_s:.1f} s", "try again; the lines above may say why")
            return
        if finding is None:
            return
        yield finding


def _look(check: Check, queue: SimpleQueue[Finding | None]) -> None:
    try:
        for finding in check.look():
            queue.put(finding)
    except CambfsError as error:
        queue.put(refused(check.name, error))
    except Exception as error:
        _log.debug("unexpected", exc_info=True)
        text = f"unexpected {type(error).__name__}: {' '.join(str(error).split())}"
        queue.put(broken(check.name, text, "please report this line"))
    finally:
        queue.put(None)
