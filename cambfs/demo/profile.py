"""The demo API's behaviour: one frozen value.

Every field's help text is its contract; the command line of `cambfs.demo` is made from these fields. No threads.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal


def _doc(default: Any, text: str) -> Any:
    return field(default=default, metadata={"help": text})


@dataclass(frozen=True)
class Profile:
    """The defaults are the assumed behaviour of the real service. Raises ValueError for values that make no sense."""

    length: Literal["chunked", "content-length", "close"] = _doc(
        "chunked", "how a stream's end is marked: chunks, a Content-Length, or only by the end of the connection"
    )
    ranges: bool = _doc(
        False, "the stream takes Range (206, Content-Range, ETag, If-Range); otherwise always 200 and the whole body"
    )
    redirect: bool = _doc(False, "the stream is a 307 to the storage's origin, which streams the bytes without a key")
    storage: Literal["ranges", "no-ranges", "wav", "other", "unreachable"] = _doc(
        "ranges",
        "the stored object: takes Range, or does not; is a WAV of the run, or another FLAC than the stream (both take "
        "Range, both of another length); or its address is unreachable. HEAD is refused by all",
    )
    url_life_s: float = _doc(3600.0, "seconds until storage responds 403 to a signed URL; fractions count")
    bulk: Literal["objects", "strings", "fails", "absent"] = _doc(
        "objects", 'tts-results gives {"1": {"output_url": …}} or {"1": "…"}; or every call is a 400, or a 404'
    )
    bulk_unknown: Literal["omit", "null", "text", "fail"] = _doc(
        "omit", "an unknown run in tts-results is left out, null, an error text in the URL's place, or fails the call"
    )
    unknown_status: Literal[400, 404, 422] = _doc(400, "the status for a run that does not exist")
    forbidden: frozenset[int] = _doc(frozenset(), "runs that exist and get a 403")
    busy: int = _doc(0, "so many first requests of each kind and run get a 429 with Retry-After: 0")
    task_s: float = _doc(10.0, "seconds for which a task that was begun is pending")
    task_outcome: Literal["SUCCESS", "ERROR", "TIMEOUT", "PAYMENT_REQUIRED"] = _doc(
        "SUCCESS", "the status in which such a task ends; with SUCCESS it has made a run"
    )
    latency_s: float = _doc(0.0, "seconds before each response, of the API and of the storage")
    rate: int | None = _doc(None, "bytes a second of each stream's body; not of stored objects")
    chunk_bytes: int = _doc(256 * 1024, "bytes handed to the connection at a time; in chunked bodies one chunk")

    def __post_init__(self) -> None:
        if self.chunk_bytes < 1 or (self.rate is not None and self.rate < 1):
            raise ValueError("chunk_bytes and rate are at least 1")
        if self.url_life_s <= 0 or min(self.latency_s, self.busy, self.task_s) < 0:
            raise ValueError("url_life_s is above 0, latency_s, busy and task_s are not negative")
