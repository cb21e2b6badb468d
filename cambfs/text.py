"""Makes any text safe for terminals, logs and lists of one line each. No threads."""

from __future__ import annotations

_MAX_QUOTED = 60


def visible(text: str) -> str:
    """`text` with everything that would not show as itself written as an escape (\\x1b, \\n, \\u202e). Text from a
    server or a file name then cannot move the cursor, begin a line, or turn the reading direction."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def quoted(text: str) -> str:
    """As a Python string, shortened when it is long."""
    return repr(text if len(text) <= _MAX_QUOTED else f"{text[:_MAX_QUOTED]}…")


def shown_size(size: int) -> str:
    """As a person reads it, in binary units."""
    value, units = float(size), ["bytes", "KiB", "MiB", "GiB", "TiB"]
    while value >= 1024 and len(units) > 1:
        value /= 1024
        del units[0]
    return f"{size} bytes" if units[0] == "bytes" else f"{value:.1f} {units[0]}"


def shown_time(seconds: float) -> str:
    """As a person reads it, in the two largest units."""
    minutes, s = divmod(int(seconds), 60)
    hours, m = divmod(minutes, 60)
    days, h = divmod(hours, 24)
    parts = [f"{value} {unit}" for value, unit in ((days, "d"), (h, "h"), (m, "min"), (s, "s")) if value]
    return " ".join(parts[:2]) or "0 s"
