"""Tries cases on real mounts: a healthy neighbour before, the case, a healthy neighbour after; then what was kept.

A lane is the trials that share one mount, one server and one reader. What is wrong is collected, not raised, so that
every trial of a lane is judged. Threads: a lane runs in one; lanes run beside each other.
"""

from __future__ import annotations

import json
import re
import select
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.hostile import audio
from tests.hostile.case import RIGHT, Case
from tests.hostile.judging import Answer, judge, name_of, shown_url
from tests.hostile.server import HostileServer, Script
from tests.hostile.trials import Trial
from tests.kernel.harness import PYTHON, Hung, Mount

READER = str(Path(__file__).with_name("reader.py"))
TIMEOUT_S = 3.0
# An operation may ask both the storage and the API, each for the timeout, and two cores are busy.
_LIMIT_S = 20.0
_STRANGER = 1
# Healthy runs that are read at the end: enough to use every connection that was kept once more.
_LAST = range(2, 10)
# A client may let a connection rest before it uses it again.
_REST_S = 0.1
# Any message about such servers, but no unexpected error.
_UNFORESEEN = re.compile(r"Traceback|unexpected|nobody foresaw|internal error")


@dataclass
class Outcome:
    """The reader's result ("right", or names of errnos), its time, whether the run was in the cache afterwards, and all
    mistakes."""

    got: str = ""
    seconds: float = 0.0
    is_kept: bool = False
    problems: list[str] = field(default_factory=list)


class Lane:
    """`run` does all of it, once. `server` is set by then."""

    def __init__(self, trials: Sequence[Trial], directory: Path) -> None:
        self._trials = trials
        self._directory = directory
        self.outcomes = {trial.id: Outcome() for trial in trials}
        directory.mkdir()

    def run(self) -> dict[str, Outcome]:
        self._make_scripts()
        home = self._directory / "home"
        with HostileServer(self._scripts, self._stranger) as self.server:
            with self._mounted(home) as self._mount, reading(self._mount) as self._reader:
                for trial in self._trials:
                    self._try(trial, self.outcomes[trial.id])
                self._use_all_connections()
            self._check_connections()
            self._check_log()
            self._check_cache()
            if any(not trial.case.is_alone for trial in self._trials):
                self._read_again(home)
        return self.outcomes

    def _make_scripts(self) -> None:
        neighbours = [
            _STRANGER,
            *_LAST,
            *(run_id for trial in self._trials for run_id in (trial.first, trial.first + 2, trial.first + 3)),
        ]
        large = [trial.run_id for trial in self._trials if trial.case.is_large]
        small = [trial.run_id for trial in self._trials if not trial.case.is_large]
        made = audio.make(self._directory, neighbours, small, large)
        self._stranger = made.pop(_STRANGER)
        self._scripts = {run_id: Script(content) for run_id, content in made.items()}
        for trial in self._trials:
            self._scripts[trial.run_id] = trial.case.script(made[trial.run_id])

    @contextmanager
    def _mounted(self, home: Path) -> Iterator[Mount]:
        options = ["--timeout", f"{TIMEOUT_S:g}s"]
        if self._trials[0].mode == "list_all":
            options += ["--runs", ",".join(map(str, self._trials[0].run_ids))]
        with Mount(self.server, home, *options, expected=["?."]) as mount:
            yield mount

    def _right(self, trial: Trial) -> list[bytes]:
        """All that counts as the right bytes of a trial's run."""
        content = self._scripts[trial.run_id].content
        return [content, *trial.case.versions(content, self._stranger)]

    def _try(self, trial: Trial, outcome: Outcome) -> None:
        if trial.mode == "list_all":
            self._list(trial, outcome)
        else:
            self._read_neighbour(trial.first, "before", outcome)
        self._read_case(trial, outcome)
        listed_with = trial.case if trial.mode == "list_all" else None
        self._read_neighbour(trial.first + 2, "after", outcome, listed_with)
        self._check_requests(trial, outcome)
        self._check_surroundings(trial, outcome)
        outcome.problems += self._wrong_in_cache(trial)

    def _list(self, trial: Trial, outcome: Outcome) -> None:
        self._read_neighbour(trial.first + 3, "before the listing", outcome)
        answer = self._reader.ask("list_all", ".")
        names = answer.reads[0].data.decode().split()
        for name, size in zip(names, answer.sizes, strict=True):
            right = len(self._scripts[int(name.removesuffix(".flac"))].content)
            if isinstance(size, int) and trial.case.may_claim_size:
                continue
            if size != right and size not in trial.case.want:
                outcome.problems.append(f"{name} is listed with {size} bytes, and has {right}")

    def _read_neighbour(self, run_id: int, when: str, outcome: Outcome, case: Case | None = None) -> None:
        """A healthy one, unless it was listed together with a case's run."""
        answer = self._reader.ask("stat", f"{run_id}.flac")
        want, is_size_open = (case.want, case.is_size_open) if case else (RIGHT, lambda _: False)
        _, problems = judge(answer, [self._scripts[run_id].content], want, self._name, is_size_open=is_size_open)
        outcome.problems += [f"the neighbour {when}: {problem}" for problem in problems]

    def _read_case(self, trial: Trial, outcome: Outcome) -> None:
        begin = time.monotonic()
        mode = "whole" if trial.mode == "list_all" else trial.mode
        answer = self._reader.ask(mode, f"{trial.run_id}.flac")
        outcome.seconds = time.monotonic() - begin
        if all(read.end == "end" for read in answer.reads):
            answer.sizes.extend(self._reader.ask("size", f"{trial.run_id}.flac").sizes)
        want, right = trial.case.want, self._right(trial)
        outcome.got, problems = judge(answer, right, want, self._name, is_size_open=trial.case.is_size_open)
        outcome.problems += problems

    def _check_requests(self, trial: Trial, outcome: Outcome) -> None:
        mine = [record for record in self.server.requests if record.run_id == trial.run_id]
        if missing := trial.case.hostile_kinds - {record.kind for record in mine if record.was_scripted}:
            outcome.problems.append(f"what the case is about was never asked for: {name_of(missing)}")

    def _check_surroundings(self, trial: Trial, outcome: Outcome) -> None:
        case = trial.case
        if case.url and (url := shown_url(self._reader.ask("whole", f"{trial.run_id}.url"))) not in case.url:
            outcome.problems.append(f".url gave {url}, not {name_of(case.url)}")
        if case.error_log and outcome.got != "right":
            lines = (self._mount.path / ".cambfs" / "errors").read_text().splitlines()
            if not any(f"{trial.run_id}.flac\t" in line and re.search(case.error_log, line) for line in lines):
                outcome.problems.append(f"nothing about {case.error_log!r} in .cambfs/errors")

    def _name(self, data: bytes) -> str:
        """A description of wrong bytes."""
        for run_id, script in self._scripts.items():
            if data and data in script.content:
                return f"bytes of run {run_id}"
        return "the stranger's audio" if data and data in self._stranger else f"{data[:60]!r}"

    # Afterwards.

    def _use_all_connections(self) -> None:
        """Those that were kept, also if they are used again only after a while."""
        time.sleep(_REST_S)
        last = Outcome()
        for run_id in _LAST:
            self._read_neighbour(run_id, "at the end", last)
        for problem in last.problems:
            self._all_have(problem)

    def _check_connections(self) -> None:
        for trial in self._trials:
            scripted = [(trial.run_id, kind) for kind in trial.case.hostile_kinds]
            again = [record for record in self.server.requests if record.follows in scripted]
            if trial.case.is_odd and again:
                problem = f"the connection was used again after an odd response, for {again[0].kind}"
                self.outcomes[trial.id].problems.append(problem)

    def _cached(self) -> dict[int, bytes]:
        return {int(path.stem): path.read_bytes() for path in self._mount.cache_dir.glob("*/*.flac")}

    def _wrong_in_cache(self, trial: Trial) -> list[str]:
        right = {run_id: [self._scripts[run_id].content] for run_id in trial.run_ids}
        right[trial.run_id] = self._right(trial)
        found = {run_id: content for run_id, content in self._cached().items() if run_id in right}
        return [
            f"run {run_id} is in the cache with other bytes: {len(content)} of {len(right[run_id][0])}"
            for run_id, content in found.items()
            if content not in right[run_id]
        ]

    def _check_cache(self) -> None:
        """Unmounted: the results to be kept are kept."""
        cached = self._cached()
        for trial in self._trials:
            outcome = self.outcomes[trial.id]
            outcome.is_kept = trial.run_id in cached
            outcome.problems += self._wrong_in_cache(trial)
            if trial.case.is_kept not in (None, outcome.is_kept):
                outcome.problems.append(f"{'' if outcome.is_kept else 'not '}in the cache afterwards")

    def _check_log(self) -> None:
        if found := _UNFORESEEN.search(self._mount.log):
            lines = self._mount.log[found.start() :].splitlines()
            self._all_have(f"the log says: {lines[:1] + lines[-1:]}")

    def _all_have(self, problem: str) -> None:
        for outcome in self.outcomes.values():
            outcome.problems.append(problem)

    def _read_again(self, home: Path) -> None:
        """A new mount: cached results are served from the cache, and right."""
        cached, asked = self._cached(), len(self.server.requests)
        with self._mounted(home) as self._mount, reading(self._mount) as reader:
            for trial in self._trials:
                for run_id in set(trial.run_ids) & set(cached):
                    right = self._right(trial) if run_id == trial.run_id else [self._scripts[run_id].content]
                    _, problems = judge(reader.ask("stat", f"{run_id}.flac"), right, RIGHT, self._name)
                    self.outcomes[trial.id].problems += [f"mounted again, run {run_id}: {what}" for what in problems]
        if again := [record for record in self.server.requests[asked:] if record.kind == "stream"]:
            self._all_have(f"mounted again, what was cached was asked for: {again}")


class Reader:
    """A process that reads in the mount. Raises Hung, when the mount was killed to free it, rather than wait long."""

    def __init__(self, mount: Mount, process: subprocess.Popen[bytes]) -> None:
        self._mount = mount
        assert process.stdin is not None
        assert process.stdout is not None
        self._stdin, self._stdout = process.stdin, process.stdout

    def ask(self, mode: str, name: str) -> Answer:
        self._stdin.write(f"{mode} {name}\n".encode())
        self._stdin.flush()
        ready, _, _ = select.select([self._stdout], [], [], _LIMIT_S)
        if not ready:
            self._mount.kill()
            raise Hung(f"{mode} {name} did not end within {_LIMIT_S:g} s; the log:\n{self._mount.log}")
        found: dict[str, Any] = json.loads(self._stdout.readline())
        return Answer.parse(found)


@contextmanager
def reading(mount: Mount) -> Iterator[Reader]:
    with mount.start([*PYTHON, READER]) as process:
        yield Reader(mount, process)
