"""Requests to the API of the demo, and their responses as they come over the wire."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from dataclasses import replace
from http.client import HTTPConnection, HTTPResponse
from typing import Any
from urllib.parse import urlsplit

import requests

from cambfs.demo.server import Server

FLAC = b"fLaC" + bytes(range(256)) * 12
KEY = {"x-api-key": "demo-key"}
LIMIT_S = 30


def get(url: str, **headers: str) -> requests.Response:
    return requests.get(url, headers={**KEY, **headers}, timeout=LIMIT_S, allow_redirects=False)


def stream(server: Server, run_id: object = 1, **headers: str) -> requests.Response:
    return get(f"{server.base_url}/tts-result/{run_id}", **headers)


def sign(server: Server, run_id: object = 1) -> requests.Response:
    return get(f"{server.base_url}/tts-result/{run_id}?output_type=file_url")


def signed_url(server: Server) -> str:
    url = sign(server).json()["output_url"]
    assert isinstance(url, str)
    return url


def stored(url: str, **headers: str) -> requests.Response:
    return requests.get(url, headers=headers, timeout=LIMIT_S)


def bulk(server: Server, *run_ids: object) -> requests.Response:
    return requests.post(
        f"{server.base_url}/tts-results", json={"run_ids": run_ids}, headers=KEY, timeout=LIMIT_S, allow_redirects=False
    )


def set_profile(server: Server, **changes: Any) -> None:
    server.profile = replace(server.profile, **changes)


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + LIMIT_S
    while not condition():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.005)


def connect(server: Server, path: str = "/tts-result/1") -> socket.socket:
    """A connection on which a stream has been requested, without requesting the connection's end."""
    parts = urlsplit(server.base_url)
    link = socket.create_connection((str(parts.hostname), parts.port or 0), LIMIT_S)
    link.sendall(f"GET {parts.path}{path} HTTP/1.1\r\nHost: demo\r\nx-api-key: demo-key\r\n\r\n".encode())
    return link


def raw(server: Server, path: str = "/tts-result/1") -> tuple[bytes, bytes, type[BaseException] | None]:
    """Headers and body as they come over the wire until the connection ends, and how it ended: None for a FIN."""
    received = b""
    with connect(server, path) as link:
        try:
            while data := link.recv(65536):
                received += data
        except OSError as error:
            head, _, body = received.partition(b"\r\n\r\n")
            return head.lower(), body, type(error)
    head, _, body = received.partition(b"\r\n\r\n")
    return head.lower(), body, None


def opened(server: Server, path: str = "/tts-result/1") -> tuple[HTTPConnection, HTTPResponse]:
    parts = urlsplit(server.base_url)
    connection = HTTPConnection(str(parts.hostname), parts.port, timeout=LIMIT_S)
    connection.request("GET", parts.path + path, headers=KEY)
    return connection, connection.getresponse()
