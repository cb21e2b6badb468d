"""A runs file as a whole: the runs and tasks in it, the tree of its names, and what is wrong with its lines.

Pure functions, no threads.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from cambfs.names import RunId, TaskId
from cambfs.run_list.folders import Folder, FolderBuilder, Target, Title
from cambfs.run_list.items import parse_item
from cambfs.run_list.lines import Line, Problem, decode, split
from cambfs.run_list.paths import parse_path, surprises

MAX_NAMES = 100_000  # with the folders; a usual tree of so many takes about 70 MB


@dataclass(frozen=True, slots=True)
class Content:
    """`ranges` and `tasks` are in the file's order. `errors` has the lines that have no effect, `warnings` the names
    that may surprise."""

    root: Folder = field(default_factory=Folder)
    ranges: list[range] = field(default_factory=list)
    tasks: list[TaskId] = field(default_factory=list)
    errors: list[Problem] = field(default_factory=list)
    warnings: list[Problem] = field(default_factory=list)


def parse_content(content: bytes, *, is_csv: bool) -> Content:
    """Raises ValueError when the file as a whole cannot be understood, or has too many names."""
    builder = FolderBuilder()
    found = Content(builder.root)
    for line in split(decode(content), is_csv=is_csv):
        try:
            _add(found, builder, line)
        except ValueError as error:
            found.errors.append(Problem(line.number, str(error)))
        if builder.count > MAX_NAMES:
            raise ValueError(
                f"more than {MAX_NAMES:,} names and folders; use several files, each with a mount of its own"
            )
    return found


def _add(found: Content, builder: FolderBuilder, line: Line) -> None:
    """Raises ValueError, and the line has no effect then."""
    item = parse_item(line.item)
    if line.name:
        path = parse_path(line.name)
        texts = surprises(path, is_table=line.is_table)
        texts += builder.add(Title(path, _only(item, line.item)), line.number)
        found.warnings.extend(Problem(line.number, text) for text in texts)
    if isinstance(item, range):
        found.ranges.append(item)
    else:
        found.tasks.append(item)


def _only(item: range | TaskId, text: str) -> Target:
    """What a name stands for. Raises ValueError for a range."""
    if not isinstance(item, range):
        return item
    if len(item) != 1:
        raise ValueError(f"{text!r} is a range, and a name is for one run; give each run a line of its own")
    return RunId(item.start)
