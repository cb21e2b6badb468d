"""What the shared cache holds of a run, sealed: the frames of its log, and the facts about it.

Anyone who can write to the engine can change what is there. So each frame and each fact carries a MAC whose key only
machines with the same API key can make. Names and keys contain the version of this format, so that versions do not
meet. A replay of an older upload of the same run passes: runs do not change.

Not where they are kept (`engine`). Values and pure functions, except `Frames`, which one thread uses. No lock.
"""

from __future__ import annotations

import hmac
import json
import secrets
import struct
from dataclasses import asdict, dataclass
from hashlib import blake2b
from typing import NamedTuple

from cambfs.model import RunInfo
from cambfs.names import RunId

# The most that one data frame holds.
FRAME_BYTES = 1 << 20
_MAC_BYTES = 32
_PREFIX = struct.Struct(">BI")  # kind, length of the payload
_PLACE = struct.Struct(">QBIQQ")  # run, kind, length, offset in the log, offset in the result
_HEADER, _DATA = 1, 2
# What a frame has beside its payload.
OVERHEAD_BYTES = _PREFIX.size + _MAC_BYTES
# A header holds a few short texts. A longer one is not worth waiting for.
_LONGEST_HEADER = 8192
_NO_UPLOAD = bytes(16)


class SealBroken(Exception):
    """The bytes are not what a machine of this account has put there, or not in this place."""


def account_name(base_url: str, api_key: str) -> str:
    """The part of all names that keeps accounts apart. The key cannot be computed from it."""
    return _digest(base_url, api_key, 16, b"cambfs account 1").hex()


def seal_key(base_url: str, api_key: str) -> bytes:
    """The key of all MACs of an account. It cannot be computed from the names."""
    return _digest(base_url, api_key, 32, b"cambfs seals 1")


def _digest(base_url: str, api_key: str, size: int, person: bytes) -> bytes:
    return blake2b(f"{base_url.rstrip('/')}\n{api_key}".encode(), digest_size=size, person=person).digest()


class Header(NamedTuple):
    """What the response told of which the data are: as in `remote.source.Body`. `upload` is a number in hex that no
    other upload has."""

    upload: str
    content_type: str
    total: int | None
    etag: str | None
    ranges: bool
    modified_s: float | None


def new_upload() -> str:
    return secrets.token_hex(len(_NO_UPLOAD))


@dataclass(frozen=True)
class Facts:
    """Size and time of a result. `sha256` and `proof` are "" before all of it is there and its end is proven."""

    size: int
    mtime_ns: int
    content_type: str
    upload: str
    sha256: str = ""
    proof: str = ""

    @property
    def info(self) -> RunInfo:
        return RunInfo(self.size, self.mtime_ns)

    @property
    def is_whole(self) -> bool:
        return bool(self.sha256 and self.proof)


def seal_facts(key: bytes, run_id: RunId, facts: Facts) -> bytes:
    text = json.dumps(asdict(facts)).encode()
    return _mac_of_facts(key, run_id, text) + text


def open_facts(key: bytes, run_id: RunId, sealed: bytes) -> Facts:
    """Raises SealBroken."""
    mac, text = sealed[:_MAC_BYTES], sealed[_MAC_BYTES:]
    if not hmac.compare_digest(mac, _mac_of_facts(key, run_id, text)):
        raise SealBroken(f"run {run_id}: the facts are not those of this account")
    return Facts(**json.loads(text))


def _mac_of_facts(key: bytes, run_id: RunId, text: bytes) -> bytes:
    content = run_id.to_bytes(8, "big") + text
    return blake2b(content, key=key, digest_size=_MAC_BYTES, person=b"cambfs facts").digest()


class Frames:
    """The frames of one log in order: seals the next one, or opens it. `offset` is where it begins in the log, and
    `position` where its data begin in the result. `header` is None before the first."""

    def __init__(self, key: bytes, run_id: RunId) -> None:
        self.offset = self.position = 0
        self.header: Header | None = None
        self._upload = _NO_UPLOAD
        self._key = key
        self._run_id = run_id

    def seal_header(self, header: Header) -> bytes:
        """The first frame."""
        payload = json.dumps(header._asdict()).encode()
        frame = self._seal(_HEADER, payload)
        self._take(_HEADER, payload)
        return frame

    def seal(self, data: bytes) -> bytes:
        """The next frame, with at most FRAME_BYTES of the result."""
        frame = self._seal(_DATA, data)
        self._take(_DATA, data)
        return frame

    def open(self, log: bytes | bytearray) -> bytes | None:
        """The data of the next frame, which begins with the first byte of `log`; b"" of the header. None as long as not
        all of it is there. Raises SealBroken."""
        if len(log) < _PREFIX.size:
            return None
        kind, length = _PREFIX.unpack_from(log)
        is_header = self.header is None
        if kind != (_HEADER if is_header else _DATA) or length > (_LONGEST_HEADER if is_header else FRAME_BYTES):
            raise SealBroken(f"run {self._run_id}: there is no frame at byte {self.offset}")
        with memoryview(log)[_PREFIX.size :] as rest:
            if len(rest) < length + _MAC_BYTES:
                return None
            payload, mac = bytes(rest[:length]), rest[length : length + _MAC_BYTES]
            if not hmac.compare_digest(mac, self._mac(kind, payload)):
                raise SealBroken(f"run {self._run_id}: the frame at byte {self.offset} is not what was put there")
        return self._take(kind, payload)

    def _seal(self, kind: int, payload: bytes) -> bytes:
        return b"".join((_PREFIX.pack(kind, len(payload)), payload, self._mac(kind, payload)))

    def _mac(self, kind: int, payload: bytes) -> bytes:
        place = _PLACE.pack(self._run_id, kind, len(payload), self.offset, self.position)
        mac = blake2b(place + self._upload, key=self._key, digest_size=_MAC_BYTES, person=b"cambfs frame")
        mac.update(payload)
        return mac.digest()

    def _take(self, kind: int, payload: bytes) -> bytes:
        """The data of a frame that is sealed or open, once it is passed."""
        self.offset += OVERHEAD_BYTES + len(payload)
        if kind == _HEADER:
            self.header = Header(**json.loads(payload))
            self._upload = bytes.fromhex(self.header.upload)
            return b""
        self.position += len(payload)
        return payload
