"""Sealed frames and facts: what is in another place, of another run, upload or account, or changed, is refused."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cambfs.names import RunId
from cambfs.tier.seals import (
    FRAME_BYTES,
    Facts,
    Frames,
    Header,
    SealBroken,
    account_name,
    new_upload,
    open_facts,
    seal_facts,
    seal_key,
)

URL, API_KEY = "https://api.test/apis", "a key"
KEY = seal_key(URL, API_KEY)
RUN = RunId(7)
FACTS = Facts(12, 5, "audio/flac", new_upload(), "a" * 64, "framing+frames")


def a_header() -> Header:
    return Header(new_upload(), "audio/flac", 12, '"e"', True, 1.5)


def a_log(*pieces: bytes, key: bytes = KEY, run_id: int = RUN) -> list[bytes]:
    """The frames of a new upload."""
    frames = Frames(key, RunId(run_id))
    return [frames.seal_header(a_header()), *(frames.seal(piece) for piece in pieces)]


def opened(*frames: bytes, key: bytes = KEY, run_id: int = RUN) -> bytes:
    """The data of a whole log. Raises SealBroken."""
    log, reader, data = b"".join(frames), Frames(key, RunId(run_id)), b""
    while reader.offset < len(log):
        piece = reader.open(log[reader.offset :])
        if piece is None:
            break
        data += piece
    return data


def test_what_was_sealed_is_opened() -> None:
    header, writer, reader = a_header(), Frames(KEY, RUN), Frames(KEY, RUN)
    log = bytearray(writer.seal_header(header) + writer.seal(b"first") + writer.seal(b"") + writer.seal(b"second"))
    pieces = []
    while log:
        before = reader.offset
        pieces.append(reader.open(log))
        del log[: reader.offset - before]

    assert (reader.header, pieces) == (header, [b"", b"first", b"", b"second"])
    assert (reader.offset, reader.position) == (writer.offset, writer.position)
    assert reader.position == len(b"firstsecond")


def test_a_frame_has_to_be_there_to_its_last_byte() -> None:
    frame = a_log()[0]

    assert all(Frames(KEY, RUN).open(frame[:length]) is None for length in range(len(frame)))


@pytest.mark.parametrize("which", [0, 1])
def test_every_bit_counts(which: int) -> None:
    frames = a_log(b"twelve bytes")
    for place in range(len(frames[which]) * 8):
        changed = bytearray(frames[which])
        changed[place // 8] ^= 1 << place % 8
        try:
            data = opened(*frames[:which], bytes(changed), *frames[which + 1 :])
        except SealBroken:
            continue
        # A length that goes beyond the log is no frame yet.
        assert (data, 8 <= place < 40) == (b"", True)


@pytest.mark.parametrize("order", [(0, 2, 1), (0, 2), (0, 1, 1), (1, 2), (0, 0, 1), (0, 1, 0, 2)])
def test_frames_that_are_out_of_order_missing_or_repeated_are_refused(order: tuple[int, ...]) -> None:
    frames = a_log(b"one", b"two")

    with pytest.raises(SealBroken):
        opened(*(frames[which] for which in order))


def test_two_uploads_cannot_be_spliced() -> None:
    first, second = a_log(b"one", b"two"), a_log(b"one", b"two")

    with pytest.raises(SealBroken):
        opened(first[0], first[1], second[2])
    with pytest.raises(SealBroken):
        opened(second[0], first[1])


def test_frames_of_another_run_or_account_are_refused() -> None:
    with pytest.raises(SealBroken):
        opened(*a_log(b"one", run_id=8))
    for other in (seal_key(URL, "another key"), seal_key("https://other.test/apis", API_KEY)):
        with pytest.raises(SealBroken):
            opened(*a_log(b"one", key=other))


def test_a_length_beyond_all_frames_is_refused_before_so_much_is_there() -> None:
    frames = Frames(KEY, RUN)
    header = frames.seal_header(a_header())
    reader = Frames(KEY, RUN)
    reader.open(header)

    assert reader.open(b"\2" + FRAME_BYTES.to_bytes(4, "big")) is None
    with pytest.raises(SealBroken):
        reader.open(b"\2" + (FRAME_BYTES + 1).to_bytes(4, "big"))


def test_facts_come_back() -> None:
    assert open_facts(KEY, RUN, seal_facts(KEY, RUN, FACTS)) == FACTS
    assert FACTS.is_whole
    assert not replace(FACTS, proof="").is_whole
    assert not replace(FACTS, sha256="").is_whole


def test_facts_that_were_changed_or_are_of_another_run_or_account_are_refused() -> None:
    sealed = seal_facts(KEY, RUN, FACTS)
    for place in range(len(sealed) * 8):
        changed = bytearray(sealed)
        changed[place // 8] ^= 1 << place % 8
        with pytest.raises(SealBroken):
            open_facts(KEY, RUN, bytes(changed))
    for content in (b"", sealed[:-1], sealed + b" ", b"{}" * 40):
        with pytest.raises(SealBroken):
            open_facts(KEY, RUN, content)
    with pytest.raises(SealBroken):
        open_facts(KEY, RunId(8), sealed)
    with pytest.raises(SealBroken):
        open_facts(seal_key(URL, "another key"), RUN, sealed)


def test_a_frame_is_no_facts() -> None:
    with pytest.raises(SealBroken):
        open_facts(KEY, RUN, a_log()[0])


def test_accounts_have_names_and_keys_of_their_own() -> None:
    accounts = [(URL, API_KEY), (URL, "another key"), ("https://other.test/apis", API_KEY)]

    assert len({account_name(*account) for account in accounts}) == len(accounts)
    assert len({seal_key(*account) for account in accounts}) == len(accounts)
    assert account_name(URL + "/", API_KEY) == account_name(URL, API_KEY)
    assert len(account_name(URL, API_KEY)) == 32
    assert bytes.fromhex(account_name(URL, API_KEY)) != KEY[:16]
