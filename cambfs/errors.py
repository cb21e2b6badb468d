"""Everything that cambfs itself raises, and nothing else.

No class derives from OSError: fusepy passes the errno of any OSError to the kernel, even None, which becomes garbage
there. `errnos` has the one table that maps the classes to errnos; `cli` prints their text as a line.

    CambfsError
    ├── NoSuchName          not a name of the tree; no request was made
    ├── ReadOnly            any attempt to write
    ├── ConfigError         something cambfs needs is missing or wrong; the text says what to do
    │   └── SettingError        a setting or an argument is wrong: the command was called wrongly
    ├── Cancelled             the caller was killed while it waited
    ├── Closing             the mount is being unmounted
    ├── TooLarge            a result beyond the largest that is allowed
    ├── NoSpace             no room for the bytes, and nothing left to evict
    ├── TooManyOpenFiles    no descriptor is left, of this process or of the machine
    ├── StorageUseless      storage does not have the requested facts; the stream may
    ├── NotRepeated         a temporary failure of a request that no caller waits for
    ├── CacheDamaged        a cached result does not match its sidecar
    ├── ResultChanged       the result is not the one whose first bytes were read
    ├── NoWav               the result has no form as WAV: it is no FLAC
    ├── Undecodable         the samples of a FLAC are not those that its header promises
    ├── NotWhole            the response is cut off again and again, or cannot be proven whole
    ├── MisplacedTask       a task id where only run ids are names; no request was made
    ├── TaskPending         the task was still under way when the time was over
    ├── TaskFailed          the task has ended without a run
    ├── RemoteError         the API or the storage refused the request, or its response makes no sense
    │   ├── UnknownRun          400, 404, 422
    │   │   └── UnknownPath         404 whose text names no run: perhaps there is no API at this base URL
    │   ├── UnknownTask         400, 404, 422 for a task, of speech as well as of translated speech
    │   ├── KeyRefused          401, 403
    │   ├── SignatureExpired    403 from storage
    │   ├── RateLimited         429                                     (temporary)
    │   ├── ServerError         408, 5xx                                (temporary)
    │   ├── NotAudio            200, and anything but audio as content
    │   └── BadResponse           any other response that makes no sense
    └── LinkError           there was no response, or it broke off       (temporary)
        ├── Unreachable         not resolved, not routed, refused
        ├── TimedOut            no progress within the timeout
        │   └── ConnectTimedOut     not even a connection
        └── BrokenBody          the body ended before its end
"""

from __future__ import annotations

import errno

_UNAUTHORIZED = 401


class CambfsError(Exception):
    """The base of all. `str()` is one line without secrets, fit for a user. `temporary`: another try can help.
    `down_for_s`: the host is down, and every request to it fails at once for so many seconds."""

    temporary = False
    down_for_s: float | None = None


class NoSuchName(CambfsError):
    pass


class ReadOnly(CambfsError):
    pass


class ConfigError(CambfsError):
    pass


class SettingError(ConfigError):
    pass


class Cancelled(CambfsError):
    pass


class Closing(CambfsError):
    pass


class TooLarge(CambfsError):
    pass


class NoSpace(CambfsError):
    pass


class TooManyOpenFiles(CambfsError):
    pass


class StorageUseless(CambfsError):
    pass


class NotRepeated(CambfsError):
    pass


class CacheDamaged(CambfsError):
    pass


class ResultChanged(CambfsError):
    pass


class NotWhole(CambfsError):
    pass


class MisplacedTask(CambfsError):
    pass


class TaskPending(CambfsError):
    pass


class TaskFailed(CambfsError):
    pass


class NoWav(CambfsError):
    pass


class Undecodable(CambfsError):
    pass


class RemoteError(CambfsError):
    """`status` is the HTTP status; `retry_after_s` is the delay that the server asked for, in seconds, or None."""

    def __init__(self, text: str, status: int, retry_after_s: float | None = None) -> None:
        super().__init__(text)
        self.status = status
        self.retry_after_s = retry_after_s


class UnknownRun(RemoteError):
    pass


class UnknownPath(UnknownRun):
    pass


class UnknownTask(RemoteError):
    pass


class KeyRefused(RemoteError):
    @property
    def is_for_all(self) -> bool:
        """The key is not valid, so no other request succeeds. Otherwise it may just not read this run."""
        return self.status == _UNAUTHORIZED


class SignatureExpired(RemoteError):
    pass


class RateLimited(RemoteError):
    temporary = True


class ServerError(RemoteError):
    temporary = True


class NotAudio(RemoteError):
    pass


class BadResponse(RemoteError):
    pass


class LinkError(CambfsError):
    """`was_sent`: a request was made, or tried; false while the host is known to be down. `is_host_heard`: the host
    sent bytes of other responses meanwhile."""

    temporary = True
    was_sent = True
    is_host_heard = False


class Unreachable(LinkError):
    """`errno` is one of EHOSTUNREACH, ENETUNREACH and ECONNREFUSED."""

    def __init__(self, text: str, errno_: int = errno.EHOSTUNREACH) -> None:
        super().__init__(text)
        self.errno = errno_


class TimedOut(LinkError):
    pass


class ConnectTimedOut(TimedOut):
    pass


class BrokenBody(LinkError):
    pass
