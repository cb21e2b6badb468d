"""The API's stand-in: nginx in front of the files, as fast as a server gets, with a log of every request.

Its four servers differ in whether responses have a length (and support ranges, as nginx does then) and in whether they
wait 50 ms before each. In all of them any run id of seven digits is a result, and the first digit is its kind. Its
signed URL leads to storage, which has ranges. Bulk responses are as documented. The additional paths for rclone (the
API has neither HEAD nor a listing) are under `/peer/`. Without a length, bodies are chunked in pieces of 64 KiB.

No threads; nginx is a process of its own.
"""

from __future__ import annotations

import os
import socket
import subprocess
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

from bench_lib.audio import Kind

ROUND_TRIP_S = 0.05

_MAIN = """\
load_module /usr/lib/nginx/modules/ngx_http_echo_module.so;
{user} daemon off; worker_processes 2; worker_rlimit_nofile 8192; pid {work}/pid; error_log {work}/error.log warn;
events {{ worker_connections 4096; }}
http {{
  client_body_temp_path {work}/t1; proxy_temp_path {work}/t2; fastcgi_temp_path {work}/t3;
  uwsgi_temp_path {work}/t4; scgi_temp_path {work}/t5;
  log_format bench '$server_port $request_method $request_uri $status';
  access_log {work}/access.log bench;
  default_type audio/flac; types {{ }} sendfile on; tcp_nopush on;
  keepalive_requests 1000000; keepalive_timeout 600s;
  map $arg_output_type $answer {{ default /audio; file_url /url; }}
  map $request_body $bulk {{
    default '{{}}';
{bulk}
  }}
{servers}
}}
"""
_SERVER = """\
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    location ~ "^/apis/tts-result/(?<kind>[1-8])(?<rest>[0-9]{{6}})$" {{ {wait} {go} $answer/$kind/$kind$rest{last}; }}
    location ~ "^/storage/(?<kind>[1-8])[0-9]{{6}}$" {{ {wait} {go} /object/$kind{last}; }}
    location ~ "^/peer/[a-z]+/(?<kind>[1-8])[0-9]{{6}}.flac$" {{ {wait} {go} /audio/$kind/x{last}; }}
    location ~ "^/peer/(?<list>[a-z]+)/$" {{ rewrite ^ /listing/$list.html last; }}
    location /listing/ {{ internal; default_type text/html; alias {work}/; }}
    location = /apis/tts-results {{ default_type application/json; echo_read_request_body; {wait} echo $bulk; }}
    location ~ ^/audio/(?<file>[1-8])/ {{ internal; alias {audio}/$file.flac; {no_length} }}
    location ~ ^/object/(?<file>[1-8])$ {{ internal; alias {audio}/$file.flac; }}
    location ~ ^/url/./(?<run>.*)$ {{
      internal; default_type application/json;
      return 200 '{{"output_url": "http://127.0.0.1:{port}/storage/$run?Expires=9999999999"}}\\n';
    }}
    location = /nothing {{ internal; return 204; }}
    location / {{ default_type application/json; return 400 '{{"detail": "unknown run"}}\\n'; }}
  }}
"""
# Adding nothing after the body takes the length from its head, and costs nothing.
_NO_LENGTH = "add_after_body /nothing; addition_types *; sendfile off; output_buffers 2 64k;"


@dataclass(frozen=True)
class Profile:
    """The behaviour of one of the servers."""

    has_length: bool
    wait_s: float

    @property
    def name(self) -> str:
        length = "Content-Length" if self.has_length else "chunked"
        return f"{length}, {self.wait_s * 1000:.0f} ms" if self.wait_s else length


LENGTH, CHUNKED = Profile(True, 0), Profile(False, 0)
FAR_LENGTH, FAR_CHUNKED = Profile(True, ROUND_TRIP_S), Profile(False, ROUND_TRIP_S)
PROFILES = (LENGTH, CHUNKED, FAR_LENGTH, FAR_CHUNKED)


@dataclass(frozen=True)
class Counts:
    """Requests: for audio, for signed URLs (one by one, in bulk), to storage."""

    audio: int
    signs: int
    bulk: int
    storage: int

    @property
    def total(self) -> int:
        return self.audio + self.signs + self.bulk + self.storage

    @classmethod
    def of(cls, paths: Sequence[str]) -> Counts:
        return cls(
            audio=sum("/tts-result/" in path and "?" not in path for path in paths),
            signs=sum("?output_type=file_url" in path for path in paths),
            bulk=sum(path.endswith("/tts-results") for path in paths),
            storage=sum(path.startswith("/storage/") for path in paths),
        )

    def __str__(self) -> str:
        return f"{self.audio} audio, {self.signs} file_url, {self.bulk} bulk, {self.storage} storage"


class Server:
    def __init__(self, work: Path, audio: Path) -> None:
        self._work = work
        work.mkdir()
        self._ports = {profile: _free_port() for profile in PROFILES}
        self._log = work / "access.log"
        self._log.touch()
        user = "user root;" if os.geteuid() == 0 else ""
        servers = "".join(_server(profile, port, work, audio) for profile, port in self._ports.items())
        (work / "nginx.conf").write_text(
            _MAIN.format(user=user, work=work, bulk=bulk_answers("http://127.0.0.1:$server_port"), servers=servers)
        )
        self._process = subprocess.Popen(["nginx", "-p", str(work), "-c", str(work / "nginx.conf")])
        self._await()

    def _await(self) -> None:
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline and self._process.poll() is None:
            try:
                with urlopen(f"{self.url(CHUNKED)}/apis/tts-result/1000000?output_type=file_url"):
                    return
            except URLError:
                time.sleep(0.02)
        self.close()
        raise RuntimeError(f"nginx did not start: {(self._work / 'error.log').read_text()}")

    def close(self) -> None:
        self._process.terminate()
        self._process.wait(10)

    @property
    def ports(self) -> list[int]:
        return list(self._ports.values())

    def url(self, profile: Profile) -> str:
        return f"http://127.0.0.1:{self._ports[profile]}"

    def audio_url(self, profile: Profile, run_id: int) -> str:
        return f"{self.url(profile)}/apis/tts-result/{run_id}"

    def list_for_peers(self, name: str, kinds: Iterable[Kind], count: int) -> None:
        """Shows `count` results of each kind under /peer/NAME/."""
        names = (f"{kind.run(number)}.flac" for kind in kinds for number in range(count))
        links = "".join(f'<a href="{name}">{name}</a>\n' for name in names)
        (self._work / f"{name}.html").write_text(f"<html><body>\n{links}</body></html>\n")

    def mark(self) -> int:
        """A place in the log, for `since`."""
        time.sleep(0.1)  # a request is logged after its response was sent
        return self._log.stat().st_size

    def since(self, mark: int) -> Counts:
        self.mark()
        with self._log.open() as log:
            log.seek(mark)
            return Counts.of([line.split()[2] for line in log])


def _server(profile: Profile, port: int, work: Path, audio: Path) -> str:
    # A pause and a rewrite do not go together: they happen in different phases of a request.
    go, last, wait = "rewrite ^", " last", ""
    if profile.wait_s:
        go, last, wait = "echo_exec", "", f"echo_sleep {profile.wait_s};"
    no_length = "" if profile.has_length else _NO_LENGTH
    return _SERVER.format(port=port, work=work, audio=audio, go=go, last=last, wait=wait, no_length=no_length)


def bulk_answers(storage: str) -> str:
    """nginx's map from the bodies of bulk requests, of two to five run ids, to their answers; `storage` is the base of
    the signed URLs and may have nginx's variables in it."""
    lines = []
    for count in range(2, 6):
        ids = [f"b{count}{place}" for place in range(count)]
        asked = r",\s*".join(f"(?<{name}>\\d+)" for name in ids)
        url = storage + "/storage/${%s}?Expires=9999999999"
        response = ", ".join(f'"${{{name}}}": {{"output_url": "{url % name}"}}' for name in ids)
        lines.append(f"    '~^\\{{\"run_ids\":\\s*\\[{asked}\\]\\}}$' '{{{response}}}';")
    return "\n".join(lines)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
