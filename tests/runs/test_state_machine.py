"""With any behaviour of the server, a reader gets the bytes of the run, or an error: never short, never other bytes.

`test_model` reads from a server that is honest, and is stricter: there every read succeeds. Here it may also end
responds early with proper framing, change a result, hold something else in its storage, and refuse to sign.
"""

from __future__ import annotations

import tempfile
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from unittest.mock import patch

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from cambfs.cache.cache import Cache
from cambfs.disk.disk import Disk
from cambfs.errors import BadResponse, CambfsError, RateLimited, ServerError, Unreachable
from cambfs.names import RunId
from cambfs.remote import object_store
from cambfs.runs.handle import Handle
from cambfs.runs.library import Library
from tests.fakes import AS_USUAL, FakeSource, Plan, Result, StorageManner, some_flac
from tests.runs.test_model import SHORT, SMALL
from tests.waiting import deadline, eventually, library_of, our_threads, pieces, read_all, size_of

_SIZES = {1: 3000, 2: 6000, 3: 9000}
_RUNS = st.sampled_from(sorted(_SIZES))
_SLOTS = st.integers(0, 2)
_PLACES = st.integers(0, max(_SIZES.values()) + 100)
_PIECES = st.lists(st.tuples(_PLACES, st.integers(0, 3000)), min_size=1, max_size=4)
# In the magic, in STREAMINFO and behind it, and anywhere.
_ENDS = st.sampled_from([4, 41, 42]) | st.integers(4, 8999)
# How long an operation goes on asking: every error that is met again and again costs as much.
_TIMEOUT_S = 0.2
# The end of an object is not all of it, and has its last frame.
_BRIEF = {**SMALL, (object_store, "_PROBE_AGAIN_FOR_S"): 0.02, (object_store, "_TAIL_BYTES"): 800}
_PROVES_STORAGE = 4
_SIGN_ERRORS = (
    ServerError("500", 500),
    RateLimited("429", 429, retry_after_s=60.0),
    BadResponse("no usable output_url", 200),
    Unreachable("gone", 111),
)


@dataclass
class _Opened:
    """An open file, and what was read through it: offset and bytes."""

    run_id: int
    handle: Handle
    pieces: list[tuple[int, bytes]] = field(default_factory=list)


class Server(RuleBasedStateMachine):
    """`_versions` are the contents that a run has had, the last of which it has now."""

    def __init__(self) -> None:
        super().__init__()
        self._patches = [patch.object(module, name, value) for (module, name), value in _BRIEF.items()]
        for one in self._patches:
            one.start()
        self._directory = tempfile.TemporaryDirectory()
        self._source = FakeSource()
        self._versions: dict[int, list[bytes]] = {}
        self._library: Library | None = None
        # By a number, open or not: what hypothesis draws may not depend on what threads did.
        self._open: dict[int, _Opened] = {}

    @initialize(
        has_length=st.booleans(),
        etag=st.sampled_from([None, '"a"']),
        storage=st.sampled_from(list(StorageManner)),
        piece_bytes=st.sampled_from([37, 500, 4096]),
        cache_bytes=st.sampled_from([0, 9500, 100_000]),
        is_storage_proven=st.booleans(),
    )
    def mount(
        self,
        has_length: bool,
        etag: str | None,
        storage: StorageManner,
        piece_bytes: int,
        cache_bytes: int,
        is_storage_proven: bool,
    ) -> None:
        self._source.piece_bytes = piece_bytes
        for run_id, size in _SIZES.items():
            content = some_flac(size, seed=run_id)
            self._versions[run_id] = [content]
            self._source.add(run_id, Result(content, has_length=has_length, etag=etag, ranges=etag is not None))
        cache = Cache(Disk(self._cache_directory), cache_bytes)
        self._library = library_of(self._source, cache, max_transfers=3, timeout_s=_TIMEOUT_S, **SHORT)
        if is_storage_proven:
            content = some_flac(5000, seed=_PROVES_STORAGE)
            self._versions[_PROVES_STORAGE] = [content]
            self._source.add(_PROVES_STORAGE, Result(content, has_length=False))
            size_of(self._library, _PROVES_STORAGE)
        else:
            self._source.storage = storage

    @property
    def _cache_directory(self) -> Path:
        return Path(self._directory.name) / "cache"

    @property
    def library(self) -> Library:
        assert self._library is not None
        return self._library

    # The server's next action.

    @rule(run_id=_RUNS, places=st.lists(_ENDS, min_size=1, max_size=4))
    def end_answers_early(self, run_id: int, places: list[int]) -> None:
        """Properly framed, with a Content-Length that agrees: nothing but the audio itself shows it. Less than a
        signature does not come this far, for a source takes that for no audio."""
        size = len(self._versions[run_id][-1])
        self._source.plan("stream", run_id, *(Plan(end_at=max(4, place % size)) for place in places))

    @rule(run_id=_RUNS, place=_ENDS)
    def end_all_answers_early(self, run_id: int, place: int) -> None:
        self._source.plan_always("stream", run_id, Plan(end_at=max(4, place % len(self._versions[run_id][-1]))))

    @rule(run_id=_RUNS, kind=st.sampled_from(["stream", "stored"]), places=st.lists(st.integers(0, 6000), max_size=3))
    def break_answers(self, run_id: int, kind: str, places: list[int]) -> None:
        self._source.plan(kind, run_id, *(Plan(break_after=place) for place in places))

    @rule(run_id=_RUNS, place=st.integers(100, 6000), is_as_long=st.booleans(), is_twice=st.booleans())
    def break_and_send_another(self, run_id: int, place: int, is_as_long: bool, is_twice: bool) -> None:
        """The next response breaks, and the one behind it is of another result; read before anything else happens."""
        size = len(self._versions[run_id][-1]) if is_as_long else 7000
        other = some_flac(size, seed=20 + run_id)
        self._versions[run_id].insert(0, other)
        self._source.plan("stream", run_id, Plan(break_after=place), *[Plan(content=other)] * (1 + is_twice))
        self.copy(run_id, 5000)

    @rule(run_id=_RUNS, size=st.sampled_from([3000, 5000, 6000, 9000]), seed=st.integers(10, 12))
    def change_the_result(self, run_id: int, size: int, seed: int) -> None:
        result, content = self._source.results[run_id], some_flac(size, seed=seed)
        self._versions[run_id].append(content)
        result.content, result.stored = content, None
        result.etag = result.etag and f'"{len(self._versions[run_id])}"'

    @rule(
        run_id=_RUNS,
        what=st.sampled_from(["the same", "longer", "shorter", "another", "another end", "empty"]),
        is_copied=st.booleans(),
    )
    def store(self, run_id: int, what: str, is_copied: bool) -> None:
        result = self._source.results[run_id]
        content = result.content
        held = {"longer": content + bytes(700), "shorter": content[:-700], "another": some_flac(4000, 77), "empty": b""}
        held["another end"] = content[:-700] + some_flac(len(content), 77)[-700:]
        result.stored = held.get(what)
        if is_copied:
            self.copy_as_cp_does(run_id)

    @rule(manner=st.sampled_from(list(StorageManner)))
    def let_storage_be(self, manner: StorageManner) -> None:
        self._source.storage = manner

    @rule(run_id=_RUNS, error=st.sampled_from(_SIGN_ERRORS))
    def refuse_to_sign(self, run_id: int, error: CambfsError) -> None:
        self._source.plan_always("sign", run_id, Plan(error=error))

    @rule(run_id=_RUNS, error=st.sampled_from([ServerError("503", 503), ServerError("500", 500)]))
    def refuse_ranges_of_storage(self, run_id: int, error: CambfsError) -> None:
        """As soon as it has reported the length."""
        self._source.plan("stored", run_id, AS_USUAL, *[Plan(error=error)] * 3)

    @rule()
    def let_signatures_expire(self) -> None:
        self._source.expire_signatures()

    # Actions of readers, and their expectations.

    @rule(slot=_SLOTS, run_id=_RUNS)
    def open(self, slot: int, run_id: int) -> None:
        self.close(slot)
        with suppress(CambfsError):
            self._open[slot] = _Opened(run_id, self.library.open(RunId(run_id), deadline()))

    @rule(slot=_SLOTS, places=_PIECES)
    def read(self, slot: int, places: list[tuple[int, int]]) -> None:
        opened = self._open.get(slot)
        if opened is None:
            return
        with suppress(CambfsError):
            for offset, length in places:
                opened.pieces.append((offset, opened.handle.read(offset, length, deadline())))
                self._check_pieces(opened, length)

    def _check_pieces(self, opened: _Opened, length: int) -> None:
        """All that was read through one handle is of one version, and the last piece was not shorter than that."""
        offset, piece = opened.pieces[-1]
        fitting = [content for content in self._versions[opened.run_id] if piece == content[offset : offset + length]]
        assert fitting, f"{len(piece)} bytes at {offset} of run {opened.run_id} are of no version of it"
        whole = [all(part == content[at : at + len(part)] for at, part in opened.pieces) for content in fitting]
        assert any(whole), "bytes of two versions through one handle"

    @rule(run_id=_RUNS, at_a_time=st.sampled_from([400, 5000]))
    def copy(self, run_id: int, at_a_time: int) -> None:
        try:
            found = read_all(self.library, run_id, at_a_time)
        except CambfsError:
            return
        assert found in self._versions[run_id], f"{len(found)} bytes that are no version of run {run_id}"

    @rule(run_id=_RUNS)
    def stat_and_copy(self, run_id: int) -> None:
        """A size that was told is that of what is read; unless the result changed, or a header lied, in between."""
        try:
            size = self.library.wait_for_info(RunId(run_id), deadline()).size
            found = read_all(self.library, run_id)
        except CambfsError:
            return
        self._check_copy(run_id, size, found)

    @rule(run_id=_RUNS)
    def copy_as_cp_does(self, run_id: int) -> None:
        """The size is that of the open file, beside its stream."""
        try:
            with closing(self.library.open(RunId(run_id), deadline())) as handle:
                size = handle.size(deadline())
                found = b"".join(pieces(handle))
        except CambfsError:
            return
        self._check_copy(run_id, size, found)

    def _check_copy(self, run_id: int, size: int, found: bytes) -> None:
        assert found in self._versions[run_id]
        if not self._source.results[run_id].has_length and len(self._versions[run_id]) == 1:
            assert size == len(found)

    @rule(slot=_SLOTS)
    def close(self, slot: int) -> None:
        opened = self._open.pop(slot, None)
        if opened is not None:
            opened.handle.close()

    @rule(run_id=_RUNS)
    def behave_and_copy(self, run_id: int) -> None:
        """An error is not for ever: a server that is well again is believed, at the latest at the third attempt."""
        result = self._source.results[run_id]
        self._source.heal(run_id)
        result.stored = None
        for attempt in range(3):
            try:
                assert read_all(self.library, run_id) in self._versions[run_id]
            except CambfsError:
                assert attempt < 2 or self._open, "a server that is well, and yet an error"
            else:
                return

    @invariant()
    def what_is_in_the_cache_is_right(self) -> None:
        for path in self._cache_directory.glob("[0-9].flac"):
            try:
                content = path.read_bytes()
            except FileNotFoundError:  # evicted just now
                continue
            assert content in self._versions[int(path.stem)], f"{len(content)} wrong bytes of {path.name} are kept"

    def teardown(self) -> None:
        try:
            for slot in list(self._open):
                self.close(slot)
            if self._library is not None:
                eventually(lambda: not our_threads())
                self.what_is_in_the_cache_is_right()
                self.library.close()
        finally:
            self._directory.cleanup()
            for one in self._patches:
                one.stop()


TestServer = Server.TestCase
TestServer.settings = settings(
    max_examples=200,
    stateful_step_count=25,
    derandomize=True,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
