"""The command line of the benchmark: which rows, how often, and where the figures go. No threads."""

from __future__ import annotations

import argparse
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path

from bench_lib import link, page, plot, rows_cold, rows_daemon, rows_many, rows_warm, table
from bench_lib.figures import OURS, CannotMeasure, Figure
from bench_lib.lab import Lab
from bench_lib.real_link import command
from bench_lib.real_link.command import terms
from bench_lib.real_link.rows import ROWS as LINK_ROWS

_ROUNDS, _QUICK_ROUNDS = 7, 3


@dataclass(frozen=True)
class Row:
    name: str
    title: str
    measure: Callable[[Lab], Iterator[Figure]]
    is_long: bool = False


_ROWS = (
    Row("start", "start: cost of `cambfs --help` and of `cambfs mount` until it answers", rows_daemon.start),
    Row("first-bytes", "first-bytes: first 4 KiB of a cold result of 15 MB", rows_cold.first_bytes),
    Row("cold-copy", "cold-copy: copy of a cold result, unlimited link", rows_cold.cold_copy),
    Row("requests", "requests: of one copy", rows_cold.requests),
    Row("limited-copy", "limited-copy: copy of a cold result on a limited link", rows_cold.limited_copy),
    Row("tail", "tail: last 128 bytes of a cold result of 15 MB, 100 Mbit/s", rows_cold.tail),
    Row("seek", "seek: from the beginning to the middle of 15 MB, 100 Mbit/s, first byte there", rows_cold.seek),
    Row("fifty", "fifty: 50 cold results of 0.2-3 MB, read by 32 threads", rows_many.fifty),
    Row("stats", "stats: `stat` of 50 cold results by 32 threads", rows_many.stats),
    Row("listing", "listing: `ls -l` of 1,000 declared results", rows_many.listing),
    Row("again", "again: read again", rows_warm.again),
    Row("idle", "idle: a mount with nothing to do", rows_daemon.idle),
    Row("streams", "streams: 64 cold streams at once, time for each", rows_many.streams, is_long=True),
    Row("memory", "memory: of the daemon, resident", rows_daemon.memory, is_long=True),
    Row("cached-listing", "cached-listing: a cache of 100,000 results", rows_warm.cached_listing, is_long=True),
)
_TITLES = {row.name: row.title for row in _ROWS}
_LINK_ROWS = [row.name for row in LINK_ROWS]


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/bench", description="Measures cambfs beside its peers.")
    parser.add_argument("--quick", action="store_true", help="two minutes: fewer rounds, without the long rows")
    parser.add_argument(
        "--only", metavar="ROW", action="append", choices=[*_TITLES, *_LINK_ROWS], help="this row; repeatable"
    )
    parser.add_argument("--rounds", type=int, help=f"samples of each figure ({_ROUNDS}; {_QUICK_ROUNDS} with --quick)")
    parser.add_argument("--json", metavar="FILE", type=Path, help="write every sample there")
    parser.add_argument("--plot", metavar="FILE.png", type=Path, help="draw the figures")
    parser.add_argument("--write", action="store_true", help="put table and picture into docs/performance-log.md")
    parser.add_argument("--work", metavar="DIR", type=Path, help="where audio and caches go, and audio stays; 10 GB")
    parser.add_argument(
        "--link", action="store_true", help="over real links instead: TLS, round trips, loss; needs root"
    )
    parser.add_argument(
        "--on", metavar="LINK", action="append", type=terms, help="with --link: MS,MBIT[,LOSS%%]; repeatable"
    )
    parser.add_argument(
        "--check", metavar="LINK", type=terms, help="with --link: only check that such a link can be had"
    )
    parser.epilog = f"Rows: {', '.join(_TITLES)}. With --link: {', '.join(_LINK_ROWS)}."
    arguments = parser.parse_args()
    if arguments.rounds is not None and arguments.rounds < 1:
        parser.error("--rounds must be at least 1")
    if not arguments.link and (arguments.on or arguments.check):
        parser.error("--on and --check need --link")
    unknown = {*(arguments.only or ())} - {*(_LINK_ROWS if arguments.link else _TITLES)}
    if unknown:
        parser.error(f"no such row here: {', '.join(unknown)}")
    if arguments.link and (arguments.rounds or arguments.plot or arguments.work):
        parser.error("--link takes only --only, --quick, --on, --check, --json and --write")
    return arguments


def _chosen(only: Sequence[str] | None, is_quick: bool) -> list[Row]:
    if only:
        return [row for row in _ROWS if row.name in only]
    return [row for row in _ROWS if not (is_quick and row.is_long)]


def _measure(lab: Lab, row: Row) -> Iterator[Figure]:
    begin = time.monotonic()
    print(f"{row.name} …", end="", file=sys.stderr, flush=True)
    try:
        yield from row.measure(lab)
    except (CannotMeasure, OSError, ValueError, subprocess.TimeoutExpired) as error:
        yield Figure(row.name, "the rest of this row", "", {}, absent={OURS: str(error) or type(error).__name__})
    finally:
        lab.sweep()
    print(f" {time.monotonic() - begin:.0f} s", file=sys.stderr)


def main() -> int:
    arguments = _arguments()
    if arguments.link:
        return command.run(arguments, sys.argv[1:])
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that mounts are unmounted
    link.enter_namespace()
    link.bring_up()
    rounds = arguments.rounds or (_QUICK_ROUNDS if arguments.quick else _ROUNDS)
    with ExitStack() as stack:
        work = arguments.work or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="cambfs-bench-")))
        lab = stack.enter_context(closing(Lab(work.absolute(), rounds, arguments.quick)))
        figures = [figure for row in _chosen(arguments.only, arguments.quick) for figure in _measure(lab, row)]
    print(table.plain(figures, _TITLES))
    surroundings = table.surroundings(rounds)
    if arguments.json:
        arguments.json.write_text(table.as_json(figures, surroundings))
    if arguments.plot:
        plot.draw(figures, arguments.plot)
    if arguments.write:
        page.write(figures, _TITLES, surroundings)
    return 0


sys.exit(main())
