"""What all runs of a mount share: where bytes come from and go to, limits, and what the API was seen to do.

Values, put together once. No threads of its own.
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
from cambfs.system.slots import Slots
from cambfs.system.workers import Workers


@dataclass(frozen=True)
class Tuning:
    """Times in seconds, distances in bytes.

    linger_s          a stream that nobody wants any more waits so long for somebody, then ends
    nearly_bytes      what is left of a result that is finished all the same
    span_bytes        what is fetched for a reader that looks at one place; one that reads on from there gets a stream
    far_bytes, far_s  a byte is far when it is this far ahead of the stream, and would come this much later
    rate_after_s      a stream younger than that has not shown how fast it is
    probe_takes_s     who needs the size waits so long for storage, then asks the stream as well
    end_takes_s       an end that nothing else proves waits so long for storage's word
    stored_worth_bytes   a range from storage that brings less before it breaks is not worth another
    unknown_for_s     a run that the API does not know is not asked for again so soon; it may come to be, so not longer
    close_s           unmounting waits so long for transfers to end; what is left then ends with the process
    """

    linger_s: float = 2.0
    nearly_bytes: int = 1 << 20
    span_bytes: int = 512 * 1024
    far_bytes: int = 1 << 20
    far_s: float = 0.3
    rate_after_s: float = 0.05
    probe_takes_s: float = 2.0
    end_takes_s: float = 3.0
    stored_worth_bytes: int = 1 << 20
    unknown_for_s: float = 5.0
    close_s: float = 1.0


@dataclass
class ObservedApi:
    """What the API was seen to do in this mount; None before. Single words, written by any thread: the last to learn is
    right. `bytes_per_s` is how fast the last stream came that went on for long enough to show it."""

    stream_has_length: bool | None = None
    bytes_per_s: float | None = None


@dataclass(frozen=True)
class Context:
    """`timeout_s` is how long nothing may come, `max_result_bytes` how large a result may be. `closing` is set when the
    mount ends."""

    source: Source
    signer: Signer
    store: ObjectStore
    outlook: Outlook
    cache: Cache
    slots: Slots
    workers: Workers
    commits: CommitQueue
    closing: Event
    timeout_s: float
    max_result_bytes: int
    tuning: Tuning
    api: ObservedApi = field(default_factory=ObservedApi)


def make_context(
    source: Source,
    cache: Cache,
    *,
    timeout_s: float = 30.0,
    max_transfers: int = 64,
    max_result_bytes: int = 4 << 30,
    tuning: Tuning | None = None,
) -> Context:
    workers, closing = Workers(), Event()
    signer = Signer(source, workers, timeout_s, closing)
    return Context(
        source=source,
        signer=signer,
        store=ObjectStore(source, signer, workers, timeout_s, closing),
        outlook=Outlook(source, workers),
        cache=cache,
        slots=Slots(max_transfers),
        workers=workers,
        commits=CommitQueue(workers),
        closing=closing,
        timeout_s=timeout_s,
        max_result_bytes=max_result_bytes,
        tuning=tuning or Tuning(),
    )
