"""What all runs of a mount share: sources, cache, limits, and the observed behaviour of the API.

Values that are put together once. No threads.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from threading import Event

from cambfs.cache.cache import Cache
from cambfs.cache.commit_queue import CommitQueue
from cambfs.remote.object_store import ObjectStore
from cambfs.remote.outlook import Outlook
from cambfs.remote.signer import Signer
from cambfs.remote.source import Source
from cambfs.remote.speculation import Speculation
from cambfs.system.workers import Workers
from cambfs.tier.tier import Tier
from cambfs.transfers.ahead_counts import AheadCounts
from cambfs.transfers.slots import Slots


@dataclass(frozen=True)
class Tuning:
    """Times in seconds, distances in bytes.

    linger_s          how long a stream that is no longer wanted waits for a new reader before it ends
    leads_idle_s      after so long without bytes, a stream for which no caller waits is left to other machines
    nearly_bytes      a result with at most so much missing is completed after the last close
    span_bytes        the length of a range for a single read far ahead; a reader that goes on from there gets the rest
    overtake_bytes    a stream that meets a range under way goes on in its place unless so many bytes of it are here
    far_bytes, far_s  a byte is far when the stream is so many bytes, and so many seconds, behind it
    rate_after_s      the rate of a younger stream is unknown
    probe_takes_s     after so long without an answer from storage, or half of the timeout, the stream is asked for the
                      size, too, and the time is settled without storage
    header_takes_s    after so long without headers of the stream, or half of the timeout, storage is asked for the size
    end_takes_s       how long an unproven end waits for storage
    stored_worth_bytes   a range from storage that brings less before it breaks is not worth another
    unknown_for_s     how long an unknown run is not requested again; it may be created, so not longer
    stalled_after_s   after so long without bytes a transfer gives its slot up; checked every `look_every_s`
    beside_bytes, beside_s   results are fetched ahead beside one of their sequence that has at most so much missing,
                      and gets that in so many seconds: then round trips are what its reader waits for, and not the link
    unopened_looks    after so many `stat`s of single results without an open, a `stat` requests no audio any more
    close_s           how long unmounting waits for transfers to end
    """

    linger_s: float = 2.0
    leads_idle_s: float = 0.5
    nearly_bytes: int = 1 << 20
    span_bytes: int = 512 * 1024
    overtake_bytes: int = 4 << 20
    far_bytes: int = 1 << 20
    far_s: float = 0.3
    rate_after_s: float = 0.05
    probe_takes_s: float = 2.0
    header_takes_s: float = 1.0
    end_takes_s: float = 3.0
    stored_worth_bytes: int = 1 << 20
    unknown_for_s: float = 5.0
    stalled_after_s: float = 1.0
    look_every_s: float = 0.01
    beside_bytes: int = 4 << 20
    beside_s: float = 2.0
    unopened_looks: int = 2
    close_s: float = 1.0


@dataclass
class ObservedApi:
    """What the API has done in this mount; None before. Any thread writes these single values, and the last write wins.
    `bytes_per_s` is the rate of the last stream that was long enough to show it."""

    stream_has_length: bool | None = None
    stream_tells_time: bool | None = None
    gives_ranges: bool | None = None
    bytes_per_s: float | None = None


@dataclass(frozen=True)
class Context:
    """`timeout_s` is the longest time without progress, `max_result_bytes` the largest result. `closing` is set when
    the mount ends. `shared` is None when results are not shared with other machines."""

    source: Source
    signer: Signer
    store: ObjectStore
    outlook: Outlook
    speculation: Speculation
    cache: Cache
    slots: Slots
    workers: Workers
    commits: CommitQueue
    closing: Event
    timeout_s: float
    max_result_bytes: int
    tuning: Tuning
    shared: Tier | None = None
    api: ObservedApi = field(default_factory=ObservedApi)
    ahead_counts: AheadCounts = field(default_factory=AheadCounts)


def make_context(
    source: Source,
    cache: Cache,
    *,
    timeout_s: float = 30.0,
    max_transfers: int = 64,
    max_result_bytes: int = 4 << 30,
    tuning: Tuning | None = None,
    shared: Tier | None = None,
) -> Context:
    workers, closing, tuning = Workers(), Event(), tuning or Tuning()
    speculation = Speculation()
    source = speculation.source(source)
    signer = Signer(source, workers, timeout_s, closing, speculation)
    return Context(
        source=source,
        signer=signer,
        store=ObjectStore(source, signer, workers, timeout_s, closing),
        outlook=Outlook(source, workers),
        speculation=speculation,
        cache=cache,
        slots=Slots(max_transfers, tuning.stalled_after_s, tuning.look_every_s),
        workers=workers,
        commits=CommitQueue(workers),
        closing=closing,
        timeout_s=timeout_s,
        max_result_bytes=max_result_bytes,
        tuning=tuning,
        shared=shared,
    )
