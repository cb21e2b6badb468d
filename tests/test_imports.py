"""The direction of imports between rooms. Read from the sources, so that nothing has to be installed."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import cambfs

_ROOT = Path(cambfs.__file__).parent

# Each room, and the rooms that it may import. What is in no room is a word that everybody uses (TOP), or puts the parts
# together (`account`, `wiring`, `bulk_fetch`, `cli`), or is a program (`__main__`, `mount_helper`).
TOP = {"cambfs", "errors", "names", "model", "flac", "flac_subframes", "audio", "text", "deadline", "clock", "waiters"}
MAY_IMPORT = {
    "system": set(),
    "mounts": {"system"},
    "remote": {"system"},
    "wire": set(),
    "redaction": set(),
    "hosts": {"redaction"},
    "http": {"remote", "wire", "hosts", "redaction", "system"},
    "disk": {"system"},
    "cache": {"disk", "system"},
    "sizes": {"disk", "remote"},
    "shared": set(),
    "tier": {"shared"},
    "spans": {"disk"},
    "transfers": {"spans", "tier", "cache", "disk", "remote", "system"},
    "ahead": {"transfers", "remote"},
    "intake": {"transfers", "tier", "sizes", "cache", "disk", "remote"},
    "runs": {"intake", "ahead", "transfers", "cache", "remote"},
    "run_list": {"system"},
    "wav": {"runs", "remote"},
    "vfs": {"wav", "runs", "cache", "remote"},
    "links": {"vfs", "run_list", "runs", "remote"},
    "status": {"runs", "transfers", "cache", "remote", "shared"},
    "fuse": {"vfs", "runs", "mounts", "system"},
    "python": {"settings", "wiring", "fuse", "runs", "wav", "system"},
    "settings": {"run_list", "hosts", "shared", "system"},
    "doctor": {
        "settings",
        "account",
        "http",
        "hosts",
        "redaction",
        "shared",
        "wire",
        "remote",
        "cache",
        "disk",
        "mounts",
        "system",
    },
}
# The most that a room may have, so that a reader can take it in.
MAX_FILES, MAX_LINES = 9, 1500
# Modules that only the named rooms may import.
RESERVED = {
    "fuse": {"fuse"},
    "mfusepy": {"fuse"},
    "requests": {"hosts", "http", "wire"},
    "urllib3": {"hosts", "http", "wire"},
    "click": {"cli", "mount_helper", "settings"},
    "rich": {"cli", "status"},
    "starlette": {"demo"},
    "uvicorn": {"demo"},
    "soundfile": {"wav"},
    "valkey": {"shared"},
    "libvalkey": {"shared"},
}


def _sources() -> dict[str, Path]:
    """Module → file; names without `cambfs.`, the package itself is "cambfs"."""
    found = {}
    for path in sorted(_ROOT.rglob("*.py")):
        parts = [part for part in path.relative_to(_ROOT).with_suffix("").parts if part != "__init__"]
        found[".".join(parts) or "cambfs"] = path
    return found


def _imports(path: Path, *, at_import_only: bool = False) -> Iterator[str]:
    """Full names of what is imported; with `at_import_only` without what is only for types, or inside functions."""
    nodes = list(_at_import(ast.parse(path.read_text()))) if at_import_only else ast.walk(ast.parse(path.read_text()))
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path.name} imports relatively"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _at_import(node: ast.AST) -> Iterator[ast.AST]:
    for child in ast.iter_child_nodes(node):
        is_for_types = isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING"
        if not is_for_types and not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            yield child
            yield from _at_import(child)


_SOURCES = _sources()


def _ours(name: str) -> str | None:
    """The module of ours that a full name stands for, or is in; None when it is no module of ours."""
    if name.split(".")[0] != "cambfs":
        return None
    module = name.removeprefix("cambfs").removeprefix(".")
    while module and module not in _SOURCES:
        module = module.rpartition(".")[0]
    return module or "cambfs"


def _imported_by(module: str, *, at_import_only: bool = False) -> set[str]:
    names = _imports(_SOURCES[module], at_import_only=at_import_only)
    return {ours for name in names if (ours := _ours(name)) is not None} - {module}


@pytest.mark.parametrize("library", RESERVED)
def test_a_library_is_imported_only_where_it_belongs(library: str) -> None:
    importers = {
        module for module, path in _SOURCES.items() if any(name.split(".")[0] == library for name in _imports(path))
    }

    assert importers
    assert {module.split(".")[0] for module in importers} == RESERVED[library]


@pytest.mark.parametrize("module", sorted(m for m in _SOURCES if m.split(".")[0] in MAY_IMPORT))
def test_rooms_import_in_one_direction(module: str) -> None:
    room = module.split(".")[0]
    imported = {name.split(".")[0] for name in _imported_by(module)}

    assert imported - TOP - {room} <= MAY_IMPORT[room]


@pytest.mark.parametrize(
    "room", sorted({path.parent for path in _ROOT.glob("*/__init__.py")}), ids=lambda room: room.name
)
def test_a_room_can_be_taken_in(room: Path) -> None:
    files = [file for file in room.glob("*.py") if file.name != "__init__.py"]
    lines = sum(len(file.read_text().splitlines()) for file in files)

    assert len(files) <= MAX_FILES
    assert lines <= MAX_LINES


@pytest.mark.parametrize("module", sorted(TOP - {"cambfs"}))
def test_words_that_everybody_uses_import_each_other_only(module: str) -> None:
    assert _imported_by(module) <= TOP


def test_nothing_imports_in_a_circle() -> None:
    graph = {module: _imported_by(module, at_import_only=True) - {"cambfs"} for module in _SOURCES}
    # A package's own `__init__` is imported before its modules.
    sorter = TopologicalSorter({m: {i for i in imported if not m.startswith(f"{i}.")} for m, imported in graph.items()})
    assert {*sorter.static_order(), "cambfs"} == {*_SOURCES, "cambfs"}  # raises CycleError


@pytest.mark.parametrize("module", ["vfs.tree", "runs.library", "names", "bulk_fetch"])
def test_the_core_can_be_imported_without_fuse_and_requests(module: str) -> None:
    absent = ["fuse", "requests", "urllib3", "click", "starlette", "uvicorn", "soundfile", "valkey"]
    program = f"import sys; sys.modules.update(dict.fromkeys({absent})); import cambfs.{module}"

    done = subprocess.run([sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_client_can_be_imported_without_fuse() -> None:
    program = "import sys; sys.modules['fuse'] = None; import cambfs.http.client"

    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
