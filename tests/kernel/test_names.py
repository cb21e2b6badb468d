"""The names in the tree and their kinds; nothing can be written; other names cost nothing."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from cambfs.demo.profile import Profile
from tests.api.server import Server
from tests.kernel.conftest import Mounted
from tests.kernel.harness import Mount

_JUNK = (
    b"0.flac",
    b"0012.flac",
    b"-1.flac",
    b"+1.flac",
    b" 12.flac",
    b"12.flac ",
    b"12.flac\n",
    b"12.flac.",
    b"12..flac",
    b"12.FLAC",
    b"12.Url",
    b"12",
    b"12.mp3",
    b"012.wav",
    b"x.wav",
    b"1_2.flac",
    b"1e3.flac",
    b"0x12.flac",
    b".flac",
    b".url",
    b"x.flac",
    b"9223372036854775808.flac",
    b"99999999999999999999.flac",
    b"9" * 250 + b".flac",
    b"x" * 255,
    b"8d6f5c1e-9c1f-4b57-8a39-3c1a54c3b0a7.flac",
    b".DS_Store",
    b"._101.flac",
    b".hidden",
    b"autorun.inf",
    b"desktop.ini",
    b".Trash-1000",
    b"101.flac.part",
    b"101.url~",
    b"\xff.flac",
    b"101\xff.flac",
    "١.flac".encode(),
    "１２.flac".encode(),
    b"12.flac\xcc\x81",
    b"a/b",
    b"x.flac/b",
)

# Root may remove whatever it has copied. It gives up that, and nothing else.
AS_USER = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"] if os.geteuid() == 0 else []

# What is tried, with the errno that the kernel gives. It looks at the name before it looks at the mount: so a few
# are not EROFS, and none of them changes anything.
_WRITES = {
    "open('101.flac', O_WRONLY)": "EROFS",
    "open('101.flac', O_RDWR)": "EROFS",
    "open('101.flac', O_WRONLY | O_APPEND)": "EROFS",
    "open('101.flac', O_RDONLY | O_TRUNC)": "EROFS",
    "open('101.flac', O_RDONLY | O_CREAT | O_EXCL)": "EEXIST",
    "open('new', O_WRONLY | O_CREAT)": "EROFS",
    "open('7.flac', O_WRONLY | O_CREAT)": "EROFS",
    "open('.', O_RDWR | O_TMPFILE)": "EROFS",
    "open('101.url', O_WRONLY)": "EROFS",
    "mkdir('new')": "EROFS",
    "mkdir('7.flac')": "EROFS",
    "mkdir('101.flac')": "EEXIST",
    "mknod('new')": "EROFS",
    "mkfifo('new')": "EROFS",
    "symlink('a', 'new')": "EROFS",
    "link('101.flac', 'new')": "EROFS",
    "rename('101.flac', 'new')": "EROFS",
    "rename('101.flac', '105.flac')": "EROFS",
    "rename('new', 'other')": "EROFS",
    "unlink('101.flac')": "EROFS",
    "unlink('101.url')": "EROFS",
    "unlink('new')": "EROFS",
    "rmdir('new')": "EROFS",
    "rmdir('101.flac')": "EROFS",
    "chmod('101.flac', 0o600)": "EROFS",
    "chmod('.', 0o700)": "EROFS",
    "chmod('new', 0o600)": "ENOENT",
    "chown('101.flac', 0, 0)": "EROFS",
    "utime('101.flac')": "EROFS",
    "truncate('101.flac', 0)": "EROFS",
    "setxattr('101.flac', 'user.a', b'1')": "EROFS",
    "removexattr('101.flac', 'user.a')": "EROFS",
    "ftruncate(open('101.flac', O_RDONLY), 0)": "EINVAL",
    "write(open('101.flac', O_RDONLY), b'x')": "EBADF",
    "execv('./101.flac', ['101.flac'])": "EACCES",
}


@pytest.mark.parametrize("operation", ["stat({!r})", "open({!r}, O_RDONLY)", "listdir({!r})", "truncate({!r}, 0)"])
def test_junk_names_do_not_exist_and_cost_no_request(operation: str, server: Server, mounted: Mounted) -> None:
    with mounted() as mount:
        server.forget()
        done = mount.read("attempt", *(operation.format(name) for name in _JUNK))
        assert done.out.decode().split() == ["ENOENT"] * len(_JUNK), done
        assert mount.run("ls -a").out.split() == [b".", b".."]
        assert server.requests == ()


@pytest.mark.parametrize("status", [400, 404, 422])
def test_unknown_runs_do_not_exist(status: int, server: Server, mounted: Mounted) -> None:
    server.profile = Profile(unknown_status=status)  # type: ignore[arg-type]
    with mounted() as mount:
        for kind in ("flac", "url"):
            for run_id, operation in enumerate(("stat({!r})", "open({!r}, O_RDONLY)"), 7):
                assert mount.read("attempt", operation.format(f"{run_id}.{kind}")).out == b"ENOENT\n"
            for run_id, test in enumerate(("-e", "-f", "-r", "-s"), 20):
                assert mount.run(f"test {test} {run_id}.{kind}").status == 1
            assert mount.read("attempt", f"[].pop() if access('30.{kind}', F_OK) else None").out == b"ok\n"
        assert mount.run("ls").out == b""
        asked = [record.run_id for record in server.requests if record.run_id]
        assert len(asked) <= 2 * len(set(asked)) + 2, "once for each kind, and the audio beside the first two sizes"


def test_the_largest_run_id_is_a_name(server: Server, mounted: Mounted) -> None:
    server.results[2**63 - 1] = server.results[101]
    with mounted() as mount:
        done = mount.run("cat 9223372036854775807.flac")
        assert done.out == server.results[101].read_bytes()
        assert mount.run("stat -c %i 9223372036854775807.flac 9223372036854775807.url").out.split() == [
            b"%d" % (2**64 - 2),
            b"%d" % (2**64 - 1),
        ]


def test_nothing_can_be_written(server: Server, mounted: Mounted) -> None:
    with mounted() as mount:
        before = mount.run("stat 101.flac 101.url; sha256sum 101.flac").out
        done = mount.read("attempt", *_WRITES)
        assert dict(zip(_WRITES, done.out.decode().split(), strict=True)) == _WRITES
        for command in ("cp /bin/true new", "touch 101.flac", "rm -f 101.flac", "mv 101.flac new", "echo >> 101.flac"):
            done = mount.run(command)
            assert done.status == 1, done
            assert "Read-only file system" in done.err
        assert mount.run("test -w 101.flac || test -w . || test -x 101.flac").status == 1
        assert mount.run("stat 101.flac 101.url; sha256sum 101.flac").out == before
        assert server.results[101].stat().st_size == int(mount.run("stat -c %s 101.flac").out)


def test_attributes(server: Server, mounted: Mounted) -> None:
    with mounted("--runs", "101") as mount:
        audio, url, root = ((mount.path / name).stat() for name in ("101.flac", "101.url", "."))
        size = server.results[101].stat().st_size
        assert (audio.st_size, audio.st_blocks, audio.st_nlink) == (size, -(-size // 512), 1)
        assert (stat.filemode(audio.st_mode), stat.filemode(url.st_mode)) == ("-r--r--r--", "-r--------")
        assert (stat.filemode(root.st_mode), root.st_nlink, root.st_ino) == ("drwxr-xr-x", 2, 1)
        assert stat.filemode((mount.path / ".cambfs").stat().st_mode) == "drwxr-xr-x"
        assert {(found.st_uid, found.st_gid) for found in (audio, url, root)} == {(os.getuid(), os.getgid())}
        assert len({audio.st_ino, url.st_ino, root.st_ino}) == 3
        assert audio.st_mtime_ns % 10**9 == 0
        assert mount.run("cat 101.flac | wc -c").out == b"%d\n" % size
        again = (mount.path / "101.flac").stat()
        assert again == audio, "reading changes no attribute"
        assert mount.run("du -B512 101.flac").out.split()[0] == b"%d" % audio.st_blocks


def test_a_copy_of_the_tree_can_be_removed(mounted: Mounted, tmp_path: Path) -> None:
    with mounted("--runs", "101") as mount:
        copy = tmp_path / "copy"
        done = mount.run([*AS_USER, "cp", "-r", str(mount.path), str(copy)])
        assert done.status == 0, done
        assert sorted(path.name for path in copy.iterdir()) == ["101.flac", "101.url"]
        done = mount.run([*AS_USER, "rm", "-rf", str(copy)])
        assert (done.status, copy.exists()) == (0, False), done


def test_without_url_files_there_are_none(server: Server, mounted: Mounted) -> None:
    with mounted("--runs", "101,105", "--no-url-files") as mount:
        server.forget()
        assert mount.run("ls").out.split() == [b"101.flac", b"105.flac"]
        done = mount.read("attempt", "stat('101.url')", "open('101.url', O_RDONLY)")
        assert done.out.split() == [b"ENOENT"] * 2
        assert server.requests == ()


def test_listings_agree_with_stat(server: Server, mounted: Mounted) -> None:
    with mounted("--runs", "101,105", home="one") as one, mounted("--runs", "101,105", home="two") as two:
        found = [_inodes(mount) for mount in (one, two)]
        assert found[0] == found[1], "an inode is the same in every mount"
        assert len(set(found[0].values())) == 4
        for mount in (one, two):
            done = mount.run("find . -type f -printf '%f %i\\n'")
            assert dict(line.split() for line in done.out.decode().splitlines()) == found[0]
            with os.scandir(mount.path) as entries:
                assert {entry.name: str(entry.inode()) for entry in entries if entry.is_file()} == found[0]
        assert server.count("stream") <= 2


def _inodes(mount: Mount) -> dict[str, str]:
    """By `stat`, file by file."""
    names = sorted(os.listdir(mount.path))  # noqa: PTH208
    return {name: str((mount.path / name).stat().st_ino) for name in names}


def test_statfs_is_sensible(server: Server, mounted: Mounted) -> None:
    with mounted("--runs", "101,105") as mount:
        assert mount.run("ls -l").status == 0
        found = os.statvfs(mount.path)
        total = sum(path.stat().st_size for path in server.results.values())
        assert abs(found.f_blocks * found.f_frsize - total) <= 4096
        assert (found.f_bfree, found.f_bavail, found.f_ffree, found.f_files) == (0, 0, 0, 4)
        assert found.f_namemax == 255
        assert found.f_flag & os.ST_RDONLY
        assert mount.run("df . && df -i . && stat -f . && mountpoint -q .").status == 0


def test_the_mount_is_known_by_its_type(mounted: Mounted) -> None:
    with mounted() as mount:
        done = mount.run(f"findmnt -no FSTYPE,SOURCE,OPTIONS {mount.path}")
        kind, source, options = done.out.decode().split()
        assert (kind, source.rsplit("/")[-1]) == ("fuse.cambfs", "cambfs")
        assert {"ro", "nosuid", "nodev", "noexec"} <= set(options.split(","))
