"""`scripts/bench --link`: goes through the links, proves each, measures on it, and shows the table. No threads."""

from __future__ import annotations

import argparse
import shutil
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from bench_lib import page, table
from bench_lib.figures import OURS, CannotMeasure, Figure
from bench_lib.real_link import check, network, rows, sandbox
from bench_lib.real_link.network import Network, Terms
from bench_lib.real_link.origin import Content, Origin
from bench_lib.real_link.place import Place

_LINKS = [Terms(trip, rate, loss) for trip in (100, 50) for rate in (100, 1000) for loss in (0, 0.1)]
_QUICK_LINKS = [Terms(100, 100), Terms(100, 1000)]
# A busy machine can spoil a proof; a link that fails all of them is no link to measure on.
_PROOFS = 3


def run(arguments: argparse.Namespace, words: Sequence[str]) -> int:
    """The exit status. A machine that cannot have a link costs one line on standard error."""
    try:
        if not sandbox.is_inside():
            return sandbox.run_inside(words)
        sandbox.prepare()
        program = network.build(sandbox.WORK)
        if arguments.check:
            print(f"{arguments.check}: {_prove(program, arguments.check)}")
            return 0
        return _measure_all(program, arguments)
    except CannotMeasure as reason:
        print(f"bench: {reason}", file=sys.stderr)
        return 1


def terms(text: str) -> Terms:
    """`MS,MBIT` or `MS,MBIT,LOSS%`. Raises ValueError."""
    trip, rate, *loss = text.split(",")
    return Terms(int(trip), int(rate), float(loss[0]) if loss else 0)


def _prove(program: Path, link: Terms) -> check.Found:
    with Network(program, link) as here:
        return _proven(here)


def _measure_all(program: Path, arguments: argparse.Namespace) -> int:
    begin = time.monotonic()
    content = Content(sandbox.WORK / "content")
    links = arguments.on or (_QUICK_LINKS if arguments.quick else _LINKS)
    titles: dict[str, str] = {}
    figures: list[Figure] = []
    only = arguments.only or ()
    for number, link in enumerate(links):
        work = sandbox.WORK / str(number)
        work.mkdir()
        try:
            figures += _measure(program, link, content, work, titles, only, is_quick=arguments.quick)
        except CannotMeasure as reason:
            titles.setdefault(str(link), str(link))
            figures.append(Figure(str(link), "everything", "", {}, absent={OURS: str(reason)}))
        shutil.rmtree(work)
        _keep(figures, titles, arguments)
    print(table.plain(figures, titles))
    print(f"{time.monotonic() - begin:.0f} s")
    return 0


def _keep(figures: Sequence[Figure], titles: Mapping[str, str], arguments: argparse.Namespace) -> None:
    """Writes what there is so far, so that a bench that is ended early has not measured for nothing."""
    surroundings = table.surroundings(1)
    if arguments.json:
        arguments.json.write_text(table.as_json(figures, surroundings))
    if arguments.write:
        page.write_link(figures, titles, surroundings)


def _measure(
    program: Path,
    link: Terms,
    content: Content,
    work: Path,
    titles: dict[str, str],
    only: Sequence[str],
    *,
    is_quick: bool,
) -> Iterator[Figure]:
    with Network(program, link) as here:
        titles[str(link)] = f"{link}, {link.congestion} ({_proven(here)})"
        with Origin(here, work / "origin", content) as origin:
            place = Place(here, origin, work / "place")
            for row, port in rows.chosen(link, is_quick, only):
                begin = time.monotonic()
                yield from rows.measure(place, row, port)
                print(f"{link}: {row.name}, port {port} {time.monotonic() - begin:.0f} s", file=sys.stderr)


def _proven(here: Network) -> check.Found:
    for _ in range(_PROOFS - 1):
        with suppress(CannotMeasure):
            return check.prove(here)
    return check.prove(here)
