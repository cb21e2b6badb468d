"""Runs, ranges of runs and tasks as a user writes them. Pure functions, no threads."""

from __future__ import annotations

import itertools
from collections.abc import Iterable

from cambfs.names import RunId, TaskId, parse_run_id, parse_task_id
from cambfs.text import quoted

MAX_DECLARED_RUNS = 1_000_000


def parse_runs(text: str) -> list[range]:
    """The runs in a list like `1-100,205`, in the order written. Raises ValueError with a sentence."""
    return [_parse_range(item) for item in text.split(",")] if text.strip() else []


def parse_item(text: str) -> range | TaskId:
    """A run, a range or a task, whose id may be in upper case. Raises ValueError with a sentence."""
    return parse_task_id(text.strip().lower()) or _parse_range(text)


def expand(ranges: Iterable[range]) -> tuple[RunId, ...]:
    """The runs in all `ranges`, ascending, each once. Raises ValueError when there are more than MAX_DECLARED_RUNS."""
    merged: list[range] = []
    for runs in sorted(ranges, key=lambda runs: runs.start):
        if merged and runs.start <= merged[-1].stop:
            merged[-1] = range(merged[-1].start, max(merged[-1].stop, runs.stop))
        else:
            merged.append(runs)
    count = sum(runs.stop - runs.start for runs in merged)
    if count > MAX_DECLARED_RUNS:
        raise ValueError(f"{count:,} runs are declared; at most {MAX_DECLARED_RUNS:,} can be listed (any run opens)")
    return tuple(map(RunId, itertools.chain.from_iterable(merged)))


def _parse_range(item: str) -> range:
    item = item.strip()
    first, dash, last = (part.strip() for part in item.partition("-"))
    start, end = parse_run_id(first), parse_run_id(last if dash else first)
    if parse_task_id(item.lower()) is not None:
        raise ValueError(f"{quoted(item)} is a task id; name the run_id of the finished task")
    if start is None or end is None:
        raise ValueError(f"{quoted(item)} is not a run id or a range like 1-100")
    if end < start:
        raise ValueError(f"{item!r} is a range that descends; write {end}-{start}")
    return range(start, end + 1)
