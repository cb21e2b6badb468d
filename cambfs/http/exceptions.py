"""The CambfsErrors of requests: for the status of an error response, and for the exceptions of the network libraries.

An exception says why a request got no response, or the response broke off. The libraries wrap the system's error
several layers deep, each in its own way, in texts that hold URLs. So this module looks through the wrapped errors for
the one that tells the cause, and words it anew. Pure functions, no threads.
"""

from __future__ import annotations

import errno
import http.client
import os
import socket
import ssl
from collections.abc import Iterator, Mapping

import requests
import urllib3.exceptions

from cambfs.errors import (
    BadResponse,
    BrokenBody,
    CambfsError,
    ConnectTimedOut,
    KeyRefused,
    LinkError,
    RateLimited,
    RemoteError,
    ServerError,
    SignatureExpired,
    TimedOut,
    TooManyOpenFiles,
    UnknownPath,
    UnknownRun,
    Unreachable,
)
from cambfs.redaction.response_text import plain
from cambfs.wire.strict_response import Malformed

Types = tuple[type[BaseException], ...]

# Everything that the libraries raise for a fault of the other side, and nothing that would be a bug here.
FOREIGN: Types = (
    requests.RequestException,
    urllib3.exceptions.HTTPError,
    http.client.HTTPException,
    OSError,
    UnicodeError,
)
# The types of the libraries for each cause.
_TIMEOUTS: Types = (requests.Timeout, urllib3.exceptions.TimeoutError)
_CONNECT_TIMEOUTS: Types = (requests.ConnectTimeout, urllib3.exceptions.ConnectTimeoutError)
_TLS: Types = (requests.exceptions.SSLError, urllib3.exceptions.SSLError)
_PROXIES: Types = (requests.exceptions.ProxyError, urllib3.exceptions.ProxyError)
_MALFORMED: Types = (
    requests.exceptions.InvalidHeader,
    requests.exceptions.InvalidURL,
    urllib3.exceptions.InvalidHeader,
)
_ROUTE_ERRNOS = {
    errno.ECONNREFUSED: (errno.ECONNREFUSED, "refuses the connection"),
    errno.ENETUNREACH: (errno.ENETUNREACH, "cannot be reached: no network leads there"),
    errno.ENETDOWN: (errno.ENETUNREACH, "cannot be reached: the network is down"),
    errno.EADDRNOTAVAIL: (errno.ENETUNREACH, "cannot be reached from any address of this machine"),
    errno.EHOSTUNREACH: (errno.EHOSTUNREACH, "cannot be reached: no route leads there"),
    errno.EHOSTDOWN: (errno.EHOSTUNREACH, "is down"),
}
_API_ERRORS: Mapping[int, type[RemoteError]] = {
    400: UnknownRun,
    401: KeyRefused,
    403: KeyRefused,
    404: UnknownRun,
    422: UnknownRun,
}
# Wrapped errors refer to each other in circles.
_MAX_CHAIN = 40


def fault(error: BaseException, what: str, host: str, timeout_s: float, in_body: bool) -> CambfsError:
    """The CambfsError for `error`; its text begins with `what`. `in_body`: the head of the response had arrived.

    `error`, and all that it wraps, lose their tracebacks: the frames have the request's headers as locals.
    """
    chain = list(_chain(error))
    for one in chain:
        one.__traceback__ = None
    peer = f"the proxy on the way to {host}" if _first(chain, _PROXIES) else host
    found = _shortage(chain, f"{what}: no connection to {peer}") or _unreachable(chain, f"{what}: {peer}")
    if found is not None:
        return found
    if _first(chain, _CONNECT_TIMEOUTS):
        return ConnectTimedOut(f"{what}: {peer} does not respond in time")
    if _first(chain, (TimeoutError, *_TIMEOUTS)):
        silent = f"sent nothing more for {timeout_s:g} s" if in_body else "does not respond in time"
        return TimedOut(f"{what}: {peer} {silent}")
    if in_body:
        return BrokenBody(f"{what}: the response of {peer} broke off")
    return _headless(chain, f"{what}: {peer}")


def _shortage(chain: list[BaseException], what: str) -> TooManyOpenFiles | None:
    """It says nothing about the other side, and may pass."""
    for one in chain:
        if isinstance(one, OSError) and one.errno in (errno.EMFILE, errno.ENFILE):
            shortage = TooManyOpenFiles(f"{what}: {os.strerror(one.errno)}")
            shortage.temporary = True
            return shortage
    return None


def _unreachable(chain: list[BaseException], peer: str) -> Unreachable | None:
    certificate = _first(chain, (ssl.SSLCertVerificationError,))
    if isinstance(certificate, ssl.SSLCertVerificationError):
        why = plain(str(getattr(certificate, "verify_message", "")))
        return Unreachable(f"{peer} has a certificate that is not accepted" + (f": {why}" if why else ""))
    if _first(chain, (socket.gaierror,)):
        return Unreachable(f"{peer} cannot be found: its name is not resolved")
    for one in chain:
        if isinstance(one, OSError) and one.errno in _ROUTE_ERRNOS:
            code, words = _ROUTE_ERRNOS[one.errno]
            return Unreachable(f"{peer} {words}", code)
    return None


def _headless(chain: list[BaseException], peer: str) -> CambfsError:
    if _first(chain, (ssl.SSLError, *_TLS)):
        return Unreachable(f"{peer} fails to set up TLS; check the address and the port")
    if _first(chain, _PROXIES):
        return Unreachable(f"{peer} refuses to connect; check the proxy settings")
    malformed = _first(chain, (Malformed,))
    if malformed is not None:
        return BadResponse(f"{peer} does not respond in proper HTTP: it sent {malformed}", 0)
    if _first(chain, (http.client.RemoteDisconnected, ConnectionError)):
        return LinkError(f"{peer} closed the connection without a response")
    if _first(chain, (http.client.HTTPException, UnicodeError, *_MALFORMED)):
        return BadResponse(f"{peer} does not respond in HTTP", 0)
    return LinkError(f"{peer} gave no response")


def _first(chain: list[BaseException], types: Types) -> BaseException | None:
    return next((one for one in chain if isinstance(one, types)), None)


def _chain(error: BaseException) -> Iterator[BaseException]:
    """`error` and everything that it wraps, outermost first."""
    waiting: list[object] = [error]
    seen: set[int] = set()
    while waiting and len(seen) < _MAX_CHAIN:
        one = waiting.pop(0)
        if isinstance(one, BaseException) and id(one) not in seen:
            seen.add(id(one))
            yield one
            waiting += [one.__cause__, one.__context__, getattr(one, "reason", None), *one.args]


def api_error(text: str, status: int, retry_after_s: float | None, of_no_run: bool = False) -> RemoteError:
    """The error for a status of the API itself. `of_no_run`: as `response_text.tells_of_no_run`."""
    kind = _API_ERRORS.get(status) or _common(status)
    if status == 404 and of_no_run:
        kind = UnknownPath
    return kind(text, status, retry_after_s)


def storage_error(text: str, status: int, code: str, retry_after_s: float | None) -> RemoteError:
    """The error for a status of a storage. Google's says 400 and ExpiredToken where others say 403."""
    expired = status == 403 or code == "ExpiredToken"
    kind = SignatureExpired if expired else _common(status)
    return kind(text, status, retry_after_s)


def elsewhere_error(text: str, status: int, retry_after_s: float | None) -> RemoteError:
    """The error for a status of a host to which the API redirected: it knows neither runs nor keys."""
    return _common(status)(text, status, retry_after_s)


def _common(status: int) -> type[RemoteError]:
    if status == 429:
        return RateLimited
    return ServerError if status == 408 or 500 <= status <= 599 else BadResponse
