"""Whether the place where an answer ended is the end of its result.

A peer's word is a claim. The framing of an answer says that the body ended; the structure of the audio, the length of
storage's object and a second answer say that the result did. It takes two of them, and none against, unless two agree
against one. Pure functions, no threads.
"""

from __future__ import annotations

from dataclasses import dataclass

from cambfs.audio import End

# Two answers that just stopped at the same byte: enough to serve, not to keep.
UNPROVEN = ""
STORAGE = "storage"


@dataclass(frozen=True)
class Claims:
    """What is said of the byte offset `position`: `framed`, that HTTP ended the body there; `end`, what the structure
    of the audio says; `stored`, the length of storage's object where it begins like the stream, else None; `again`,
    that an earlier answer ended there, too."""

    position: int
    framed: bool
    end: End
    stored: int | None
    again: bool


def proof_of(claims: Claims) -> str | None:
    """How it is proven that the result ends there, for the sidecar ("framing+frames"); UNPROVEN when it may be served
    and not kept; None when it has to be asked again."""
    is_stored = claims.stored == claims.position
    if claims.end is End.BROKEN and not is_stored:
        return None
    if claims.stored is not None and not is_stored and not (claims.framed and (_is_whole(claims) or claims.again)):
        return None
    witness = "frames" if _is_whole(claims) else STORAGE if is_stored else "twice" if claims.again else None
    if witness is None or claims.framed:
        return witness and f"framing+{witness}"
    return UNPROVEN if witness == "twice" else witness


def _is_whole(claims: Claims) -> bool:
    return claims.end is End.WHOLE
