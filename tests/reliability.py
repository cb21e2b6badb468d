"""Makes docs/reliability.md from the notes of the fault tests (`kernel.faults.seen`): `-m tests.reliability FILE`.

Only the text around the tables is written by hand. No threads.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

PAGE = Path(__file__).parents[1] / "docs" / "reliability.md"
_BEFORE = """# What happens when things go wrong

Every row was proven through a real mount, against an API that misbehaves on demand, by `tests/kernel/test_faults_*.py`,
`tests/kernel/test_soak.py` and `tests/hostile`. `scripts/reliability` makes the tables from a run of the tests.
`scripts/test` runs the tests, too. `scripts/soak --minutes 60` loads a mount with random faults of all kinds.

The timeout was 2 s in most tests (the default is 30 s). "How soon" was measured on two busy cores, from the
start of the reading tool to its end; for several results it is the slowest. No row ends with a short or an empty file.
The timeout counts from the last new bytes.
`/.cambfs/errors` in the mount shows the last 100 failures: time, file, operation, errno, HTTP status, the API's
message, and what to do.
"""
_ABOUT = {
    "A hostile server": """\
A server that sends raw bytes breaks the rules of HTTP and of the API. Each case is read whole, with `stat` first, from
its tail, through a memory map, or by two readers at once; a healthy result is read right before and right after it on
the same connections. The bytes of all three, every size and the cache are compared, and once more after mounting
again. The rows of single cases come first, then one for each group, whose numbers count cases (`tests/hostile/cases`).
"""
}
_AFTER = """
## Faults that cannot be noticed

- A `Content-Length` that is too long, before the body has ended: until then `stat` shows it.
- A `Content-Length` that is too short, before the body has ended: a program that maps the file, or reads as much as
  `stat` showed, has a short file then. Other readers get the whole or an error, and the result is not cached.
- A stream with the beginning of its own audio in front of the whole, where storage cannot be asked.
- A range with the right `Content-Range` and validator, and other bytes inside.
- A result that changes its length while it is open: the kernel has one size for all open files of a name. Readers of
  the former version get ESTALE for bytes that were not fetched.
- A body that ends with its connection, in a format without a length, where storage cannot be asked: it
  takes two responses that end at the same byte, and is not kept on the disk.
"""


def page(rows: list[dict[str, Any]]) -> str:
    """The whole page; the sections in the order of their first row."""
    sections: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        sections.setdefault(row["section"], []).append(row)
    return "\n".join([_BEFORE, *(_table(title, found) for title, found in sections.items())]) + _AFTER


def _table(title: str, rows: list[dict[str, Any]]) -> str:
    head = ["fault", "the reader gets", "how soon", "in the cache afterwards", "in `/.cambfs/errors`"]
    about = [_ABOUT[title]] if title in _ABOUT else []
    lines = [f"## {title}", "", *about, _line(head), _line(["---"] * len(head))]
    for row in rows:
        cells = [row["fault"], row["reader_sees"], _seconds(row["how_soon_s"]), row["cache_after"], row["journal"]]
        lines.append(_line(cells))
    return "\n".join([*lines, ""])


def _line(cells: list[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _seconds(seconds: float | None) -> str:
    if seconds is None:
        return "–"
    return "< 0.1 s" if seconds < 0.1 else f"{seconds:.1f} s"


def main() -> None:
    rows = [json.loads(line) for line in Path(sys.argv[1]).read_text().splitlines()]
    PAGE.write_text(page(rows))
    print(f"{PAGE}: {len(rows)} rows")


if __name__ == "__main__":
    main()
