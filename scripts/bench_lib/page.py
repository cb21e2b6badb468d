"""Puts the table and the picture into docs/performance-log.md. No threads."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bench_lib.figures import Figure
from bench_lib.plot import draw
from bench_lib.table import markdown

_DOCS = Path(__file__).resolve().parents[2] / "docs"
_MEASURED = re.compile(r"(?<=<!-- measured -->\n).*?(?=<!-- end of measured -->)", re.DOTALL)


def write(figures: Sequence[Figure], titles: Mapping[str, str], surroundings: Mapping[str, Any]) -> None:
    page = _DOCS / "performance-log.md"
    made = ", ".join(f"{name} {value}" for name, value in surroundings.items())
    text = f"\n{markdown(figures, titles)}\nMade with: {made}.\n\n![The figures as bars](performance-log.png)\n\n"
    page.write_text(_MEASURED.sub(lambda _: text, page.read_text()))
    draw(figures, _DOCS / "performance-log.png")
