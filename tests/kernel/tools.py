"""The tools that a user would reach for, each as a command on one file.

In a command `$F` is the file's name in the working directory, `$L` a local file with the same bytes, `$O` an empty
directory for what the command writes, `$R` starts an operation of `reader.py`.
"""

from __future__ import annotations

import hashlib
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.kernel.harness import PYTHON, READER, Done

_FFMPEG = "ffmpeg -nostdin -v error -bitexact"
_MPV = "mpv --no-config --no-video --no-terminal"

TOOLS = {
    "cat": "cat $F",
    "cp": "cp $F $O/copy",
    "cp-sparse": "cp --sparse=always $F $O/copy",
    "install": "install -m 600 $F $O/copy",
    "dd-odd": "dd if=$F bs=4099 status=none",
    "dd-skip": "dd if=$F bs=100003 skip=3 count=2 status=none",
    "head": "head -c 100 $F",
    "head-lines": "head -n 20 $F",
    "tail": "tail -c 128 $F",
    "tail-from": "tail -c +300001 $F",
    "tail-lines": "tail -n 3 $F",
    "wc": "wc $F",
    "wc-bytes": "wc -c $F",
    "sha256sum": "sha256sum $F",
    "cmp": "cmp $F $L",
    "grep": "grep -c fLaC $F",
    "split": "split -b 300000 $F $O/part.",
    "split-parts": "split -n 3 $F $O/part.",
    "gzip": "gzip -1nc $F",
    "tar": "tar --mtime=@0 --owner=0 --group=0 -cf - $F",
    "tar-gzip": "tar --mtime=@0 --owner=0 --group=0 -I 'gzip -1n' -cf $O/it.tar.gz $F",
    "rsync": "rsync $F $O/copy",
    "curl": "curl -sS file://$PWD/$F -o $O/copy",
    "file": "file $F",
    "stat": "stat -c '%n %s %F %a %h' $F",
    "test": "test -e $F -a -f $F -a -s $F -a -r $F",
    "du": "du --apparent-size -B1 $F",
    "find": "find . -maxdepth 0 -newermt 2100-01-01; find $F -size +3k -type f -perm 444 -printf '%f %s\\n'",
    "python-read": "$R read $F",
    "python-readinto": "$R readinto $F",
    "python-copyfile": "$R copyfile $F",
    "python-mmap": "$R mapped $F",
    "python-sendfile": "$R sendfile $F",
    "python-splice": "$R splice $F",
    "python-pread": "$R pread $F",
    "python-seek": "$R seek $F",
    "flac-test": "flac -ts $F",
    "flac-decode": "flac -ds $F -o $O/out.wav",
    "metaflac": "metaflac --list $F",
    "ffprobe": "ffprobe -v error -show_format -show_streams -of json $F",
    "ffmpeg": f"{_FFMPEG} -i $F -f framemd5 -",
    "ffmpeg-wav": f"{_FFMPEG} -i $F $O/out.wav",
    "ffmpeg-seek": f"{_FFMPEG} -ss 61.5 -i $F -t 3 $O/out.wav",
    "sox-stat": "sox $F -n stat 2>&1",
    "sox-convert": "sox -D $F -r 8000 $O/out.wav",
    "mpv": f"{_MPV} --ao=pcm --ao-pcm-file=$O/out.wav $F",
    "mpv-null": f"{_MPV} --ao=null --ao-null-untimed --length=2 $F",
    "mpv-seek": f"{_MPV} --ao=pcm --ao-pcm-file=$O/out.wav --start=100 --length=3 $F",
}


@dataclass(frozen=True)
class Outcome:
    """A tool's result: everything that depends on the bytes it read."""

    status: int
    out: str
    written: dict[str, str]


def outcome(tool: str, file: str, local: Path, scratch: Path, run: Callable[[str], Done]) -> tuple[Outcome, Done]:
    """Runs a tool on `file` by way of `run`; `scratch` is made, and empty afterwards."""
    scratch.mkdir(parents=True)
    reader = shlex.join([*PYTHON, READER])
    names = f"F={file} L={shlex.quote(str(local))} O={shlex.quote(str(scratch))} R='{reader}'"
    done = run(f"set -e; {names}; {TOOLS[tool]}")
    written = {}
    for path in sorted(scratch.iterdir()):
        written[path.name] = _digest(path.read_bytes())
        path.unlink()
    scratch.rmdir()
    return Outcome(done.status, _digest(done.out), written), done


def _digest(data: bytes) -> str:
    return data.decode() if len(data) < 200 and data.isascii() else f"{len(data)} {hashlib.sha256(data).hexdigest()}"
