"""What is built for others: wheel and source archive, and the Debian package.

They are built from a copy of the checkout, for building leaves files behind. `scripts/try-bare` installs the package in
bare systems and uses it.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tarfile
import zipfile
from importlib.util import find_spec
from pathlib import Path

import pytest

from cambfs import __version__

_ROOT = Path(__file__).parents[1]
_UNITS = {"cambfs.service", "cambfs@.service"}
_SHIPPED = {path.relative_to(_ROOT).as_posix() for path in (_ROOT / "cambfs").rglob("*") if path.is_file()}
_SHIPPED = {name for name in _SHIPPED if "__pycache__" not in name}
_FROM_DEBIAN = ("certifi", "charset_normalizer", "idna")
_LIMIT_S = 110


def _run(*command: object) -> str:
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, timeout=_LIMIT_S, cwd="/")
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the source archive, and the wheel that was made of it."""
    source = tmp_path_factory.mktemp("source") / "cambfs"
    source.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(_ROOT / name, source)
    for name in ("cambfs", "scripts"):
        shutil.copytree(_ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    out = tmp_path_factory.mktemp("dist")
    _run(sys.executable, "-m", "build", "--no-isolation", "--outdir", out, source)
    return out


def test_the_wheel_has_the_whole_package_and_the_units_and_nothing_else(dist: Path) -> None:
    (wheel,) = dist.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert {name for name in names if name.startswith("cambfs/")} == _SHIPPED
    others = {name.partition("/")[2] for name in names if not name.startswith("cambfs/")}
    assert {name.removeprefix("data/share/systemd/user/") for name in others if name.startswith("data/")} == _UNITS
    about = {"METADATA", "WHEEL", "RECORD", "entry_points.txt", "top_level.txt", "licenses/LICENSE"}
    assert {name for name in others if not name.startswith("data/")} == about


def test_the_source_archive_has_what_a_build_needs(dist: Path) -> None:
    (archive,) = dist.glob("*.tar.gz")
    with tarfile.open(archive) as files:
        names = {name.partition("/")[2] for name in files.getnames()}
    assert {*_SHIPPED, "pyproject.toml", "README.md", "LICENSE"} <= names
    assert {f"scripts/systemd/{unit}" for unit in _UNITS} <= names


@pytest.fixture(scope="module")
def deb(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("deb")
    _run("sh", "-c", 'umask 002; exec "$@"', "sh", sys.executable, _ROOT / "scripts/package_lib/deb.py", out)
    (package,) = out.glob("cambfs_*_all.deb")
    return package


@pytest.fixture(scope="module")
def tree(deb: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files of the Debian package."""
    tree = tmp_path_factory.mktemp("tree")
    _run("dpkg-deb", "-x", deb, tree)
    return tree


def test_the_debian_package_has_everything_in_its_place(tree: Path) -> None:
    for name in (
        "usr/bin/cambfs",
        "usr/sbin/mount.cambfs",
        "usr/sbin/mount.fuse.cambfs",
        "usr/share/man/man1/cambfs.1.gz",
        "usr/share/bash-completion/completions/cambfs",
        "usr/share/zsh/vendor-completions/_cambfs",
        "usr/share/fish/vendor_completions.d/cambfs.fish",
        "usr/share/doc/cambfs/copyright",
        *(f"usr/lib/systemd/user/{unit}" for unit in _UNITS),
        *(f"usr/lib/cambfs/{name}" for name in _SHIPPED),
    ):
        assert (tree / name).stat().st_size or name.endswith(("__init__.py", "py.typed")), name


def test_the_debian_package_is_roots_and_the_same_for_all_machines(deb: Path) -> None:
    for line in _run("dpkg-deb", "-c", deb).splitlines():
        mode, owner, *_, name = line.split()
        assert owner == "root/root"
        assert mode in ("drwxr-xr-x", "-rwxr-xr-x", "-rw-r--r--", "lrwxrwxrwx"), line
        assert not name.endswith((".so", ".pyc")), line
    assert _run("dpkg-deb", "-f", deb, "Architecture") == "all\n"


def test_the_debian_package_brings_what_debian_does_not_have(tree: Path, tmp_path: Path) -> None:
    """The tester's Python is hidden, except for the libraries that come from Debian."""
    for name in _FROM_DEBIAN:
        spec = find_spec(name)
        assert spec is not None
        assert spec.origin is not None
        (tmp_path / name).symlink_to(Path(spec.origin).parent)
        assert not (tree / "usr/lib/cambfs" / name).exists()
    assert not (tree / "usr/lib/cambfs/soundfile.py").exists()
    program = f"""
import sys
sys.path += [{str(tree / "usr/lib/cambfs")!r}, {str(tmp_path)!r}]
import cambfs.demo.server, cambfs.fuse.adapter, cambfs.http.client, cambfs.mount_helper, rich
from cambfs.doctor import machine
print(*machine.versions())
cambfs.cli.main(["--version"])
"""
    said = _run(sys.executable, "-I", "-S", "-c", program)
    assert f"\ncambfs {__version__}\n" in said
    assert f"'cambfs {__version__}, fusepy " in said
    assert "not installed" not in said, "doctor knows all versions"
