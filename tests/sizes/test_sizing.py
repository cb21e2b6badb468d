"""`cambfs.sizes.sizing`: what two sources say of one result, put together."""

from __future__ import annotations

from cambfs.audio import End
from cambfs.cache.cache import Cache
from cambfs.names import RunId
from cambfs.remote.object_store import HEAD_BYTES, Probe, Tail
from cambfs.runs.library import Library
from cambfs.sizes.sizing import Sizing
from tests.fakes import some_flac
from tests.waiting import MakeLibrary, context_of

RUN = RunId(1)
CONTENT = some_flac(20_000)
_END_AT = len(CONTENT) - 1000


def test_the_heads_decide_once_both_are_known(make_library: MakeLibrary) -> None:
    """The object ends like the stream, and does not begin like it."""
    library: Library = make_library(Cache(None, 1 << 20))
    store = context_of(library).store
    store.prove()
    sizing, spool = Sizing(RUN, store, None, is_unverified=False), Cache(None, 1 << 20).new_spool(RUN)
    spool.write(0, CONTENT)
    spool.filled.add(0, len(CONTENT))
    sizing.answered(Tail(_END_AT, len(CONTENT), CONTENT[_END_AT:], None, None))
    sizing.judge(spool)
    assert (sizing.matches_stream, sizing.stored_bytes) == (True, len(CONTENT))

    sizing.answered(Probe(len(CONTENT), bytes(HEAD_BYTES), End.WHOLE, ranges=True, etag=None, modified_s=None))
    assert sizing.judge(spool) is False
    assert sizing.stored_ranges is None
    spool.close()
