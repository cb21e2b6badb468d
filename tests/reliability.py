"""Makes docs/reliability.md from what the tests of faults noted (`kernel.faults.seen`): `-m tests.reliability FILE`.

Nothing on the page is written by hand but the words around the tables. No threads.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

PAGE = Path(__file__).parents[1] / "docs" / "reliability.md"
_BEFORE = """# What happens when things go wrong

Every row was proven through a real mount, against an API that misbehaves on cue, by `tests/kernel/test_faults_*.py`,
`tests/kernel/test_soak.py` and `tests/hostile`. The tables are made from a run of these tests: `scripts/reliability`
makes them again. They run as a part of `scripts/test`, too; `scripts/soak --minutes 60` loads a mount with all of it at
random.

The timeout was 2 s in most tests (the default is 30 s). "How soon" is what was measured, on two busy cores, from the
start of the tool that reads to its end; where several results were read, the slowest.
No row ends with a short or an empty file. The timeout counts
from the last bytes that came; where the server had fallen silent, from the last new ones.
`/.cambfs/errors` in the mount shows the last 100 failures: time, file, operation, errno, HTTP status, the API's words,
and what to do.
"""
_ABOUT = {
    "A hostile server": """\
A server that speaks raw bytes says what no server should. Each case is read whole, with `stat` first, from its tail,
through a memory map, or by two readers at once; a healthy result is read right before and right after it on the same
connections. The bytes of all three, every size and the cache are compared, and once more after mounting again. The rows
of single cases come first, then one for each group, whose numbers count cases (`tests/hostile/cases`).
"""
}
_AFTER = """
## What cannot be noticed

- A `Content-Length` that is too long, before the body has ended: until then `stat` tells it.
- A `Content-Length` that is too short, before the body has ended: a program that maps the file, or reads as much as
  `stat` said, has a short file then. Other readers get the whole or an error, and nothing of it is cached.
- A stream with the beginning of its own audio in front of the whole, where storage cannot be asked.
- A range with the right `Content-Range` and validator, and other bytes inside.
- A result that changes its length while somebody has it open: the kernel has one size for all who have a name open. Who
  opened the former one gets ESTALE for what was not fetched.
- A body that ends with its connection, in a format that does not say how long it is, where storage cannot be asked: it
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
