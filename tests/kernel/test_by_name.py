"""Names for people, through a real mount: the links and playlists of `/by-name`, and changes of their file."""

from __future__ import annotations

import hashlib
import os
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from cambfs.demo import samples
from tests.api.server import Server
from tests.kernel.audio import Audio
from tests.kernel.conftest import Mounted
from tests.kernel.harness import KEY, Mount, wait_until

# Characters that shells, printf, ffmpeg, VLC or terminals take for something.
_ODD = [
    'It\'s "quoted"',
    "-n",
    "#1 100%41? *.$(id)`id`;&|<>",
    "back\\slash",
    "日本語 e\u0301 é",
    "\u202egpj",
    "x" * 250,
    "é" * 125,
]
_NAMES = ["Book/01 The harbour", "Book/Part 2/02 Night", *(f"Odd ones/{name}" for name in _ODD)]
_MPV = "mpv --no-config --no-video --no-terminal --ao=null --ao-null-untimed --length=0.1"


@pytest.fixture
def names_file(tmp_path: Path) -> Path:
    file = tmp_path / "names.txt"
    file.write_text("".join(f"101 {name}\n" for name in _NAMES))
    return file


@pytest.fixture
def mount(mounted: Mounted, names_file: Path) -> Iterator[Mount]:
    # The mount warns of some of the odd ones.
    with mounted("--runs-file", str(names_file), expected=["?names.txt:[0-9]+: "]) as mount:
        yield mount


def _digests(directory: Path) -> dict[str, str]:
    paths = (path for path in directory.rglob("*.flac") if not path.is_symlink())
    return {str(path.relative_to(directory)): hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}


@pytest.mark.parametrize(
    "copy", ["cp -rL by-name $O", "rsync -rL by-name $O", "tar -chf - by-name | tar -xf - -C $O", "cp -rL . $O"]
)
def test_a_copy_has_the_results_under_their_names(mount: Mount, audio: Audio, tmp_path: Path, copy: str) -> None:
    (tmp_path / "copy").mkdir()
    done = mount.run(copy.replace("$O", str(tmp_path / "copy")))

    assert done.status == 0, done
    right = hashlib.sha256(audio.sentence.read_bytes()).hexdigest()
    assert _digests(tmp_path / "copy/by-name") == {f"{name}.flac": right for name in _NAMES}


def test_shells_and_find_get_along_with_the_names(mount: Mount, audio: Audio) -> None:
    size = audio.sentence.stat().st_size
    loop = 'for file in by-name/Odd*/*.flac; do stat -L -c %s -- "$file" || exit 1; done'
    assert mount.run(loop).out.split() == [str(size).encode()] * len(_ODD)
    found = mount.run("find by-name -name '*.flac' -print0 | xargs -0 -n 1 readlink -f -- | sort -u")
    assert found.out.decode().splitlines() == [str(mount.path / "101.flac")]
    types = mount.run("find by-name -printf '%y\n' | sort | uniq -c | tr -s ' '")
    assert types.out.decode().splitlines() == [" 4 d", " 4 f", f" {len(_NAMES)} l"]
    assert mount.run("find -L by-name -name '*.flac' -newermt 1999-01-01 | wc -l").out.strip() == b"10"


def test_looking_at_names_costs_no_request(mount: Mount, server: Server) -> None:
    before, signed = len(server.requests), server.count("sign")
    looked = mount.run("find by-name -ls && ls -lR by-name && ls && cat by-name/playlist.m3u8 all.m3u8")

    assert looked.status == 0, looked
    assert len(server.requests) == before
    assert b"all.m3u8\nby-name\n" in looked.out
    # A program that follows the links asks once for all names of a run.
    assert mount.run("find -L by-name -name '*.flac' -printf '%s\n'").status == 0
    assert server.count("sign") + server.count("bulk") == signed + 1


@pytest.mark.parametrize("playlist", ["by-name/playlist.m3u8", "by-name/Odd ones/playlist.m3u8", "all.m3u8"])
def test_a_player_plays_a_whole_playlist(mount: Mount, playlist: str) -> None:
    done = mount.run(f"{_MPV} --msg-level=all=error --terminal {shlex.quote(playlist)}")

    assert done.status == 0, done
    assert b"ail" not in done.out


def test_ffmpeg_joins_a_playlist(mount: Mount, tmp_path: Path) -> None:
    """As docs/names.md shows it."""
    joined = tmp_path / "book.flac"
    entries = """grep -v '^#' playlist.m3u8 | sed "s/'/'\\\\\\\\''/g; s|.*|file '$PWD/&'|" """
    done = mount.run(f"cd 'by-name/Odd ones' && {entries} > {tmp_path}/list")
    assert done.status == 0, done
    done = mount.run(f"ffmpeg -v error -f concat -safe 0 -i {tmp_path}/list {joined}")

    assert (done.status, done.err) == (0, "")
    seconds = mount.run(f"ffprobe -v error -show_entries format=duration -of csv=p=0 {joined}").out
    one = mount.run("ffprobe -v error -show_entries format=duration -of csv=p=0 101.flac").out
    assert float(seconds) == pytest.approx(len(_ODD) * float(one), abs=0.5)


def test_playlists_can_be_copied_with_any_tool(mount: Mount, tmp_path: Path) -> None:
    for tool in (
        "cat $F > $O",
        "cp $F $O",
        "rsync $F $O",
        "dd if=$F of=$O bs=7 status=none",
        "tar -cf - $F | tar -xOf - > $O",
    ):
        target = tmp_path / "copy"
        target.unlink(missing_ok=True)
        done = mount.run(tool.replace("$F", "by-name/playlist.m3u8").replace("$O", str(target)))
        assert done.status == 0, done
        lines = target.read_text().splitlines()
        assert (lines[0], len(lines)) == ("#EXTM3U", 1 + 2 * len(_NAMES))


def test_rsync_transfers_a_playlist_again_when_a_duration_is_known(tmp_path: Path) -> None:
    file, copy = tmp_path / "names.txt", tmp_path / "copy.m3u8"
    file.write_text("102 Night\n")
    os.utime(file, (1_700_000_000, 1_700_000_000))
    with (
        Server({102: samples()[102]}, key=KEY) as server,
        Mount(server, tmp_path / "home", "--runs-file", str(file)) as mount,
    ):
        done = mount.run(f"rsync -t by-name/playlist.m3u8 {copy}")
        before = copy.read_text()
        mount.run(f"cat 102.flac > /dev/null; rsync -t by-name/playlist.m3u8 {copy}")
        assert mount.run(f"cmp by-name/playlist.m3u8 {copy}").status == 0, done
    assert (before, copy.read_text()) == (
        "#EXTM3U\n#EXTINF:-1,Night\n./Night.flac\n",
        "#EXTM3U\n#EXTINF:23,Night\n./Night.flac\n",  # as long as before
    )


def _replace(file: Path, text: str) -> None:
    new = file.with_suffix(".new")
    new.write_text(text)
    new.replace(file)


def test_a_change_is_seen_while_mounted_and_what_is_open_stays_open(
    mount: Mount, names_file: Path, audio: Audio
) -> None:
    held = 'exec 3< "by-name/Book/01 The harbour.flac"; head -c 4 <&3; read -r; cat <&3'
    with mount.start(held) as process:
        assert process.stdout is not None
        begin = process.stdout.read(4)
        # The kernel knows all the names by now, for five minutes.
        mount.run("ls -lR by-name")
        _replace(names_file, "105 Book/01 The harbour\n105 New/new\n101 Book/Part 2\n")
        wanted = ["", "Book", "Book/01 The harbour.flac ../../105.flac", "Book/Part 2.flac ../../101.flac"]
        wanted += ["Book/playlist.m3u8", "New", "New/new.flac ../../105.flac", "New/playlist.m3u8", "playlist.m3u8"]
        look = "find by-name -printf '%P %l\n' | LC_ALL=C sort"
        wait_until(lambda: [*map(str.strip, mount.run(look).out.decode().splitlines())] == wanted, "the change is seen")
        assert mount.run("stat -L -c %s by-name/New/new.flac").out.strip() == str(audio.minutes.stat().st_size).encode()
        for gone in ("by-name/Book/Part 2/02 Night.flac", "by-name/Odd ones", "by-name/Odd ones/playlist.m3u8"):
            assert mount.run(["cat", gone]).status == 1
        rest, _ = process.communicate(b"\n", timeout=60)
    assert begin + rest == audio.sentence.read_bytes()


def test_a_bad_line_is_left_out_while_mounted(mounted: Mounted, names_file: Path) -> None:
    expected = ["names.txt:2: '../x': .. cannot be a name; skipped", "names.txt:4: 'a' is the name in line 1 already"]
    names_file.write_text("101 a\n")
    with mounted("--runs-file", str(names_file), expected=[line.replace(".", "[.]") for line in expected]) as mount:
        _replace(names_file, "101 a\n101 ../x\n105 b\n105 a\n")
        wait_until(lambda: mount.run("ls by-name").out == b"a.flac\nb.flac\nplaylist.m3u8\n", "the good lines are seen")
        assert mount.run("readlink by-name/a.flac").out == b"../101.flac\n"
        assert mount.log.count("cannot be a name") == 1


def test_nodes_are_the_same_after_a_remount(mounted: Mounted, names_file: Path) -> None:
    os.utime(names_file, (1_700_000_000, 1_700_000_000))
    seen = []
    for home in ("home", "other"):
        with mounted("--runs-file", str(names_file), expected=["?names.txt"], home=home) as mount:
            seen.append(mount.run("find by-name -printf '%i %T@ %M %p %l\n' | sort").out)
    assert seen[0] == seen[1]
    assert seen[0].count(b" 1700000000.0000000000 ") == 4 + 4 + len(_NAMES)


def test_ten_thousand_names_are_listed(mounted: Mounted, names_file: Path) -> None:
    names_file.write_text("".join(f"{1000 + i} Act {i // 2500}/line {i:05}\n" for i in range(10_000)))
    with mounted("--runs-file", str(names_file)) as mount:
        assert mount.run("find by-name -type l | wc -l").out.strip() == b"10000"
        assert mount.run("ls 'by-name/Act 3' | tail -n 2").out == b"line 09999.flac\nplaylist.m3u8\n"
        assert mount.run("grep -c '^#EXTINF:-1,line' by-name/playlist.m3u8").out.strip() == b"10000"


def test_everything_is_read_only(mount: Mount) -> None:
    for command in (
        "ln -s x by-name/y",
        "rm -f by-name/Book/*.flac",
        "mkdir by-name/z",
        "echo > by-name/playlist.m3u8",
    ):
        done = mount.run(command)
        assert "Read-only file system" in done.err, done
