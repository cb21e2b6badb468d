"""The API and the storage behind the link: nginx with TLS 1.3 at two addresses, with a log of every request.

The last two digits of a run id say which content a result has. The ports differ in whether answers of the API tell
their length, and in how long connections are kept. No threads; nginx is a process on the other side.
"""

from __future__ import annotations

import itertools
import random
import subprocess
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path

from bench_lib.audio import speak
from bench_lib.figures import CannotMeasure
from bench_lib.real_link.network import API, STORAGE, Network
from bench_lib.running import Running
from bench_lib.server import Counts, bulk_answers

MANY = 20
SMALL, CHAPTER, BOOK, SHORT = 20, 21, 22, 23  # contents; those below are the many, those above as SHORT
_SERIES = 100
_KEPT_S = 1
_LIMIT_S = 20.0


class Port(IntEnum):
    CHUNKED = 443
    LENGTH = 444
    FORGETFUL = 445  # chunked, and closes connections after a second


_MAIN = """\
load_module /usr/lib/nginx/modules/ngx_http_echo_module.so;
user root; daemon off; worker_processes 2; worker_rlimit_nofile 8192; pid {work}/pid; error_log {work}/error.log warn;
events {{ worker_connections 4096; }}
http {{
  client_body_temp_path {work}/t1; proxy_temp_path {work}/t2; fastcgi_temp_path {work}/t3;
  uwsgi_temp_path {work}/t4; scgi_temp_path {work}/t5;
  log_format bench '$request_uri $connection_requests';
  access_log {work}/access.log bench;
  default_type audio/flac; types {{ }} tcp_nopush on; keepalive_requests 1000000;
  ssl_certificate {work}/certificate.pem; ssl_certificate_key {work}/key.pem; ssl_protocols TLSv1.3;
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
    listen {api}:{port} ssl backlog=4096; keepalive_timeout {kept_s}s;
    location ~ "^/apis/tts-result/(?<run>[0-9]+(?<content>[0-9][0-9]))$" {{ rewrite ^ $answer/$content/$run last; }}
    location = /apis/tts-results {{ default_type application/json; echo_read_request_body; echo $bulk; }}
    location ~ ^/audio/(?<file>[0-9][0-9])/ {{ internal; alias {content}/$file; {no_length} }}
    location ~ ^/url/../(?<run>.*)$ {{
      internal; default_type application/json;
      return 200 '{{"output_url": "https://{storage}:{port}/storage/$run?Expires=9999999999"}}\\n';
    }}
    location = /nothing {{ internal; return 204; }}
    location ~ "^/peer/[0-9]+/[0-9]+(?<content>[0-9][0-9]).flac$" {{ alias {content}/$content; }}
    location ~ "^/peer/(?<series>[0-9]+)/$" {{ rewrite ^ /listing/$series.html last; }}
    location /listing/ {{ internal; default_type text/html; alias {work}/listing/; }}
    location / {{ default_type application/json; return 400 '{{"detail": "unknown run"}}\\n'; }}
  }}
  server {{
    listen {storage}:{port} ssl backlog=4096; keepalive_timeout {kept_s}s;
    location ~ "^/storage/[0-9]+(?<content>[0-9][0-9])$" {{ alias {content}/$content; }}
    location / {{ return 403; }}
  }}
"""
_NO_LENGTH = "add_after_body /nothing; addition_types *; output_buffers 2 64k;"


@dataclass(frozen=True)
class Asked:
    """Requests of all, and how many came over a new connection."""

    requests: Counts
    connections: int

    def __str__(self) -> str:
        return f"{self.requests}; {self.connections} new connections"


class Content:
    """FLAC files: the many of 0.1 to 3 MB, 29 MB in all, and some of other sizes."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        directory.mkdir()
        sizes = [0.1 + 2.9 * (place / (MANY - 1)) ** 1.15 for place in range(MANY)]
        random.Random(1).shuffle(sizes)
        for number, megabytes in enumerate([*sizes, 0.3, 15, 150]):
            speak(self.path(number), megabytes)
        for number in range(SHORT, _SERIES):
            self.path(number).hardlink_to(self.path(SMALL))

    def path(self, content: int) -> Path:
        return self.directory / f"{content:02}"


class Origin(Running[bytes]):
    """nginx on the other side of a network, for as long as the `with` lasts."""

    def __init__(self, network: Network, work: Path, content: Content) -> None:
        self._network = network
        self.content = content
        self._work = work
        self._log = work / "access.log"
        self.authority = work / "certificate.pem"
        self._numbers = itertools.count(100)

    def start(self) -> subprocess.Popen[bytes]:
        (self._work / "listing").mkdir(parents=True)
        self._log.touch()
        _certify(self._work)
        (self._work / "nginx.conf").write_text(self._configuration())
        command = ["nginx", "-p", str(self._work), "-c", str(self._work / "nginx.conf")]
        return subprocess.Popen(self._network.beyond(command), stderr=subprocess.DEVNULL)

    def end(self) -> None:
        self.process.terminate()
        self.process.wait(_LIMIT_S)

    def await_ready(self) -> None:
        deadline = time.monotonic() + _LIMIT_S
        probe = [
            "curl",
            "-sf",
            "--cacert",
            str(self.authority),
            "-o",
            "/dev/null",
            f"https://{API}/apis/tts-result/100",
        ]
        while subprocess.run(probe).returncode:
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise CannotMeasure(f"nginx did not start: {(self._work / 'error.log').read_text().strip()}")
            time.sleep(0.05)

    def _configuration(self) -> str:
        servers = "".join(
            _SERVER.format(
                api=API,
                storage=STORAGE,
                port=int(port),
                kept_s=_KEPT_S if port is Port.FORGETFUL else 600,
                work=self._work,
                content=self.content.directory,
                no_length="" if port is Port.LENGTH else _NO_LENGTH,
            )
            for port in Port
        )
        bulk = bulk_answers(f"https://{STORAGE}:$server_port")
        return _MAIN.format(work=self._work, bulk=bulk, servers=servers)

    def series(self, contents: Iterable[int]) -> list[int]:
        """New run ids with these contents, in the order of a listing. rclone finds them in its listing."""
        number = next(self._numbers)
        runs = [number * _SERIES + content for content in contents]
        links = "".join(f'<a href="{run}.flac">{run}.flac</a>\n' for run in runs)
        (self._work / "listing" / f"{number}.html").write_text(f"<html><body>\n{links}</body></html>\n")
        return runs

    def url(self, port: Port, run: int | str) -> str:
        return f"{base(port)}/apis/tts-result/{run}"

    def original(self, run: int) -> Path:
        return self.content.path(run % _SERIES)

    def asked(self, action: Callable[[], float]) -> tuple[float, Asked]:
        """What the action gives, and what was asked of this origin meanwhile."""
        mark = self._log.stat().st_size
        result = action()
        time.sleep(0.1 + self._network.terms.round_trip_s)  # a request is logged when its response has gone
        with self._log.open() as log:
            log.seek(mark)
            lines = [line.split() for line in log]
        return result, Asked(Counts.of([path for path, _ in lines]), sum(number == "1" for _, number in lines))


def base(port: Port) -> str:
    return f"https://{API}:{int(port)}"


def series_of(run: int) -> int:
    return run // _SERIES


def _certify(work: Path) -> None:
    names = f"subjectAltName=IP:{API},IP:{STORAGE}"
    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", str(work / "key.pem")]
    out = ["-out", str(work / "certificate.pem"), "-days", "2", "-subj", "/CN=bench", "-addext", names]
    subprocess.run(["openssl", "req", "-x509", *key, *out], check=True, capture_output=True)
