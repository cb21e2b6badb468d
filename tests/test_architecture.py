"""`docs/architecture.md` lists the locks of the sources, all of them and no others."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import cambfs

_ROOT = Path(cambfs.__file__).parent
_PAGE = Path(__file__).parents[1] / "docs" / "architecture.md"
_KINDS = {"Lock", "RLock", "Condition"}


def _made(path: Path) -> Iterator[str]:
    """Class.attribute of each lock that a class makes."""
    owners = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ClassDef)]
    for owner in owners:
        for node in ast.walk(owner):
            if not (isinstance(node, ast.Assign) and isinstance(node.value, ast.Call)):
                continue
            target, kind = node.targets[0], ast.unparse(node.value.func).rpartition(".")[2]
            if kind in _KINDS and isinstance(target, ast.Attribute):
                yield f"{owner.name}.{target.attr}"


def test_the_page_lists_every_lock() -> None:
    made = {lock for path in _ROOT.rglob("*.py") if "demo" not in path.parts for lock in _made(path)}
    section = _PAGE.read_text().partition("## Locks")[2].partition("\n## ")[0]
    assert set(re.findall(r"`(\w+\.\w+)`", section)) == made
