"""Makes the embedded API fail at random, in every way it can, until it is stopped.

A false Content-Length is left out, because it cannot be noticed until the body has ended. So are results that change
their length: the kernel has one size for all open files of a name. Threads: one that chooses the next fault, and the
server's, which counts the faults that happened.
"""

from __future__ import annotations

import gzip
import random
import threading
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from cambfs.demo.profile import Profile
from tests.api.faults import BEFORE_HEADERS, Fault
from tests.api.server import Server

_PAUSE_S = 0.03
_MOST_PENDING = 20
_PAGE = b"<html><title>Oops</title><body>the balancer is unwell</body></html>"


class Chaos:
    """`versions` are the files that a run's result may become, of one length. A context manager; within it `paused`
    says whether all is well for now."""

    def __init__(self, server: Server, versions: Mapping[int, tuple[Path, ...]], seed: int) -> None:
        self._changes: Counter[str] = Counter()
        self._server = server
        self._versions = versions
        self._chance = random.Random(seed)
        self._calm = threading.Lock()  # held while the API is changed, and while all is to be well
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="chaos")

    @property
    def happened(self) -> Counter[str]:
        """How often each kind of trouble came."""
        return self._changes + Counter(map(_name, self._server.faults.taken))

    def __enter__(self) -> Chaos:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        self._server.heal()

    def pause(self) -> None:
        """All is well when it returns, and stays so until `resume`."""
        self._calm.acquire()
        self._server.heal()
        self._server.profile = Profile()

    def resume(self) -> None:
        self._calm.release()

    def _run(self) -> None:
        while not self._over.wait(self._chance.uniform(0, 2 * _PAUSE_S)):
            with self._calm:
                self._do_something()

    def _do_something(self) -> None:
        what = self._chance.random()
        if what < 0.9:
            self._server.fail(self._fault())
        if len(self._server.faults) > _MOST_PENDING:
            self._server.faults.clear()
        if what > 0.97:
            self._server.release()
        elif what > 0.94:
            self._server.profile = self._profile()
        elif what > 0.93:
            self._outage()
        elif what > 0.92:
            self._change()

    def _outage(self) -> None:
        self._changes["outage"] += 1
        self._server.stop()
        time.sleep(self._chance.uniform(0.1, 1.5))
        self._server.start()

    def _change(self) -> None:
        self._changes["another result"] += 1
        run_id = self._chance.choice(sorted(self._versions))
        self._server.results[run_id] = self._chance.choice(self._versions[run_id])

    def _profile(self) -> Profile:
        self._changes["another behaviour"] += 1
        chance = self._chance
        return Profile(
            length=chance.choice(("chunked", "content-length", "close")),
            ranges=chance.random() < 0.4,
            redirect=chance.random() < 0.2,
            storage=chance.choice(("ranges", "ranges", "ranges", "no-ranges", "unreachable")),
            url_life_s=chance.choice((0.2, 3600.0)),
            bulk=chance.choice(("objects", "strings", "fails", "absent")),
            busy=chance.choice((0, 0, 1)),
            latency_s=chance.choice((0.0, 0.01, 0.05)),
            rate=chance.choice((None, None, 2_000_000)),
        )

    def _fault(self) -> Fault:
        chance = self._chance
        run_id = chance.choice([None, *sorted(self._versions)])
        base = Fault(
            chance.choice(("reset", "cut", "stall", "drip")),
            target=chance.choice(("stream", "stream", "stream", "redirected", "sign", "stored", "bulk")),
            run_id=run_id,
            after_bytes=chance.choice((BEFORE_HEADERS, 0, 1, 5_000, chance.randrange(400_000))),
            times=chance.choice((1, 1, 2, 3)),
            interval_s=0.3,
        )
        if chance.random() < 0.5:
            return base
        return chance.choice((self._status, self._content, self._lie))(base)

    def _status(self, base: Fault) -> Fault:
        status = self._chance.choice((400, 401, 403, 404, 408, 422, 429, 500, 502, 503, 504))
        headers = self._chance.choice(({}, {"Retry-After": "0"}, {"Retry-After": "1"}, {"Retry-After": "soon"}))
        body = self._chance.choice((_PAGE, b'{"detail": "no"}', b"", b"\xff\x00"))
        return replace(base, kind="status", status=status, headers=headers, body=body)

    def _content(self, base: Fault) -> Fault:
        kind, body = self._chance.choice((("application/json", b'{"detail": "x"}'), ("text/html", _PAGE), ("", b"")))
        return replace(base, kind="content", content_type=kind, body=body)

    def _lie(self, base: Fault) -> Fault:
        audio = b"fLaC" + bytes(5_000)
        return self._chance.choice(
            (
                replace(base, kind="content", headers={"Content-Encoding": "gzip"}, body=gzip.compress(audio)),
                replace(base, kind="status", status=206, headers={"Content-Range": "bytes 0-99/5004"}, body=audio),
            )
        )


def _name(fault: Fault) -> str:
    if fault.kind == "status":
        return f"status {fault.status}"
    if fault.kind == "content":
        return "gzip" if fault.headers else f"200 with {fault.content_type or 'nothing'}"
    return f"{fault.kind} before the headers" if fault.after_bytes == BEFORE_HEADERS else fault.kind
