"""The extended attributes of a `.flac` file: what is known about a result at this moment, without a request.

`adapter` passes them to the kernel. Threads: any; no state.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from cambfs import audio
from cambfs.model import Arrived
from cambfs.names import Kind, parse_name
from cambfs.runs.library import Library

_MIME_TYPES = {"FLAC": "audio/flac", "WAV": "audio/x-wav", "Ogg": "audio/ogg", "MP3": "audio/mpeg", "MP4": "audio/mp4"}


class Xattrs:
    """`base_url` is the API's; `last_error` returns the last failure of a file in one line, or None."""

    def __init__(self, library: Library, base_url: str, last_error: Callable[[str], str | None]) -> None:
        self._library = library
        self._base_url = base_url.rstrip("/")
        self._last_error = last_error

    def of(self, path: str) -> Mapping[str, bytes]:
        """All attributes that a file has now, by name; none if it is not audio."""
        found = parse_name(path.removeprefix("/"))
        if found is None or found[1] is not Kind.FLAC:
            return {}
        run_id, arrived = found[0], self._library.arrived(found[0])
        values = {
            "user.mime_type": _mime_type(arrived),
            "user.xdg.origin.url": f"{self._base_url}/tts-result/{run_id}",
            "user.cambfs.run_id": str(run_id),
            "user.cambfs.state": _state(arrived),
            "user.cambfs.sha256": arrived.sha256 if arrived is not None else None,
            "user.cambfs.error": self._last_error(path.removeprefix("/")),
        }
        return {name: value.encode() for name, value in values.items() if value}


def _mime_type(arrived: Arrived | None) -> str | None:
    """The type of the first bytes, once they are here: labels and names prove nothing."""
    container = None if arrived is None else audio.signature(arrived.head)
    return None if container is None else _MIME_TYPES[container]


def _state(arrived: Arrived | None) -> str:
    if arrived is None or not arrived.received:
        return "remote"
    if arrived.is_cached:
        return "cached"
    return f"partial {100 * arrived.received // arrived.size}%" if arrived.size else "partial"
