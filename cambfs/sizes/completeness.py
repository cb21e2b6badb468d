"""Whether all of one result is here: where it ends, and how that end is proven.

Not which proofs count (`proof`), nor the bytes (`content`). No threads and no lock of its own: the run that
owns it holds its lock for every method.
"""

from __future__ import annotations

import logging

from cambfs import audio, flac
from cambfs.audio import End
from cambfs.disk.spool import Spool
from cambfs.errors import BrokenBody, NotWhole
from cambfs.names import RunId
from cambfs.remote.object_store import HEAD_BYTES
from cambfs.remote.source import Body
from cambfs.sizes.proof import UNPROVEN, Claims, proof_of
from cambfs.sizes.sizing import Sizing
from cambfs.sizes.stored_end import head_of

log = logging.getLogger(__name__)

# Responses that end here and there, and nowhere provably, are not asked for without end.
_MOST_UNPROVEN_ENDS = 4


class Completeness:
    """`proof` is how the end is proven, as `proof_of` says; None before it is."""

    def __init__(self, run_id: RunId, sizing: Sizing) -> None:
        self.proof: str | None = None
        self._id = run_id
        self._sizing = sizing
        self._unproven_ends = 0
        self._ended_at = -1  # where a response ended that is not proven complete
        self._attested = (-1, "")  # the size that another machine has proven, and how
        self._ends_in_itself_at = -1  # the size at which the structure of the bytes shows the end

    def load(self) -> None:
        """The cache has the whole result."""
        self.proof = UNPROVEN

    def attest(self, size: int, proof: str) -> None:
        """Another machine has proven that the result ends at `size`, and all its bytes came from there."""
        self._attested = size, proof

    def is_complete(self, spool: Spool) -> bool:
        """Every byte is here, and the end is proven."""
        size = self._sizing.size
        if size is None or not spool.filled.covers(0, size):
            return False
        if self.proof is None:
            self.proof = self._proof_without_end(spool, size)
        return self.proof is not None

    def needs_another_response(self, spool: Spool) -> bool:
        """A response ended where the bytes end, and nothing else confirms that end."""
        return self._ended_at >= 0 and not self.is_complete(spool)

    def _proof_without_end(self, spool: Spool, size: int) -> str | None:
        """All is here, perhaps from several responses, and no stream came to its end."""
        end, claimed_by = end_at(spool, size), self._sizing.claimed_by(size)
        if end is End.BROKEN or not claimed_by or self._sizing.is_less_than_told(size):
            return None
        if end is End.WHOLE:
            return "framing+frames" if self._sizing.is_claimed_by_api(size) else "storage+frames"
        return "framing+storage" if claimed_by > 1 else None

    def is_end_seen(self, spool: Spool, size: int) -> bool:
        """Whether a read may end at `size`: the end is proven, the structure of the bytes shows it, or API and storage
        both report that size."""
        if self.is_complete(spool) or self._ends_in_itself_at == size:
            return True
        if self._sizing.is_less_than_told(size):
            return False  # the stream's end says so, with an error
        if self._sizing.is_of_before and spool.filled.covers(0, size):
            return False  # it may have changed since; the stream, which is there, is about to tell
        if end_at(spool, size) is End.WHOLE:
            self._ends_in_itself_at = size
            return True
        return self._sizing.claimed_by(size) > 1

    def is_doubtful(self, spool: Spool, position: int, body: Body) -> bool:
        """Whether storage may tell more of an end than is known so far."""
        if self._sizing.probe is not None:
            return False
        return self._sizing.is_end_elsewhere(position) or not self._proof_at(spool, position, body)

    def prove(self, spool: Spool, position: int, body: Body) -> bool:
        """Whether it is proven that the result ends where a response did."""
        proof = self._proof_at(spool, position, body)
        if proof is not None:
            self.proof = proof
        return proof is not None

    def _proof_at(self, spool: Spool, position: int, body: Body) -> str | None:
        size, proof = self._attested
        return proof if position == size else proof_of(self._claims(spool, position, body))

    def ask_again_from(self, spool: Spool, position: int, body: Body) -> int:
        """The byte from which to ask again after an end at `position` that is not proven. Raises NotWhole when
        responses go on ending there; BrokenBody when it is only the connection that ended."""
        claims = self._claims(spool, position, body)
        self._sizing.refute(position)
        if not body.framed and _is_contradicted(claims):
            raise BrokenBody(f"run {self._id}: the connection ended at byte {position}, and {_doubt(claims)}")
        self._unproven_ends += 1
        if claims.again or self._unproven_ends >= _MOST_UNPROVEN_ENDS:
            raise NotWhole(f"run {self._id}: the response ends at byte {position}, and {_doubt(claims)}")
        self._ended_at = position
        log.info("run %d: a response ended at byte %d, and %s; asking again", self._id, position, _doubt(claims))
        is_cut_off = claims.end is End.BROKEN and claims.stored is not None and claims.stored > position
        return position if is_cut_off and self._sizing.stored_ranges is not None else 0

    def _claims(self, spool: Spool, position: int, body: Body) -> Claims:
        stored, end = self._sizing.stored_bytes_at(position, spool), end_at(spool, position)
        if not body.framed and flac.is_cut_short(spool.read(0, min(position, HEAD_BYTES)), position):
            end = End.BROKEN
        again = self._ended_at == position
        is_stored_whole, is_api_length = self._sizing.is_stored_whole, self._sizing.is_claimed_by_api(position)
        return Claims(position, body.framed, end, stored, again, body.is_stored, is_stored_whole, is_api_length)


def end_at(spool: Spool, size: int) -> End:
    """What the structure of the bytes that are here says of an end there."""
    head = head_of(spool, size)
    start = max(size - audio.tail_bytes_wanted(head), 0)
    if not head or not spool.filled.covers(start, size):
        return End.UNKNOWN
    if any(stop > size for _, stop in spool.filled):
        return End.BROKEN  # another response went on
    return audio.end_of(head, spool.read(start, size - start), size)


def _is_contradicted(claims: Claims) -> bool:
    return claims.end is End.BROKEN or claims.stored not in (None, claims.position)


def _doubt(claims: Claims) -> str:
    if claims.end is End.BROKEN:
        return "the audio does not end there"
    if claims.stored not in (None, claims.position):
        return f"storage has {claims.stored} bytes"
    return "nothing else confirms that"
