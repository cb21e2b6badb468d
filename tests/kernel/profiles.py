"""Every way in which the API may behave, and the warnings of a mount then."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from cambfs.demo.profile import Profile

DIFFERS = "storage has another file than the stream"


@dataclass(frozen=True)
class Case:
    """`expected` as for a Mount. `sizes_cost_audio`: storage reports no sizes, so a bare stat fetches the result."""

    profile: Profile
    expected: tuple[str, ...] = ()
    sizes_cost_audio: bool = False


CASES: Mapping[str, Case] = {
    "chunked": Case(Profile()),
    "content-length": Case(Profile(length="content-length")),
    "close": Case(Profile(length="close")),
    "content-length-ranges": Case(Profile(length="content-length", ranges=True)),
    "chunked-ranges": Case(Profile(ranges=True)),
    "small-chunks": Case(Profile(chunk_bytes=5_000)),
    "late": Case(Profile(latency_s=0.02, rate=40_000_000)),
    "busy": Case(Profile(busy=1)),
    "storage-without-ranges": Case(Profile(storage="no-ranges"), (), True),
    "storage-wav": Case(Profile(storage="wav"), (DIFFERS,), True),
    "storage-other": Case(Profile(storage="other"), (DIFFERS,), True),
    "storage-unreachable": Case(Profile(storage="unreachable"), (), True),
    "expiring-urls": Case(Profile(url_life_s=0.2)),
    "redirect": Case(Profile(redirect=True)),
    "redirect-content-length-ranges": Case(Profile(redirect=True, length="content-length", ranges=True)),
    "redirect-expiring-close": Case(Profile(redirect=True, length="close", url_life_s=0.2)),
    "bulk-strings": Case(Profile(bulk="strings")),
    "bulk-fails": Case(Profile(bulk="fails", bulk_unknown="fail")),
    "bulk-absent": Case(Profile(bulk="absent")),
    "close-storage-unreachable": Case(Profile(length="close", storage="unreachable"), (), True),
    "content-length-storage-unreachable": Case(Profile(length="content-length", storage="unreachable"), (), True),
    "content-length-storage-other": Case(
        Profile(length="content-length", ranges=True, storage="other"), ("?" + DIFFERS,), True
    ),
}
