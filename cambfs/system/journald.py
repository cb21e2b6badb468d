"""Logging to the systemd journal in its native protocol: one datagram an entry, with values that may hold anything.

Losing entries is better than waiting, and the log file has them, too. No threads; a handler has the lock of `logging`.
"""

from __future__ import annotations

import logging
import socket
import struct
from contextlib import suppress
from pathlib import Path

SOCKET = Path("/run/systemd/journal/socket")
# Beyond the size of a datagram the protocol requires a file instead.
_MAX_MESSAGE_BYTES = 32 * 1024
_PRIORITIES = ((logging.CRITICAL, 2), (logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6))
_DEBUG = 7


class JournaldHandler(logging.Handler):
    """Sends records to the journal at `path`; drops those that it cannot take at once."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = str(path)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)

    def emit(self, record: logging.LogRecord) -> None:
        message = self.format(record).encode("utf-8", "backslashreplace")[:_MAX_MESSAGE_BYTES]
        priority = next((number for level, number in _PRIORITIES if record.levelno >= level), _DEBUG)
        fields = {"MESSAGE": message, "PRIORITY": b"%d" % priority, "SYSLOG_IDENTIFIER": b"cambfs"}
        with suppress(OSError):
            self._socket.sendto(b"".join(map(_field, fields, fields.values())), socket.MSG_DONTWAIT, self._path)

    def close(self) -> None:
        self._socket.close()
        super().close()


def _field(name: str, value: bytes) -> bytes:
    """With its length, so that a line feed in it begins no field."""
    return b"%s\n%s%s\n" % (name.encode(), struct.pack("<Q", len(value)), value)
