"""The layout of `cambfs status`: rich renderables made of `/.cambfs/status.json`. Pure functions, no threads.

Texts go in as `Text`, never as markup, because some come from a server.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from cambfs.text import shown_size, shown_time, visible

_Status = Mapping[str, Any]
_ERRORS_SHOWN = 5
_BAR_WIDTH = 24


def view(mounts: Sequence[_Status]) -> RenderableType:
    """All mounts, one below the other."""
    parts = [part for status in mounts for part in (Text(), _mount(status))]
    return Group(*parts[1:])


def _mount(status: _Status) -> RenderableType:
    head = _text(status["mount_point"], "bold")
    head.append(
        f"  cambfs {status['version']}, process {status['pid']}, mounted for {shown_time(status['uptime_s'])}", "dim"
    )
    rows = Table.grid(padding=(0, 2))
    rows.add_column(style="cyan", no_wrap=True)
    rows.add_column(overflow="fold")
    for name, shown in _rows(status):
        rows.add_row(name, shown)
    return Group(head, rows)


def _rows(status: _Status) -> Iterator[tuple[str, RenderableType]]:
    yield "API", _text(status["base_url"])
    yield "cache", _cache(status["cache"])
    if trouble := status["cache"].get("trouble"):  # an older version has none
        yield (
            "not cached",
            _text(f"{trouble}; new results are not kept; check the disk, or name another with --cache-dir", "red"),
        )
    yield "requests", _text(_requests(status["requests"]) or "none")
    yield "received", _text(f"{shown_size(status['received_bytes'])} of audio; retries {status['retries']}")
    ahead = status.get("read_ahead")  # a mount of an older version has none
    if ahead and ahead["results"]:
        yield "read ahead", _text(_read_ahead(ahead))
    if shared := status.get("shared"):  # an older version has none
        yield "shared", _shared(shared)
    for origin in status["origins"]:
        if origin["is_open"]:
            # Nothing tries on its own: after the time is over, the first operation that needs the origin does.
            left = origin["seconds_left"]
            when = f"in {left:.0f} s" if left >= 0.5 else "at the next request"
            yield "unreachable", _text(f"{origin['origin']}: {origin['reason']}; tried again {when}", "red")
    if count := status["tasks_awaited"]:
        yield "waiting", _text(f"for {_counted(count, 'task')}")
    if status["transfers"]:
        yield "downloads", _transfers(status["transfers"])
    for number, problem in enumerate(status.get("runs_file", [])[:_ERRORS_SHOWN]):  # an older version has none
        yield "" if number else "runs file", _text(problem, "red")
    for number, error in enumerate(status["errors"][-_ERRORS_SHOWN:]):
        line = f"{error['time']}  {error['file']}  {error['operation']} {error['errno']}: {error['what']}"
        yield "" if number else "last errors", _text(line, "red")


def _read_ahead(ahead: _Status) -> str:
    unopened = f"{ahead['unopened_results']} not opened, {shown_size(ahead['unopened_bytes'])}"
    return f"{_counted(ahead['results'], 'result')}, {shown_size(ahead['bytes'])}; {unopened}"


def _cache(cache: _Status) -> Text:
    filled = (
        f"{shown_size(cache['bytes'])} of {shown_size(cache['limit_bytes'])}, {_counted(cache['results'], 'result')}"
    )
    served = f"hits {cache['hits']}, misses {cache['misses']}, evicted {cache['evictions']}"
    return _text(f"{filled}; {served}; {cache['path'] or 'in memory'}")


def _shared(shared: _Status) -> Text:
    refusal = shared.get("refusal", "").removeprefix(f"{shared['address']}: ")  # an older version has none
    up = f"up for {shown_time(shared['for_s'])}"
    if refusal:
        up += f", but it refused a new result {shown_time(shared['refused_ago_s'])} ago: {refusal}"
    state = {None: "not needed yet", True: up}.get(shared["is_up"])
    reason = shared["reason"].removeprefix(f"{shared['address']}: ")
    down = f"down for {shown_time(shared['for_s'])}: {reason}; results come from the API"
    results = ", ".join(f"{name} {shared[name]}" for name in ("facts", "hits", "followed", "led"))
    volume = f"received {shown_size(shared['received_bytes'])}, sent {shown_size(shared['sent_bytes'])}"
    dropped = f"; {_counted(shared['dropped'], 'result')} with a wrong seal dropped" if shared["dropped"] else ""
    line = f"{shared['address']}, {state or down}; {results}; {volume}{dropped}"
    return _text(line, "red" if state is None or dropped or refusal else "")


def _counted(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"


def _requests(requests: Mapping[str, Mapping[str, int]]) -> str:
    return ", ".join(f"{kind} {sum(counts.values())}{_failures(counts)}" for kind, counts in requests.items())


def _failures(counts: Mapping[str, int]) -> str:
    shown = [f"{count} {'no response' if name == 'none' else name}" for name, count in counts.items() if name != "2xx"]
    return f" ({', '.join(shown)})" if shown else ""


def _transfers(transfers: Sequence[_Status]) -> Table:
    table = Table.grid(padding=(0, 2))
    for is_number in (False, False, True, True, True):
        table.add_column(justify="right" if is_number else "left", no_wrap=True)
    for one in transfers:
        size, count = one["size"], one["bytes"]
        bar = ProgressBar(total=size or None, completed=count, width=_BAR_WIDTH, pulse=not size)
        of = f"{shown_size(count)} of {shown_size(size)}" if size else shown_size(count)
        percent = f"{100 * count // size} %" if size else ""
        table.add_row(str(one["run_id"]), bar, percent, of, f"{shown_size(int(one['bytes_per_s']))}/s")
    return table


def _text(text: str, style: str = "") -> Text:
    return Text(visible(text), style)
