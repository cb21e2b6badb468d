"""How long a signed URL lives, read from the query where the signing services write it.

Not whether the signature is right: only storage knows. Pure functions, no threads.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from urllib.parse import parse_qsl, urlsplit

DEFAULT_LIFE_S = 300.0
# The longest that S3 and Google sign for. A later end is a misread number, and believing it would keep a dead URL.
MAX_LIFE_S = 7 * 86400.0
_BASIC_ISO = re.compile(r"\d{8}T\d{6}Z", re.ASCII)
_SECONDS = re.compile(r"\d{1,12}", re.ASCII)


def life_s(url: str, now_s: float) -> float:
    """For how many seconds after `now_s` (seconds since the epoch, the server's clock where it is known) the
    signature of `url` holds: 0 when it has run out, at most seven days, 300 when the URL has none. Raises
    nothing."""
    end_s = _end_s(_parameters(url))
    if end_s is None:
        return DEFAULT_LIFE_S
    return min(max(end_s - now_s, 0.0), MAX_LIFE_S)


def tells_life(url: str) -> bool:
    """Whether the URL says when its signature runs out. Raises nothing."""
    return _end_s(_parameters(url)) is not None


def _parameters(url: str) -> Mapping[str, str]:
    try:
        pairs = parse_qsl(urlsplit(url).query, max_num_fields=100)
    except ValueError:
        return {}
    return {name.lower(): value for name, value in pairs}


def _end_s(parameters: Mapping[str, str]) -> float | None:
    for vendor in ("amz", "goog"):
        begin_s = _basic_iso_s(parameters.get(f"x-{vendor}-date", ""))
        span_s = _seconds(parameters.get(f"x-{vendor}-expires", ""))
        if begin_s is not None and span_s is not None:
            return begin_s + span_s
    end_s = _seconds(parameters.get("expires", ""))
    return end_s if end_s is not None else _extended_iso_s(parameters.get("se", ""))


def _seconds(text: str) -> float | None:
    return float(text) if _SECONDS.fullmatch(text) else None


def _basic_iso_s(text: str) -> float | None:
    if not _BASIC_ISO.fullmatch(text):
        return None
    try:
        return datetime.strptime(text, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC).timestamp()
    except (ValueError, OverflowError):
        return None


def _extended_iso_s(text: str) -> float | None:
    try:
        moment = datetime.fromisoformat(text)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        return None
