"""Which ends are believed: two witnesses and none against, or two against one."""

from __future__ import annotations

import pytest

from cambfs.audio import End
from cambfs.sizes.proof import UNPROVEN, Claims, proof_of

END = 100
OTHER = 140


def proof(
    end: End,
    *,
    framed: bool = True,
    stored: int | None = None,
    again: bool = False,
    by_storage: bool = False,
    is_stored_whole: bool = False,
    is_api_length: bool = False,
) -> str | None:
    return proof_of(Claims(END, framed, end, stored, again, by_storage, is_stored_whole, is_api_length))


@pytest.mark.parametrize("end", End)
def test_framing_needs_a_witness(end: End) -> None:
    assert proof(end) == ("framing+frames" if end is End.WHOLE else None)
    if end is not End.BROKEN:
        witness = "frames" if end is End.WHOLE else "twice"
        assert proof(end, again=True) == f"framing+{witness}"


def test_audio_that_contradicts_is_outvoted_by_framing_and_storage_only() -> None:
    assert proof(End.BROKEN, stored=END) == "framing+storage"
    assert proof(End.BROKEN, again=True) is None
    assert proof(End.BROKEN, framed=False, stored=END) is None


def test_storage_that_contradicts_is_outvoted_by_framing_and_frames_only() -> None:
    assert proof(End.WHOLE, stored=OTHER) == "framing+frames"
    assert proof(End.WHOLE, stored=OTHER, is_stored_whole=True) is None
    assert proof(End.WHOLE, stored=OTHER, framed=False) is None
    for end in (End.INTACT, End.PADDED, End.UNKNOWN, End.BROKEN):
        assert proof(end, stored=OTHER, again=True) is None


def test_without_framing() -> None:
    assert proof(End.WHOLE, framed=False) == "frames"
    assert proof(End.UNKNOWN, framed=False, stored=END) == "storage"
    assert proof(End.UNKNOWN, framed=False, again=True) == UNPROVEN
    assert proof(End.UNKNOWN, framed=False) is None


@pytest.mark.parametrize("end", End)
def test_what_storage_brought_is_proven_by_the_audio(end: End) -> None:
    is_frame = end in (End.WHOLE, End.INTACT)
    assert proof(end, stored=END, again=True, by_storage=True) == ("storage+frames" if is_frame else None)
    assert proof(end, stored=OTHER, by_storage=True) is None


@pytest.mark.parametrize("end", [End.PADDED, End.UNKNOWN])
def test_what_storage_brought_is_proven_by_the_length_that_the_api_told(end: End) -> None:
    """A zero may or may not belong to the audio, and some audio does not mark its end."""
    assert proof(end, stored=END, by_storage=True, is_api_length=True) == "framing+storage"
    assert proof(end, stored=OTHER, by_storage=True, is_api_length=True) is None
    assert proof(End.BROKEN, stored=END, by_storage=True, is_api_length=True) is None
