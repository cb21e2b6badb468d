"""Which rows are measured on which link. No threads."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass

from bench_lib.figures import OURS, CannotMeasure, Figure
from bench_lib.real_link import rows_many, rows_one, rows_shared
from bench_lib.real_link.network import Terms
from bench_lib.real_link.origin import Port
from bench_lib.real_link.place import Place


@dataclass(frozen=True)
class Row:
    """`on` says on which links it is measured: each where the figure has something to tell. Where packets are lost,
    only the first of the ports is."""

    name: str
    measure: Callable[[Place, Port], Iterator[Figure]]
    on: Callable[[Terms], bool]
    ports: Sequence[Port] = (Port.CHUNKED,)


def _is_any(_terms: Terms) -> bool:
    return True


def _is_lossless(terms: Terms) -> bool:
    return not terms.loss_percent


def _is_fast(terms: Terms) -> bool:
    return terms.megabits == 1000


def _is_plain(terms: Terms) -> bool:
    return _is_lossless(terms) and not _is_fast(terms)


_BOTH = (Port.CHUNKED, Port.LENGTH)
ROWS = (
    Row("in-order", rows_many.in_order, _is_any, _BOTH),
    Row("random", rows_many.at_random, _is_lossless),
    Row("at-once", rows_many.at_once, _is_lossless),
    Row("small", rows_one.one_small, _is_any, _BOTH),
    Row("after-stats", rows_one.after_stats, _is_lossless),
    Row("first", rows_one.first, _is_any),
    Row("chapter", rows_one.one_chapter, _is_any, _BOTH),
    Row("book", rows_one.one_book, _is_fast, _BOTH),
    Row("head", rows_one.head, _is_lossless, _BOTH),
    Row("listing", rows_many.listing, _is_plain),
    Row("playing", rows_many.playing, _is_plain),
    Row("idle", rows_one.after_idle, _is_plain),
    Row("eight", rows_shared.eight, _is_plain),
    Row("alone", rows_shared.alone, _is_plain),
)
# About two minutes: on the fast link only what changes most with the rate.
_QUICK_ROWS = ("in-order", "small", "first", "chapter", "head", "listing", "playing", "idle")
_QUICK_FAST_ROWS = ("chapter", "book")


def chosen(terms: Terms, is_quick: bool, only: Collection[str] = ()) -> Iterator[tuple[Row, Port]]:
    """What is measured on this link; with `only`, of these rows."""
    quick = _QUICK_FAST_ROWS if _is_fast(terms) else _QUICK_ROWS
    for row in ROWS:
        if row.on(terms) and (row.name in (only or quick) or not (only or is_quick)):
            ports = row.ports if _is_lossless(terms) and not is_quick else row.ports[:1]
            yield from ((row, port) for port in ports)


def measure(place: Place, row: Row, port: Port) -> Iterator[Figure]:
    """The figures of a row; one that says why when there is none."""
    try:
        yield from row.measure(place, port)
    except (CannotMeasure, OSError, ValueError, subprocess.TimeoutExpired) as error:
        why = str(error) or type(error).__name__
        yield Figure(str(place.terms), f"{row.name}, the rest", "", {}, absent={OURS: why})
