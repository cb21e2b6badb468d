"""The figures as text: a table, a comparison, JSON. No threads."""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from bench_lib.figures import OURS, PEERS, Figure, Goal

_TEXTS = ("goal", "verdict")


def show(value: float | None, unit: str) -> str:
    if value is None:
        return "–"
    if unit == "s":
        return f"{value * 1000:.3g} ms" if value < 0.9995 else f"{value:.3g} s"
    number = f"{value:.0f}" if value == int(value) or value >= 100 else f"{value:.3g}"
    return f"{number} {unit}".strip()


def contenders(figures: Sequence[Figure]) -> list[str]:
    """Those that any of the figures is about, ours first."""
    return [OURS, *(who for who in PEERS if any(who in figure.samples or who in figure.absent for figure in figures))]


def rows(figures: Sequence[Figure], titles: Mapping[str, str]) -> list[tuple[str, list[str]]]:
    """The headings; then for each row of the benchmark, and each figure in it: its cells."""
    columns = contenders(figures)
    shown = [("", [*columns, *_TEXTS])]
    for name, title in titles.items():
        mine = [figure for figure in figures if figure.row == name]
        if mine:
            shown.append((f"**{title}**", [""] * (len(columns) + len(_TEXTS))))
        shown += [(figure.case, _cells(figure, columns)) for figure in mine]
    return shown


def _cells(figure: Figure, columns: Sequence[str]) -> list[str]:
    medians = [show(figure.median(who), figure.unit) for who in columns]
    note = f"({figure.note})" if figure.note else ""
    goals = ", ".join(goal.text for goal in figure.goals)
    return [*medians, goals, " ".join(filter(None, [figure.verdict(), note]))]


def markdown(figures: Sequence[Figure], titles: Mapping[str, str]) -> str:
    headings, *others = [[case, *cells] for case, cells in rows(figures, titles)]
    numbers = len(headings) - 1 - len(_TEXTS)
    rule = ["---", *["---:"] * numbers, *["---"] * len(_TEXTS)]
    lines = [" | ".join(cells) for cells in (headings, rule, *others)]
    return "".join(f"| {line} |\n" for line in lines) + "\n" + "".join(f"- {line}\n" for line in remarks(figures))


def plain(figures: Sequence[Figure], titles: Mapping[str, str]) -> str:
    lines = [[case.strip("*"), *cells] for case, cells in rows(figures, titles)]
    widths = [max(len(line[column]) for line in lines if any(line[1:])) for column in range(len(lines[0]) - 1)]
    return "\n".join(_aligned(line, widths) for line in lines) + "\n\n" + "\n".join(remarks(figures)) + "\n"


def _aligned(line: Sequence[str], widths: Sequence[int]) -> str:
    if not any(line[1:]):
        return line[0]
    numbers = [cell.rjust(width) for cell, width in zip(line[1 : -len(_TEXTS)], widths[1:], strict=False)]
    return "  ".join([("  " + line[0]).ljust(widths[0] + 2), *numbers, line[-2].ljust(widths[-1]), line[-1]])


def remarks(figures: Sequence[Figure]) -> list[str]:
    """In sentences: the missed goals, the figures that are worse than a peer's, and the rows without a figure."""
    goals = [(figure, goal) for figure in figures for goal in figure.goals]
    missed = [_missed(figure, goal) for figure, goal in goals if not goal.is_met]
    lines = [f"{len(goals) - len(missed)} of {len(goals)} goals are met."]
    lines += ["Not met: " + "; ".join(missed) + "."] if missed else []
    for who in PEERS:
        worse = [f"{_name(f)} ({ratio:.3g} ×)" for f in figures for peer, ratio in f.worse_than() if peer == who]
        lines += [f"Worse than {who}: " + "; ".join(worse) + "."] if worse else []
    reasons: dict[tuple[str, str], list[str]] = {}
    for figure in figures:
        for who, why in figure.absent.items():
            reasons.setdefault((who, why), []).append(_name(figure))
    return lines + [f"No figure of {who} ({why}): {'; '.join(cases)}." for (who, why), cases in reasons.items()]


def _name(figure: Figure) -> str:
    return f"{figure.row}, {figure.case}"


def _missed(figure: Figure, goal: Goal) -> str:
    return f"{_name(figure)}: {show(goal.figure, goal.unit)}, goal {goal.text} ({show(goal.limit, goal.unit)})"


def surroundings(rounds: int) -> dict[str, Any]:
    """The circumstances of the figures."""
    return {
        "date": time.strftime("%Y-%m-%d"),
        "rounds": rounds,
        "cores": os.cpu_count(),
        "kernel": platform.release().split("-")[0],
        "python": platform.python_version(),
        "nginx": _version(["nginx", "-v"]),
        "curl": _version(["curl", "--version"]),
        "rclone": _version(["rclone", "version"]),
    }


def _version(command: Sequence[str]) -> str:
    if shutil.which(command[0]) is None:
        return "not installed"
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=True)
    words = done.stdout.splitlines()[0].replace("/", " ").split()
    return next(word for word in words if word.lstrip("v")[:1].isdigit())


def as_json(figures: Iterable[Figure], surroundings: Mapping[str, Any]) -> str:
    found = [
        {
            "row": figure.row,
            "case": figure.case,
            "unit": figure.unit,
            "medians": {who: figure.median(who) for who in figure.samples},
            "samples": figure.samples,
            "absent": figure.absent,
            "goals": [
                {"text": goal.text, "figure": goal.figure, "limit": goal.limit, "unit": goal.unit, "met": goal.is_met}
                for goal in figure.goals
            ],
            "worse_than": dict(figure.worse_than()),
            "verdict": figure.verdict(),
            "note": figure.note,
        }
        for figure in figures
    ]
    return json.dumps({"surroundings": surroundings, "figures": found}, indent=1, ensure_ascii=False) + "\n"
