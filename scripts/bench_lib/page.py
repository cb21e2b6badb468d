"""Puts the table and the picture into docs/performance-log.md. No threads."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bench_lib.figures import Figure
from bench_lib.plot import draw, draw_link
from bench_lib.table import markdown

_DOCS = Path(__file__).resolve().parents[2] / "docs"


def write(figures: Sequence[Figure], titles: Mapping[str, str], surroundings: Mapping[str, Any]) -> None:
    picture = "![The figures as bars](performance-log.png)\n\n"
    _replace("measured", f"{_table(figures, titles, surroundings)}\n{picture}")
    draw(figures, _DOCS / "performance-log.png")


def write_link(figures: Sequence[Figure], titles: Mapping[str, str], surroundings: Mapping[str, Any]) -> None:
    _replace("measured over a link", f"{_table(figures, titles, surroundings)}\n")
    if figures:
        draw_link(figures, _DOCS / "real-link.png")


def _table(figures: Sequence[Figure], titles: Mapping[str, str], surroundings: Mapping[str, Any]) -> str:
    made = ", ".join(f"{name} {value}" for name, value in surroundings.items())
    return f"\n{markdown(figures, titles)}\nMade with: {made}.\n"


def _replace(name: str, text: str) -> None:
    page = _DOCS / "performance-log.md"
    place = re.compile(rf"(?<=<!-- {name} -->\n).*?(?=<!-- end of {name} -->)", re.DOTALL)
    page.write_text(place.sub(lambda _: text, page.read_text()))
