"""Builds the Debian package from this checkout and the libraries in its virtual environment.

Debian's own libraries are older than cambfs needs, so the package brings them, in a directory of its own. Those with
compiled parts, and the certificates, are Debian's. The package fits every release with Python 3.11 or newer.
"""

from __future__ import annotations

import gzip
import shutil
import subprocess
import sys
import tempfile
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

from pip._vendor.packaging.requirements import Requirement

from cambfs import __version__

ROOT = Path(__file__).resolve().parents[2]
LIBRARIES = "usr/lib/cambfs"
FROM_DEBIAN = {
    "certifi": "python3-certifi",
    "charset-normalizer": "python3-charset-normalizer",
    "idna": "python3-idna",
    "soundfile": "python3-soundfile",
}
# The oldest Python that the package may meet: it needs the most libraries.
OLDEST_PYTHON = {"python_version": "3.11", "python_full_version": "3.11.0", "extra": ""}
LIBFUSE = "libfuse2t64 | libfuse2 | libfuse3-4 | libfuse3-3"
DEPENDS = ["python3 (>= 3.11)", LIBFUSE, "fuse3 | fuse", *FROM_DEBIAN.values()]

CONTROL = f"""\
Package: cambfs
Version: {__version__}
Architecture: all
Maintainer: The cambfs authors <root@localhost>
Section: sound
Priority: optional
Depends: {", ".join(DEPENDS)}
Description: mounts the results of CAMB.AI text-to-speech runs as files
 Each result is a file that is downloaded when a program first reads it, and
 cached afterwards. Players, shell tools and other programs can use the files.
"""
# Compiled files make a start quicker, and go with the package.
POSTINST = f'#!/bin/sh\nset -e\n[ "$1" != configure ] || py3compile /{LIBRARIES}\n'
PRERM = f"#!/bin/sh\nset -e\nfind /{LIBRARIES} -depth -name __pycache__ -exec rm -r {{}} +\n"
COMMAND = """\
#!/usr/bin/python3 -s
import sys

sys.path.insert(0, "/{libraries}")
from {module} import main

main()
"""


def main() -> None:
    out = Path(sys.argv[1])
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as name:
        tree = Path(name) / "tree"
        fill(tree)
        for path in (tree, *tree.rglob("*")):  # whatever the modes of the checkout and the umask are
            path.chmod(0o755 if path.is_dir() or path.stat().st_mode & 0o100 else 0o644)
        package = out / f"cambfs_{__version__}_all.deb"
        subprocess.run(["dpkg-deb", "--root-owner-group", "-Zxz", "--build", tree, package], check=True)


def fill(tree: Path) -> None:
    shutil.copytree(ROOT / "cambfs", tree / LIBRARIES / "cambfs", ignore=shutil.ignore_patterns("__pycache__"))
    for library in sorted(needed("cambfs")):
        copy_library(distribution(library), tree / LIBRARIES)
    write(tree / "usr/bin/cambfs", COMMAND.format(libraries=LIBRARIES, module="cambfs.cli"), 0o755)
    helper = COMMAND.format(libraries=LIBRARIES, module="cambfs.mount_helper")
    write(tree / "usr/sbin/mount.cambfs", helper, 0o755)
    # For the type that findmnt shows.
    (tree / "usr/sbin/mount.fuse.cambfs").symlink_to("mount.cambfs")
    for unit in (ROOT / "scripts/systemd").iterdir():
        write(tree / "usr/lib/systemd/user" / unit.name, unit.read_text())
    add_made_files(tree)
    write(tree / "usr/share/doc/cambfs/copyright", (ROOT / "LICENSE").read_text())
    write_gzip(tree / "usr/share/doc/cambfs/changelog.gz", (ROOT / "CHANGELOG.md").read_text())
    for name, text in (("postinst", POSTINST), ("prerm", PRERM)):
        write(tree / "DEBIAN" / name, text, 0o755)
    write(tree / "DEBIAN/control", CONTROL)


def needed(name: str) -> set[str]:
    """The libraries that this one needs, and their own requirements, except for Debian's."""
    found: set[str] = set()
    for requirement in map(Requirement, distribution(name).requires or ()):
        needs_it = requirement.marker is None or requirement.marker.evaluate(OLDEST_PYTHON)
        library = requirement.name.lower().replace("_", "-")
        if needs_it and library not in FROM_DEBIAN and library not in found:
            found |= {library} | needed(library)
    return found


def copy_library(library: Distribution, target: Path) -> None:
    for file in library.files or ():
        if ".." in file.parts or "__pycache__" in file.parts:
            continue
        if file.suffix == ".so":
            sys.exit(f"{file} is compiled; name the Debian package of this library in FROM_DEBIAN")
        (target / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(str(library.locate_file(file)), target / file)


def add_made_files(tree: Path) -> None:
    def made(*command: str) -> str:
        return subprocess.run([sys.executable, *command], cwd=ROOT, capture_output=True, text=True, check=True).stdout

    share = tree / "usr/share"
    write_gzip(share / "man/man1/cambfs.1.gz", made("scripts/man"))
    for shell, path in (
        ("bash", "bash-completion/completions/cambfs"),
        ("zsh", "zsh/vendor-completions/_cambfs"),
        ("fish", "fish/vendor_completions.d/cambfs.fish"),
    ):
        write(share / path, made("-m", "cambfs", "completion", shell))


def write(path: Path, text: str, mode: int = 0o644) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(mode)


def write_gzip(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(text.encode(), mtime=0))


if __name__ == "__main__":
    try:
        main()
    except PackageNotFoundError as error:
        sys.exit(f"scripts/package: {error.name} is not in .venv; run: .venv/bin/pip install {error.name}")
