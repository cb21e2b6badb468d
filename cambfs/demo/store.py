"""The demo's state: which runs and tasks the API has, how it behaves, and the signed URLs of its results.

HTTP is elsewhere. `results`, `profile` and `key` may be changed by any thread while the server's thread reads them. The
counters of refused requests belong to the server's thread.
"""

from __future__ import annotations

import hashlib
import hmac
import math
import os
import time
import uuid
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import parse_qs, urlencode

from cambfs.demo import audio
from cambfs.demo.audio import Audio
from cambfs.demo.profile import Profile

_SIGNATURE = "&X-Amz-Signature="


@dataclass
class Task:
    """A task of one endpoint ("tts" or "translated-tts"): pending for `takes_s` from `began_at` on, or from the first
    question about it when that is None. Then it ends with `outcome`, and with SUCCESS the run has the audio in `path`.
    """

    endpoint: str
    run_id: int
    path: Path
    takes_s: float = 10.0
    outcome: str = "SUCCESS"
    began_at: float | None = None


class Store:
    """State that the API and the storage share."""

    def __init__(self, results: Mapping[int, Path], profile: Profile, key: str) -> None:
        self.results = dict(results)
        self.key = key
        self.storage_url = ""
        self.closed_url = ""
        self._secret = os.urandom(32)
        self.tasks: dict[str, Task] = {}
        self._refused: Counter[tuple[str, object]] = Counter()
        self._profile = profile

    @property
    def profile(self) -> Profile:
        return self._profile

    @profile.setter
    def profile(self, profile: Profile) -> None:
        self._profile = profile
        self._refused = Counter()

    def is_busy(self, kind: str, thing: object) -> bool:
        """Whether this request is one of the first about a run or a task that are refused."""
        if self._refused[kind, thing] >= self.profile.busy:
            return False
        self._refused[kind, thing] += 1
        return True

    def begin_task(self, endpoint: str) -> str:
        """The id of a new task, which will make a run with the audio of the first one."""
        task_id = str(uuid.uuid4())
        run_id = max([*self.results, *(task.run_id for task in self.tasks.values())]) + 1
        path = next(iter(self.results.values()))
        profile = self.profile
        self.tasks[task_id] = Task(endpoint, run_id, path, profile.task_s, profile.task_outcome, time.monotonic())
        return task_id

    def status_of(self, task: Task) -> str:
        """As the API tells it now. The run of a task exists from its success on."""
        now = time.monotonic()
        if task.began_at is None:
            task.began_at = now
        if now - task.began_at < task.takes_s:
            return "PENDING"
        if task.outcome == "SUCCESS":
            self.results.setdefault(task.run_id, task.path)
        return task.outcome

    def streamed(self, run_id: int) -> Audio:
        """The API's stream for a run. Raises KeyError for an unknown run, OSError when its file is gone."""
        return audio.read(self.results[run_id])

    def stored(self, run_id: int) -> Audio:
        """Storage's object for a run. Raises as `streamed` does."""
        found = self.streamed(run_id)
        if self.profile.storage == "wav":
            found = audio.as_wav(found)
        elif self.profile.storage == "other":
            found = audio.as_other(found)
        # Two services do not agree on ETags, not even for the same bytes.
        return replace(found, etag=f'"{self.profile.storage}-{found.etag[1:]}')

    def sign(self, run_id: int) -> str:
        """A URL of the run's stored object, another at each call."""
        base = self.closed_url if self.profile.storage == "unreachable" else self.storage_url
        return base + self._signed(f"/files/audio_{run_id}.flac", self.profile.url_life_s)

    def redirection(self, run_id: int) -> str:
        return self.storage_url + self._signed(f"/streams/audio_{run_id}.flac", self.profile.url_life_s)

    def _signed(self, path: str, life_s: float) -> str:
        now = time.time()
        query = urlencode(
            {
                "X-Amz-Algorithm": "AWS4-HMAC-SHA256",
                "X-Amz-Credential": "demo/loopback/s3/aws4_request",
                "X-Amz-Date": time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(now)),
                "X-Amz-Expires": math.ceil(life_s),
                # X-Amz-… counts whole seconds; this instant is checked instead, so that a life may be shorter.
                "until": f"{now + life_s:.6f}",
                "nonce": uuid.uuid4().hex,
            }
        )
        return f"{path}?{query}{_SIGNATURE}{self._signature(path, query)}"

    def is_signed(self, path: str, query: str) -> bool:
        query, _, signature = query.partition(_SIGNATURE)
        return hmac.compare_digest(signature.encode(), self._signature(path, query).encode())

    def is_expired(self, query: str) -> bool:
        """Whether a URL has expired; its signature has been checked."""
        return time.time() > float(parse_qs(query)["until"][0])

    def _signature(self, path: str, query: str) -> str:
        return hmac.new(self._secret, f"GET\n{path}\n{query}".encode(), hashlib.sha256).hexdigest()
