"""`cambfs.wav.wavs`, with a library: sizes without audio, open WAVs, and results that have none."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from cambfs.cache.cache import Cache
from cambfs.disk.disk import Disk
from cambfs.errors import NoWav, ResultChanged, Undecodable, UnknownRun
from cambfs.model import RunInfo
from cambfs.names import RunId
from cambfs.runs.library import Library
from cambfs.wav.wav_format import WavFormat
from cambfs.wav.wavs import OpenWav, Wavs
from tests.fakes import FakeSource, Gate, Plan, Result, StorageManner, some_bytes
from tests.waiting import MakeLibrary, context_of, deadline, eventually, no_threads, read_all
from tests.wav.flacs import noise, padded, uncounted, wav_of, with_count, with_other_md5

RUN, OTHER = RunId(1), RunId(2)
_FORM = WavFormat(rate=22_050, channels=1, bits=16, samples=30_000)
_FLAC = noise(_FORM)
_OGG = some_bytes(10_000, head=b"OggS\0")
_VARIABLE = noise(_FORM, variable=True)
_HUGE_BLOCKS = noise(replace(_FORM, channels=8, bits=24, samples=40_000), block=40_000)


@pytest.fixture
def library(source: FakeSource, make_library: MakeLibrary, disk: Disk) -> Library:
    source.add(RUN, Result(_FLAC))
    source.add(OTHER, Result(noise(_FORM, seed=2), has_length=False))
    return make_library(Cache(disk, 1 << 24))


@pytest.fixture
def wavs(library: Library) -> Wavs:
    return Wavs(library)


def _content(wav: OpenWav) -> bytes:
    content, buffer = b"", memoryview(bytearray(10_000))
    while count := wav.readinto(len(content), buffer, deadline()):
        content += buffer[:count]
    return content


def _read(wavs: Wavs) -> bytes:
    wav = wavs.open(RUN, deadline())
    try:
        return _content(wav)
    finally:
        wav.close()


def _size(wavs: Wavs) -> int:
    return wavs.wait_for_info(RUN, deadline()).size


def _prove_storage(library: Library) -> None:
    """Its object is compared with the stream, which does not tell the length."""
    read_all(library, OTHER)
    library.wait_for_info(OTHER, deadline())
    assert context_of(library).store.trust.proven


def test_a_size_costs_no_audio_and_nothing_is_decoded(
    source: FakeSource, library: Library, wavs: Wavs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cambfs.wav.decoder.Decoder", None)
    _prove_storage(library)

    assert wavs.info(RUN) is None
    info = wavs.wait_for_info(RUN, deadline())
    assert (info.size, info.mtime_ns) == (_FORM.file_bytes, library.wait_for_info(RUN, deadline()).mtime_ns)
    assert wavs.info(RUN) == info
    assert source.count("stream", RUN) == 0


def test_a_size_of_a_cached_result_costs_no_request(
    source: FakeSource, library: Library, make_library: MakeLibrary, disk: Disk
) -> None:
    read_all(library, RUN)
    library.close()
    asked = source.requests
    wavs = Wavs(make_library(Cache(disk, 1 << 24)))

    assert _size(wavs) == _FORM.file_bytes
    assert source.requests == asked


def test_a_program_that_goes_through_a_listing_is_seen_coming(source: FakeSource, make_library: MakeLibrary) -> None:
    runs = [RunId(number) for number in range(1, 11)]
    source.results.update(dict.fromkeys(runs, Result(_FLAC)))
    library = make_library(declared=runs)
    wavs = Wavs(library)
    library.begin_listing()

    assert {wavs.wait_for_info(run_id, deadline()).size for run_id in runs} == {_FORM.file_bytes}
    assert source.calls("bulk") > 0


def test_sizes_that_are_read_from_the_audio_fetch_no_other_audio(source: FakeSource, make_library: MakeLibrary) -> None:
    runs = [RunId(number) for number in range(1, 9)]
    source.results.update(dict.fromkeys(runs, Result(uncounted(_FLAC))))
    library = make_library(declared=runs, read_ahead=4)
    wavs = Wavs(library)
    for run_id in runs[:3]:
        assert wavs.wait_for_info(run_id, deadline()).size == _FORM.file_bytes
    eventually(no_threads)

    assert not any(source.count("stream", run_id) for run_id in runs[3:])


@pytest.mark.parametrize("storage", [StorageManner.UNREACHABLE, StorageManner.NO_RANGES, StorageManner.NO_LENGTH])
@pytest.mark.parametrize("has_length", [True, False])
def test_a_size_without_the_help_of_storage(
    storage: StorageManner, has_length: bool, source: FakeSource, wavs: Wavs
) -> None:
    source.storage = storage
    source.add(RUN, Result(_FLAC, has_length=has_length))

    assert _size(wavs) == _FORM.file_bytes


@pytest.mark.parametrize("counted", [_FLAC, _VARIABLE, _HUGE_BLOCKS], ids=["fixed", "variable", "huge"])
def test_a_flac_that_does_not_count_its_samples(counted: bytes, source: FakeSource, wavs: Wavs, tmp_path: Path) -> None:
    source.add(RUN, Result(uncounted(counted)))
    wanted = wav_of(counted, tmp_path)

    assert _size(wavs) == len(wanted)
    assert _read(wavs) == wanted


def test_a_flac_that_neither_counts_its_samples_nor_ends_with_a_frame(source: FakeSource, wavs: Wavs) -> None:
    """Stream and storage agree about its end, so it is a result."""
    source.add(RUN, Result(uncounted(_FLAC) + bytes(5), has_length=False))

    with pytest.raises(Undecodable, match="does not end with a frame"):
        wavs.open(RUN, deadline())
    with pytest.raises(Undecodable, match="does not end with a frame"):
        _size(wavs)


def _know_the_size(library: Library) -> None:
    """As from an earlier use, whose bytes the cache has not kept."""
    library.learn(RUN, RunInfo(len(_FLAC), 10**18), False)


def test_the_head_of_a_result_of_known_size_comes_from_storage(
    source: FakeSource, library: Library, wavs: Wavs
) -> None:
    _prove_storage(library)
    _know_the_size(library)

    assert _size(wavs) == _FORM.file_bytes
    assert source.count("stream", RUN) == 0


@pytest.mark.parametrize("samples", [None, 20_000])
def test_the_head_comes_from_the_stream_where_storage_is_of_no_use(
    samples: int | None, source: FakeSource, library: Library, wavs: Wavs
) -> None:
    """Storage is unreachable, or has another FLAC of another length."""
    _prove_storage(library)
    other = _FLAC if samples is None else noise(replace(_FORM, samples=samples), seed=5)
    source.add(RUN, Result(_FLAC, stored=other))
    if samples is None:
        source.storage = StorageManner.UNREACHABLE
    _know_the_size(library)

    assert _size(wavs) == _FORM.file_bytes
    assert source.count("stream", RUN) == 1


def test_a_size_is_forgotten_with_that_of_the_flac(library: Library, wavs: Wavs) -> None:
    _size(wavs)
    library.learn(RUN, RunInfo(1, 2), False)

    assert wavs.info(RUN) is None
    assert wavs.was_reported(RUN)


def test_the_bytes_are_those_of_flac(library: Library, wavs: Wavs, tmp_path: Path) -> None:
    assert _read(wavs) == wav_of(_FLAC, tmp_path)
    assert read_all(library, RUN) == _FLAC


def test_a_result_that_is_a_wav_is_passed_through(source: FakeSource, wavs: Wavs, tmp_path: Path) -> None:
    wav = wav_of(_FLAC, tmp_path)
    source.add(RUN, Result(wav))

    assert _size(wavs) == len(wav)
    assert _read(wavs) == wav


@pytest.mark.parametrize("content", [_OGG, with_count(_FLAC, 30_000).replace(b"fLaC", b"OggS\0")[:9000]])
def test_other_results_have_no_wav(content: bytes, source: FakeSource, wavs: Wavs) -> None:
    source.add(RUN, Result(content))

    assert not wavs.is_known_without(RUN)
    with pytest.raises(NoWav, match="Ogg"):
        wavs.open(RUN, deadline())
    with pytest.raises(NoWav, match="Ogg"):
        _size(wavs)
    assert wavs.is_known_without(RUN)


def test_a_flac_of_32_bits_has_no_wav(source: FakeSource, wavs: Wavs) -> None:
    content = bytearray(_FLAC)
    content[20:22] = bytes([content[20] | 1, content[21] | 0xF0])
    source.add(RUN, Result(bytes(content)))

    with pytest.raises(NoWav, match="32 bits"):
        wavs.open(RUN, deadline())


def test_an_unknown_run(wavs: Wavs) -> None:
    with pytest.raises(UnknownRun):
        wavs.wait_for_info(RunId(9), deadline())
    with pytest.raises(UnknownRun):
        wavs.info(RunId(9))
    with pytest.raises(UnknownRun):
        wavs.open(RunId(9), deadline())


def test_a_size_that_was_told_and_is_not_that_of_the_stream(source: FakeSource, library: Library, wavs: Wavs) -> None:
    """Storage has another FLAC of the same length, and was right about another run."""
    shorter = noise(replace(_FORM, samples=20_000), seed=3)
    source.add(RUN, Result(_FLAC, stored=padded(shorter, len(_FLAC))))
    _prove_storage(library)
    assert _size(wavs) == 20_000 * 2 + 44

    with pytest.raises(ResultChanged, match="WAV"):
        _read(wavs)
    assert _size(wavs) == _FORM.file_bytes
    assert len(_read(wavs)) == _FORM.file_bytes


def test_a_flac_that_is_cut_off_while_it_is_decoded(source: FakeSource, wavs: Wavs, tmp_path: Path) -> None:
    source.plan("stream", RUN, Plan(break_after=20_000), Plan(break_after=40_000))

    assert _read(wavs) == wav_of(_FLAC, tmp_path)


def test_a_result_that_changes_while_its_wav_is_open(source: FakeSource, library: Library, wavs: Wavs) -> None:
    """The kernel knows the new size by now, and would read zeros behind the end of the old samples."""
    gate = Gate()
    source.plan("stream", RUN, Plan(break_after=50_000, stall_at=50_000, stall_gate=gate))
    wav, buffer = wavs.open(RUN, deadline()), memoryview(bytearray(1000))
    assert wav.readinto(44, buffer, deadline()) == 1000
    source.add(RUN, Result(noise(replace(_FORM, samples=40_000), seed=5)))
    gate.open()
    with library.open(RUN, deadline()) as flac, pytest.raises(ResultChanged):
        flac.read(0, len(_FLAC), deadline())

    for offset in (0, 44):
        with pytest.raises(ResultChanged):
            wav.readinto(offset, buffer, deadline())
    wav.close()
    assert len(_read(wavs)) == 40_000 * 2 + 44


def test_the_kernel_keeps_its_pages_from_one_open_to_the_next(wavs: Wavs) -> None:
    assert [wavs.open(RUN, deadline()).same_bytes for _ in range(3)] == [False, True, True]


def test_the_kernel_drops_its_pages_when_the_result_has_changed_meanwhile(
    source: FakeSource, library: Library, wavs: Wavs
) -> None:
    """Also when the FLAC was open in between, so that its own pages are the new ones."""
    wavs.open(RUN, deadline()).close()
    eventually(lambda: not library.in_use)
    context_of(library).cache.discard(RUN)
    source.add(RUN, Result(noise(_FORM, seed=4)))
    library.open(RUN, deadline()).close()
    with library.open(RUN, deadline()) as handle:
        assert handle.same_bytes

        assert not wavs.open(RUN, deadline()).same_bytes


def test_a_flac_that_is_not_what_it_promises_stays_unreadable(source: FakeSource, wavs: Wavs) -> None:
    source.add(RUN, Result(with_other_md5(_FLAC)))

    for _ in range(2):
        wav = wavs.open(RUN, deadline())
        with pytest.raises(Undecodable, match="run 1: its samples have another MD5"):
            _content(wav)
        wav.close()
        assert not wav.same_bytes


def test_readers_share_a_decoding_until_the_last_one_closes(wavs: Wavs) -> None:
    one, other = wavs.open(RUN, deadline()), wavs.open(RUN, deadline())

    assert one._decoding is other._decoding
    one.close()
    assert _content(other)
    other.close()
    assert not wavs._decodings
