"""The rule that decides when a result counts as whole, as a pure function.

A server's word is a claim. The framing of a response claims that the body ended. The structure of the audio, the length
of storage's object and a second response claim that the result did. The proof takes two of them and none against, or
two against one.
"""

from __future__ import annotations

from dataclasses import dataclass

from cambfs.audio import End

# Two responses that just stopped at the same byte: enough to serve, not to keep.
UNPROVEN = ""
STORAGE = "storage"
# What shows the end of an object of which no other source has told the length. PADDED does not: where that object has
# zeros behind the audio, its size is wrong.
ENDS_IN_A_FRAME = (End.WHOLE, End.INTACT)


@dataclass(frozen=True)
class Claims:
    """Claims about the byte offset `position`.

    framed            HTTP ended the body there
    end               the verdict of the audio's structure
    stored            the length of storage's object where it begins like the stream, else None
    again             an earlier response ended there, too
    by_storage        the last bytes came from storage, and not from the stream
    is_stored_whole   storage's object ends by its own structure, too
    is_api_length     a response of the API had that length in its header
    """

    position: int
    framed: bool
    end: End
    stored: int | None
    again: bool
    by_storage: bool = False
    is_stored_whole: bool = False
    is_api_length: bool = False


def proof_of(claims: Claims) -> str | None:
    """The proof that the result ends there, for the sidecar ("framing+frames"); UNPROVEN when it may be served and not
    kept; None when another request is needed."""
    is_stored, is_whole = claims.stored == claims.position, claims.end is End.WHOLE
    if claims.by_storage:
        return _proof_by_storage(claims) if is_stored else None
    if claims.end is End.BROKEN and not (claims.framed and is_stored):
        return None
    if claims.stored is not None and not is_stored:
        is_outvoted = claims.framed and is_whole and not claims.is_stored_whole
        if not is_outvoted:
            return None
    witness = "frames" if is_whole else STORAGE if is_stored else "twice" if claims.again else None
    if witness is None or claims.framed:
        return witness and f"framing+{witness}"
    return UNPROVEN if witness == "twice" else witness


def _proof_by_storage(claims: Claims) -> str | None:
    """The framing and the length of its object are one witness."""
    if claims.end in ENDS_IN_A_FRAME:
        return f"{STORAGE}+frames"
    return f"framing+{STORAGE}" if claims.is_api_length and claims.end is not End.BROKEN else None
