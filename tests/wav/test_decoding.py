"""`cambfs.wav.decoding`, on a FLAC in memory: the same samples as `flac -d`, wherever a read begins."""

from __future__ import annotations

import sys
import tempfile
from dataclasses import replace
from functools import cache
from pathlib import Path
from threading import Barrier

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cambfs.deadline import Deadline
from cambfs.errors import CambfsError, Cancelled, TimedOut, Undecodable
from cambfs.flac import stream_info
from cambfs.names import RunId
from cambfs.wav import decoding as module
from cambfs.wav.decoding import Blocks, Decoding, count_samples
from cambfs.wav.wav_format import WavFormat
from tests.fakes import LIMIT_S, Gate
from tests.waiting import Watched, deadline, in_thread
from tests.wav.flacs import encoded, noise, steps, uncounted, wav_of, with_count, with_other_md5

_MONO = WavFormat(rate=22_050, channels=1, bits=16, samples=100_000)
_HEAD_BYTES = 4096


class Flac:
    """An open FLAC in memory. Reads of byte `stall_at` wait at the gate; `error` is raised instead of that once."""

    def __init__(self, content: bytes, stall_at: int | None = None, error: Exception | None = None) -> None:
        self.content = content
        self.gate = Gate()
        self.offsets: list[int] = []
        self._stall_at = stall_at
        self._error = error

    def readinto(self, offset: int, buffer: memoryview, deadline: Deadline) -> int:
        self.offsets.append(offset)
        piece = self.content[offset : offset + len(buffer)]
        if self._stall_at is not None and offset <= self._stall_at < offset + len(piece):
            self._stall(deadline)
        buffer[: len(piece)] = piece
        return len(piece)

    def _stall(self, deadline: Deadline) -> None:
        error, self._error = self._error, None
        if error is not None:
            raise error
        self.gate.go_through()
        deadline.check()

    def size(self, _deadline: Deadline) -> int:
        return len(self.content)


@cache
def _wav(flac: bytes) -> bytes:
    with tempfile.TemporaryDirectory() as directory:
        return wav_of(flac, Path(directory))


def _decoding(content: bytes, form: WavFormat, blocks: Blocks | None = None) -> Decoding:
    return Decoding((RunId(1), 1), content[:_HEAD_BYTES], form, blocks or Blocks())


def _read(decoding: Decoding, flac: Flac, offset: int, length: int, until: Deadline | None = None) -> bytes:
    buffer = memoryview(bytearray(length))
    return bytes(buffer[: decoding.readinto(flac, offset, buffer, until or deadline())])


def _read_all(decoding: Decoding, flac: Flac, at_a_time: int = 10_000) -> bytes:
    pieces, position = [], 0
    while piece := _read(decoding, flac, position, at_a_time):
        pieces.append(piece)
        position += len(piece)
    return b"".join(pieces)


_FORMATS = st.builds(
    WavFormat,
    rate=st.sampled_from([8_000, 11_025, 22_050, 44_100, 96_000, 192_000]),
    channels=st.integers(1, 8),
    bits=st.sampled_from([8, 12, 16, 20, 24]),
    samples=st.integers(1, 1500),
)


@settings(max_examples=60, deadline=None)
@given(_FORMATS, st.lists(st.tuples(st.integers(0, 40_000), st.integers(1, 5_000)), min_size=1, max_size=5))
def test_every_read_of_every_format_is_as_flac_decodes_it(form: WavFormat, reads: list[tuple[int, int]]) -> None:
    content = noise(form)
    wanted, decoding = _wav(content), _decoding(content, form)

    assert form.file_bytes == len(wanted)
    for offset, length in reads:
        assert _read(decoding, Flac(content), offset, length) == wanted[offset : offset + length]
    assert _read_all(decoding, Flac(content)) == wanted
    decoding.close()


@pytest.mark.parametrize(("channels", "bits"), [(1, 8), (2, 8), (2, 16), (2, 24), (6, 16), (8, 24)])
@pytest.mark.parametrize("rate", [8_000, 192_000])
def test_what_an_encoder_makes(channels: int, bits: int, rate: int) -> None:
    form = WavFormat(rate, channels, bits, samples=30_001)
    content = with_count(encoded(form), form.samples)
    wanted, decoding = _wav(content), _decoding(content, form)

    assert _read_all(decoding, Flac(content)) == wanted
    assert len(content) < form.data_bytes
    for offset in (form.file_bytes - 1000, 30_000, 5_000):
        assert _read(_decoding(content, form), Flac(content), offset, 1000) == wanted[offset : offset + 1000]


@settings(max_examples=20, deadline=None)
@given(st.permutations(range(8)))
def test_distant_places_in_any_order(order: list[int]) -> None:
    content = noise(replace(_MONO, channels=2))
    wanted, flac = _wav(content), Flac(content)
    decoding = _decoding(content, replace(_MONO, channels=2))
    decoding._ahead = 1  # so that a seek is worth it
    for place in order:
        offset = place * len(wanted) // 8
        assert _read(decoding, flac, offset, 3_000) == wanted[offset : offset + 3_000]
    decoding.close()


def test_the_beginning_needs_only_the_beginning_of_the_flac() -> None:
    content = noise(_MONO)
    flac = Flac(content)

    assert _read(_decoding(content, _MONO), flac, 0, 4096) == _wav(content)[:4096]
    assert max(flac.offsets) < 64 * 1024 < len(content)


def test_a_distant_place_does_not_need_what_is_before_it() -> None:
    form = replace(_MONO, channels=2)
    content = noise(form)
    flac, offset = Flac(content), form.file_bytes * 3 // 4
    decoding = _decoding(content, form)
    decoding._ahead = 1

    assert _read(decoding, flac, offset, 4096) == _wav(content)[offset : offset + 4096]
    assert not [at for at in flac.offsets if 64 * 1024 < at < len(content) // 2]


def test_beyond_four_gib() -> None:
    frames, block = 22_000, 32_768
    content, form = steps(frames, block), WavFormat(192_000, 2, 24, frames * block)
    decoding = _decoding(content, form)

    assert form.file_bytes > 2**32
    assert _read(decoding, Flac(content), 0, 4) == b"RF64"
    for frame in (21_999, 3, 21_900):
        offset = len(form.header) + frame * block * form.frame_bytes
        before, after = ((max(number, 0)).to_bytes(3, "little") for number in (frame - 1, frame))
        assert _read(decoding, Flac(content), offset - 6, 12) == 2 * before + 2 * after
    assert _read(decoding, Flac(content), form.file_bytes - 3, 100) == (21_999).to_bytes(3, "little")


def test_id3_before_the_flac() -> None:
    content = noise(replace(_MONO, samples=1000))
    tagged = b"ID3\4\0\0\0\0\1\0" + bytes(128) + content
    decoding = _decoding(tagged, replace(_MONO, samples=1000))

    assert _read_all(decoding, Flac(tagged)) == _wav(content)


def test_readers_of_one_place_share_one_decoding() -> None:
    content = noise(_MONO)
    once, shared = Flac(content), Flac(content)
    wanted = _read_all(_decoding(content, _MONO), once)
    decoding, barrier = _decoding(content, _MONO), Barrier(8)

    def read() -> bytes:
        barrier.wait(LIMIT_S)
        return _read_all(decoding, shared)

    readers = [in_thread(read) for _ in range(8)]
    assert [reader.result(LIMIT_S) for reader in readers] == [wanted] * 8
    assert len(shared.offsets) == len(once.offsets)


def test_a_reader_that_waits_for_the_flac_keeps_no_other_place_waiting() -> None:
    form = replace(_MONO, channels=2)
    content = noise(form)
    flac = Flac(content, stall_at=len(content) - 1)
    decoding, wanted = _decoding(content, form), _wav(content)
    decoding._ahead = 1
    last = in_thread(lambda: _read(decoding, flac, form.file_bytes - 1000, 1000))
    flac.gate.wait_for_arrivals()

    assert _read(decoding, flac, 0, 4096) == wanted[:4096]
    flac.gate.open()
    assert last.result(LIMIT_S) == wanted[-1000:]


def test_a_killed_reader_does_not_stop_the_others() -> None:
    content = noise(_MONO)
    flac = Flac(content, stall_at=len(content) // 2, error=Cancelled("killed"))
    decoding = _decoding(content, _MONO)

    with pytest.raises(Cancelled):
        _read_all(decoding, flac)
    flac.gate.open()
    assert _read_all(decoding, flac) == _wav(content)


def test_a_reader_that_waits_for_another_one_can_be_killed() -> None:
    content = noise(_MONO)
    flac = Flac(content, stall_at=2000)
    decoding = _decoding(content, _MONO)
    first = in_thread(lambda: _read(decoding, flac, 0, 4096))
    flac.gate.wait_for_arrivals()

    with pytest.raises(Cancelled):
        _read(decoding, flac, 0, 4096, Deadline(LIMIT_S, lambda: True))
    flac.gate.open()
    assert first.result(LIMIT_S) == _wav(content)[:4096]


def test_a_reader_that_waits_for_another_one_has_the_time_of_the_other() -> None:
    """The other one ends with its own deadline when nothing comes."""
    content = noise(_MONO)
    flac = Flac(content, stall_at=2000)
    decoding, waiter = _decoding(content, _MONO), Watched()
    waiter._since -= 2 * LIMIT_S
    first = in_thread(lambda: _read(decoding, flac, 0, 4096))
    flac.gate.wait_for_arrivals()
    second = in_thread(lambda: _read(decoding, flac, 0, 4096, waiter))
    waiter.await_waiting()

    flac.gate.open()
    assert first.result(LIMIT_S) == second.result(LIMIT_S) == _wav(content)[:4096]


def test_an_error_of_the_flac_reaches_the_reader_and_is_not_for_good() -> None:
    content = noise(_MONO)
    flac = Flac(content, stall_at=100_000, error=TimedOut("no progress"))
    decoding = _decoding(content, _MONO)

    with pytest.raises(TimedOut, match="no progress"):
        _read(decoding, flac, 100_000, 4096)
    flac.gate.open()
    assert _read(decoding, flac, 100_000, 4096) == _wav(content)[100_000:104_096]


@pytest.mark.parametrize("claimed", [-1, 1, 512, -512])
def test_another_number_of_samples_than_the_header_says(claimed: int) -> None:
    form = replace(_MONO, samples=5000 + claimed)
    content = with_count(noise(replace(_MONO, samples=5000)), 5000 + claimed)
    decoding = _decoding(content, form)

    with pytest.raises(Undecodable, match=r"does not end with the last|ends at sample 5000"):
        _read_all(decoding, Flac(content))
    with pytest.raises(Undecodable):
        _read(decoding, Flac(content), 0, 100)  # nothing of it is kept


@pytest.mark.parametrize("first", [0, 150_000], ids=["in order", "the first two reads swapped"])
def test_another_md5_than_the_header_says(first: int) -> None:
    content = with_other_md5(noise(_MONO))
    decoding = _decoding(content, _MONO)
    _read(decoding, Flac(content), first, 100)

    with pytest.raises(Undecodable, match="MD5"):
        _read_all(decoding, Flac(content))
    with pytest.raises(Undecodable, match="MD5"):
        _read(decoding, Flac(content), _MONO.file_bytes - 10, 10)


def test_a_damaged_frame() -> None:
    content = bytearray(noise(_MONO))
    content[len(content) // 2] ^= 1

    with pytest.raises(Undecodable, match=r"libsndfile cannot decode it: [^<]+$"):
        _read_all(_decoding(bytes(content), _MONO), Flac(bytes(content)))


def test_blocks_are_limited_over_all_decodings() -> None:
    content, blocks = noise(_MONO), Blocks(100_000)
    for generation in range(5):
        decoding = Decoding((RunId(1), generation), content[:_HEAD_BYTES], _MONO, blocks)
        assert _read_all(decoding, Flac(content)) == _wav(content)
        decoding.close()

    assert 0 < blocks._blocks.currsize <= 100_000


def test_blocks_that_were_evicted_are_decoded_again() -> None:
    content = noise(_MONO)
    decoding = _decoding(content, _MONO, Blocks(40_000))
    for _ in range(2):
        assert _read_all(decoding, Flac(content)) == _wav(content)
        assert _read(decoding, Flac(content), _MONO.file_bytes - 10, 10) == _wav(content)[-10:]
        assert _read(decoding, Flac(content), 100, 10) == _wav(content)[100:110]
        assert _read(decoding, Flac(content), _MONO.file_bytes - 10, 10) == _wav(content)[-10:]


def test_decoders_are_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_IDLE_DECODERS", 2)
    content = noise(_MONO)
    decoding = _decoding(content, _MONO)
    decoding._ahead = 0
    for offset in (150_000, 100_000, 50_000, 0):
        _read(decoding, Flac(content), offset, 10)

    assert len(decoding._idle) == 2
    decoding.close()
    assert not decoding._idle


def test_counting_by_decoding() -> None:
    content = uncounted(noise(_MONO))
    info = stream_info(content)

    assert info is not None
    assert count_samples(Flac(content), content[:_HEAD_BYTES], info, deadline()) == _MONO.samples


def test_without_libsndfile_one_line_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cambfs.wav.decoder", None)
    content = noise(_MONO)

    with pytest.raises(CambfsError, match="install libsndfile1"):
        _read(_decoding(content, _MONO), Flac(content), 0, 100)
