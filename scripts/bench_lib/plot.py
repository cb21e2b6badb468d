"""The figures as a picture: the peers' times beside ours, and every goal with the used part of it. No threads."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from bench_lib.figures import OURS, PEERS, Figure, Goal

_COLOURS = dict(
    zip(
        (OURS, *PEERS),
        ("#d62728", "#7f7f7f", "#000000", "#bcbd22", "#dbdb8d", "#1f77b4", "#17becf", "#2ca02c", "#9467bd", "#8c564b"),
        strict=True,
    )
)
_MET, _MISSED = "#4c9f70", "#d62728"
# Beyond this a bar is cut off.
_MOST_SHARE = 3.0


def draw(figures: Sequence[Figure], path: Path) -> None:
    from matplotlib.figure import Figure as Canvas

    beside = _beside(figures)
    goals = [(figure, goal) for figure in figures for goal in figure.goals]
    height = 1.5 + 0.34 * max(len(beside) * 1.6, len(goals))
    canvas = Canvas(figsize=(17, height), layout="constrained")
    left, right = canvas.subplots(1, 2)
    _times(left, beside, [f"{figure.row}: {figure.case}" for figure in beside])
    _goals(right, goals)
    canvas.savefig(path, dpi=80)


def draw_link(figures: Sequence[Figure], path: Path) -> None:
    """What cambfs and its peers take over the first of the links."""
    from matplotlib.figure import Figure as Canvas

    shown = [figure for figure in _beside(figures) if figure.row == figures[0].row]
    canvas = Canvas(figsize=(11, 1.5 + 0.55 * len(shown)), layout="constrained")
    axes = canvas.subplots()
    _times(axes, shown, [figure.case for figure in shown])
    axes.set_title(f"Over a link of {figures[0].row}, with TLS")
    canvas.savefig(path, dpi=80)


def _beside(figures: Sequence[Figure]) -> list[Figure]:
    return [figure for figure in figures if figure.samples.get(OURS) and any(figure.median(who) for who in PEERS)]


def _times(axes, figures: Sequence[Figure], labels: Sequence[str]) -> None:  # type: ignore[no-untyped-def]
    everybody = [who for who in (OURS, *PEERS) if any(figure.median(who) is not None for figure in figures)]
    width = 0.8 / len(everybody)
    for place, who in enumerate(everybody):
        points = [(y + place * width, median) for y, f in enumerate(figures) if (median := f.median(who)) is not None]
        if points:
            where, medians = zip(*points, strict=True)
            axes.barh(where, medians, height=width, color=_COLOURS[who], label=who)
    axes.set_yticks([y + 0.4 - width / 2 for y in range(len(figures))], labels)
    axes.margins(y=0.01)
    axes.invert_yaxis()
    axes.set_xscale("log")
    axes.set_xlabel("seconds (shorter is better)")
    axes.set_title("Beside what people would use instead")
    axes.grid(axis="x", alpha=0.3)
    if figures:
        axes.legend()


def _goals(axes, goals: Sequence[tuple[Figure, Goal]]) -> None:  # type: ignore[no-untyped-def]
    shares = [min(goal.share, _MOST_SHARE) for _, goal in goals]
    axes.barh(range(len(goals)), shares, color=[_MET if goal.is_met else _MISSED for _, goal in goals])
    axes.set_yticks(range(len(goals)), [f"{f.row}: {f.case}: {goal.text}" for f, goal in goals], fontsize=7)
    axes.margins(y=0.01)
    axes.invert_yaxis()
    axes.axvline(1, color="black", linewidth=1)
    axes.set_xlim(0, _MOST_SHARE)
    axes.set_xlabel("part of what the goal allows (left of the line: met)")
    axes.set_title("Goals")
