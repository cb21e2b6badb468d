"""The status files of `/.cambfs`, for programs: JSON, Prometheus' text format, and a list.

Threads: any.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from cambfs.shared.counts import Usage
from cambfs.status.monitor import Monitor, Snapshot

_SHARED_RESULTS = ("facts", "hits", "followed", "led", "dropped")

_Sample = tuple[Mapping[str, str], float]


def files(monitor: Monitor) -> Mapping[str, Callable[[], bytes]]:
    """Name → a function that returns its content."""
    return {
        "status.json": lambda: monitor.snapshot().as_json(),
        "metrics": lambda: metrics(monitor.snapshot()),
        "known": lambda: "".join(f"{run_id}\n" for run_id in monitor.known()).encode(),
    }


def metrics(snapshot: Snapshot) -> bytes:
    """In the text format of Prometheus, version 0.0.4."""
    return "".join(_lines(snapshot)).encode()


def _lines(snapshot: Snapshot) -> Iterator[str]:
    cache, counts = snapshot.cache, snapshot.counts
    about = {"version": snapshot.version, "base_url": snapshot.base_url, "mount_point": snapshot.mount_point}
    requests = [({"kind": kind, "status": status}, n) for (kind, status), n in sorted(counts.requests.items())]
    down = [({"origin": state.origin}, float(state.is_open)) for state in snapshot.origins]
    yield from _family("info", "gauge", "What is mounted where.", (about, 1))
    yield from _family("start_time_seconds", "gauge", "When it was mounted, since the epoch.", ({}, snapshot.started_s))
    yield from _family("cache_bytes", "gauge", "Size of the cached results.", ({}, cache.bytes))
    yield from _family("cache_limit_bytes", "gauge", "Size limit of the cache.", ({}, cache.limit_bytes))
    yield from _family("cache_results", "gauge", "Number of cached results.", ({}, cache.results))
    yield from _family("cache_hits_total", "counter", "Uses of results that were cached.", ({}, cache.hits))
    yield from _family("cache_misses_total", "counter", "Uses of results that were not.", ({}, cache.misses))
    yield from _family("cache_evictions_total", "counter", "Results evicted by this mount.", ({}, cache.evictions))
    yield from _family("transfers", "gauge", "Results that are being downloaded.", ({}, len(snapshot.transfers)))
    yield from _family("tasks_awaited", "gauge", "Tasks that processes wait for.", ({}, snapshot.tasks_awaited))
    yield from _family("requests_total", "counter", "Requests by kind and class of the status.", *requests)
    yield from _family("retries_total", "counter", "Requests that repeat a failed one.", ({}, counts.retries))
    yield from _family("received_bytes_total", "counter", "Bytes of audio received.", ({}, counts.received_bytes))
    ahead = snapshot.read_ahead
    yield from _family("read_ahead_results_total", "counter", "Results fetched ahead of an open.", ({}, ahead.results))
    yield from _family("read_ahead_bytes_total", "counter", "Bytes fetched ahead of an open.", ({}, ahead.bytes))
    yield from _family("read_ahead_unopened_results", "gauge", "Those not opened since.", ({}, ahead.unopened_results))
    yield from _family("read_ahead_unopened_bytes", "gauge", "Their bytes.", ({}, ahead.unopened_bytes))
    yield from _family("origin_down", "gauge", "Whether an origin is considered down.", *down)
    if snapshot.shared is not None:
        yield from _shared(snapshot.shared)


def _shared(usage: Usage) -> Iterator[str]:
    results = [({"kind": name}, float(getattr(usage, name))) for name in _SHARED_RESULTS]
    up: list[_Sample] = [] if usage.is_up is None else [({}, float(usage.is_up))]
    yield from _family("shared_up", "gauge", "Whether the shared cache responds.", *up)
    refuses: _Sample = ({}, float(bool(usage.refusal)))
    yield from _family("shared_refuses", "gauge", "Whether it refused the last new result.", refuses)
    yield from _family("shared_results_total", "counter", "Results by what the shared cache did for them.", *results)
    yield from _family(
        "shared_received_bytes_total", "counter", "Audio from the shared cache.", ({}, usage.received_bytes)
    )
    yield from _family("shared_sent_bytes_total", "counter", "Audio put into the shared cache.", ({}, usage.sent_bytes))


def _family(name: str, kind: str, text: str, *samples: _Sample) -> Iterator[str]:
    yield f"# HELP cambfs_{name} {text}\n# TYPE cambfs_{name} {kind}\n"
    for labels, value in samples:
        shown = ",".join(f'{label}="{_escaped(text)}"' for label, text in labels.items())
        yield f"cambfs_{name}{{{shown}}} {value}\n" if shown else f"cambfs_{name} {value}\n"


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
