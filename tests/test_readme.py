"""The pages for users: a short README, links that lead somewhere, commands as they are. No threads."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]
_LINK = re.compile(r"\]\(([^()\s]+)\)")
_CODE = re.compile(r"^```.*?^```$|`[^`\n]*`", re.MULTILINE | re.DOTALL)
_HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
_MOST_LINES = 200


def _links(page: Path) -> Iterator[tuple[Path, str]]:
    """The file and the anchor ("" for none) of each link to a place in the repository."""
    for target in _LINK.findall(_CODE.sub("", page.read_text())):
        path, _, anchor = target.partition("#")
        if "://" not in target:
            yield (page.parent / path).resolve() if path else page, anchor


def _anchors(page: Path) -> set[str]:
    """The names that GitHub gives to the headings."""
    headings = _HEADING.findall(page.read_text())
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_docs_commands_shows_the_help_of_every_command() -> None:
    command = [sys.executable, str(ROOT / "scripts" / "update-help"), "--check"]
    done = subprocess.run(command, timeout=60, check=False)
    assert done.returncode == 0, "docs/commands.md is behind: run scripts/update-help"


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= _MOST_LINES


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_somewhere(page: Path) -> None:
    for path, anchor in _links(page):
        assert path.exists(), f"{page.name} links to {path}, which does not exist"
        assert not anchor or anchor in _anchors(path), f"{page.name} links to #{anchor}, which {path.name} has not"


def test_the_readme_leads_to_every_page() -> None:
    reached = {path for path, _ in _links(ROOT / "README.md")}
    for page in PAGES[2:]:
        is_linked = page in reached or any(page in {path for path, _ in _links(other)} for other in reached & {*PAGES})
        assert is_linked, f"nothing leads from the README to {page.name}"


def _locks() -> Iterator[str]:
    """`Class.attribute` of each lock in the code."""
    for path in (ROOT / "cambfs").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef):
                found = re.findall(r"self\.(\w+) = (?:threading\.)?(?:R?Lock|Condition)\(", ast.unparse(node))
                yield from (f"{node.name}.{name}" for name in found)


def test_the_architecture_names_every_lock_and_no_other() -> None:
    chapter = (ROOT / "docs" / "architecture.md").read_text().partition("## Locks\n")[2].partition("\n## ")[0]
    named = {*re.findall(r"`(\w+\.\w+)`", chapter)}
    assert named == {*_locks()}
