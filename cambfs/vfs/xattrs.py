"""The extended attributes of a `.flac` file: what is known of a result at this moment, without a request.

Not how the kernel asks for them (`adapter`). Threads: any; no state.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from cambfs import audio
from cambfs.names import Kind, RunId, parse_name
from cambfs.runs.library import Library

_MIME_TYPES = {"FLAC": "audio/flac", "WAV": "audio/x-wav", "Ogg": "audio/ogg", "MP3": "audio/mpeg", "MP4": "audio/mp4"}


class Xattrs:
    """`base_url` is the API's; `last_error` gives the last failure of a file in one line, None when there was none."""

    def __init__(self, library: Library, base_url: str, last_error: Callable[[str], str | None]) -> None:
        self._library = library
        self._base_url = base_url.rstrip("/")
        self._last_error = last_error
        self._values: Mapping[str, Callable[[RunId], str | None]] = {
            "user.mime_type": self._mime_type,
            "user.xdg.origin.url": lambda run_id: f"{self._base_url}/tts-result/{run_id}",
            "user.cambfs.run_id": str,
            "user.cambfs.state": self._state,
            "user.cambfs.sha256": self._sha256,
            "user.cambfs.error": lambda run_id: self._last_error(f"{run_id}.{Kind.FLAC.value}"),
        }

    def value(self, path: str, name: str) -> bytes | None:
        """None when there is no such attribute now."""
        run_id, value_of = _run_of(path), self._values.get(name)
        value = None if run_id is None or value_of is None else value_of(run_id)
        return None if value is None else value.encode()

    def names(self, path: str) -> list[str]:
        """Those of which `value` is not None."""
        return [name for name in self._values if self.value(path, name) is not None]

    def _mime_type(self, run_id: RunId) -> str | None:
        """What the first bytes are, once they are here: labels and names prove nothing."""
        arrived = self._library.arrived(run_id)
        container = None if arrived is None else audio.signature(arrived.head)
        return None if container is None else _MIME_TYPES[container]

    def _state(self, run_id: RunId) -> str:
        arrived = self._library.arrived(run_id)
        if arrived is None or not arrived.received:
            return "remote"
        if arrived.is_cached:
            return "cached"
        return f"partial {100 * arrived.received // arrived.size}%" if arrived.size else "partial"

    def _sha256(self, run_id: RunId) -> str | None:
        arrived = self._library.arrived(run_id)
        return (arrived.sha256 or None) if arrived is not None and arrived.is_cached else None


def _run_of(path: str) -> RunId | None:
    found = parse_name(path.removeprefix("/"))
    return found[0] if found is not None and found[1] is Kind.FLAC else None
