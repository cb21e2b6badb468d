"""libfuse 2 through fusepy, with larger reads: fewer requests for the same bytes.

libfuse 2 never offers reads above 128 KiB, but serves them. Kernel and libfuse agree on the size in the first request
and its response (FUSE_INIT of the kernel's fuse.h). Both pass through here, and the larger limit is added to the
response. Everything else is libfuse's. Threads: the main thread mounts, and responds to the first request; libfuse's
threads begin after that. libfuse starts one whenever all are busy, without a limit.
"""

from __future__ import annotations

import ctypes
import os
import struct
from contextlib import suppress
from typing import Any

import fuse

from cambfs.fuse.binding import MAX_BACKGROUND, Binding, Callbacks, Options, as_bytes, as_text
from cambfs.fuse.operations import BLOCK_BYTES, Operations

# fusepy decodes paths with this, because every name can be decoded. `_Calls` then makes them text.
_ENCODING = "latin-1"
_OPTIONS = {
    "encoding": _ENCODING,
    "raw_fi": True,
    "foreground": True,
    "max_background": MAX_BACKGROUND,
    "max_readahead": BLOCK_BYTES,
}

# The size of a buffer of libfuse, in which it receives a request.
_REQUEST_BYTES = 0x21000
_PAGES = 256  # 1 MiB, the kernel's own limit; the actual size of a read depends on the reader and its readahead
_MAX_PAGES = 1 << 22  # the flag that there is such an agreement (Linux 4.20)
_IN_HEADER, _IN_FLAGS = 40, 12
_OUT_HEADER = struct.Struct("<IiQ")  # length, error, which request
_OUT_FLAGS, _OUT_PAGES, _OUT_BYTES = 12, 28, 64

_pointer = ctypes.c_void_p


class _Piece(ctypes.Structure):
    """struct iovec"""

    _fields_ = (("address", _pointer), ("length", ctypes.c_size_t))


_Send = ctypes.CFUNCTYPE(ctypes.c_int, _pointer, ctypes.POINTER(_Piece), ctypes.c_size_t)


class _ChannelOperations(ctypes.Structure):
    """struct fuse_chan_ops"""

    _fields_ = (("receive", _pointer), ("send", _Send), ("destroy", _pointer))


class Fuse2(Binding):
    def __init__(self) -> None:
        super().__init__(fuse)

    def serve(self, operations: Operations, mountpoint: bytes, options: Options) -> None:
        _Mount(_Calls(operations), mountpoint.decode(_ENCODING), **{**_OPTIONS, **options})


class _Calls:
    """The operations as fusepy calls them: by their name, with paths in its encoding."""

    def __init__(self, operations: Operations) -> None:
        self.operations = operations

    def __call__(self, operation: str, path: str, *arguments: Any) -> Any:
        return self.operations(operation, as_text(path.encode(_ENCODING)), *arguments)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.operations, name)


class _Mount(Callbacks, fuse.FUSE):  # type: ignore[misc]  # fusepy has no types
    module = fuse

    def __init__(self, calls: _Calls, *arguments: Any, **options: Any) -> None:
        self.call = calls.operations
        # fusepy calls this one function to mount and to serve.
        original, fuse._libfuse.fuse_main_real = fuse._libfuse.fuse_main_real, serve
        try:
            super().__init__(calls, *arguments, **options)
        finally:
            fuse._libfuse.fuse_main_real = original

    def readlink(self, path: bytes, memory: Any, size: int) -> int:
        target = as_bytes(self.call("readlink", as_text(path)))[: size - 1] + b"\0"
        ctypes.memmove(memory, target, len(target))
        return 0

    def readdir(self, path: bytes, buf: Any, filler: Any, _offset: int, fip: Any) -> int:
        filler(buf, b".", None, 0)
        filler(buf, b"..", None, 0)
        status = fuse.c_stat()
        for name, status.st_ino, status.st_mode in self.call("readdir", as_text(path), fip.contents.fh):
            if filler(buf, as_bytes(name), status, 0):
                break
        return 0


def serve(argc: int, argv: Any, operations: Any, size: int, _data: None) -> int:
    """Mounts, serves until unmounted, and returns 0; 1 when the mount is refused, after libfuse has printed the reason.
    The arguments are those of `fuse_main_real`."""
    libfuse = fuse._libfuse
    _declare(libfuse)
    mountpoint, is_threaded = _pointer(), ctypes.c_int()
    loop = libfuse.fuse_setup(argc, argv, operations, size, ctypes.byref(mountpoint), ctypes.byref(is_threaded), None)
    if not loop:
        return 1
    session = libfuse.fuse_get_session(loop)
    device = libfuse.fuse_chan_fd(libfuse.fuse_session_next_chan(session, None))
    with suppress(OSError):  # unmounted already; the loop will notice, too
        _serve_first_request(libfuse, session, device)
    failed = libfuse.fuse_loop_mt(loop) == -1
    libfuse.fuse_teardown(loop, mountpoint)
    return int(failed)


def _declare(libfuse: Any) -> None:
    libfuse.fuse_setup.restype = _pointer
    libfuse.fuse_get_session.argtypes, libfuse.fuse_get_session.restype = [_pointer], _pointer
    libfuse.fuse_session_next_chan.argtypes = [_pointer, _pointer]
    libfuse.fuse_session_next_chan.restype = _pointer
    libfuse.fuse_chan_fd.argtypes = [_pointer]
    libfuse.fuse_chan_new.argtypes = [_pointer, ctypes.c_int, ctypes.c_size_t, _pointer]
    libfuse.fuse_chan_new.restype = _pointer
    libfuse.fuse_chan_destroy.argtypes = [_pointer]
    libfuse.fuse_session_process.argtypes = [_pointer, ctypes.c_char_p, ctypes.c_size_t, _pointer]
    libfuse.fuse_session_process.restype = None
    libfuse.fuse_loop_mt.argtypes = [_pointer]
    libfuse.fuse_teardown.argtypes = [_pointer, _pointer]


def _serve_first_request(libfuse: Any, session: int, device: int) -> None:
    """Raises OSError when the mount is gone already."""
    request = os.read(device, _REQUEST_BYTES)

    def send(_channel: int, pieces: Any, count: int) -> int:
        response = b"".join(ctypes.string_at(piece.address, piece.length) for piece in pieces[:count])
        try:
            os.write(device, with_larger_reads(request, response))
        except OSError as error:
            return -(error.errno or 1)
        return 0

    operations = _ChannelOperations(None, _Send(send), None)
    channel = libfuse.fuse_chan_new(ctypes.byref(operations), device, _REQUEST_BYTES, None)
    libfuse.fuse_session_process(session, request, len(request), channel)
    libfuse.fuse_chan_destroy(channel)  # it has no `destroy`, so the device stays open


def with_larger_reads(request: bytes, response: bytes) -> bytes:
    """The response to a FUSE_INIT request, with reads of up to 1 MiB where the kernel supports them and libfuse does
    not; otherwise unchanged."""
    _, error, unique = _OUT_HEADER.unpack_from(response)
    body = bytearray(response[_OUT_HEADER.size :])
    if error or not _flags(request, _IN_HEADER + _IN_FLAGS) & _MAX_PAGES or len(body) > _OUT_PAGES:
        return response
    body += bytes(_OUT_BYTES - len(body))
    struct.pack_into("<I", body, _OUT_FLAGS, _flags(body, _OUT_FLAGS) | _MAX_PAGES)
    struct.pack_into("<H", body, _OUT_PAGES, _PAGES)
    return _OUT_HEADER.pack(_OUT_HEADER.size + len(body), error, unique) + body


def _flags(message: bytes | bytearray, position: int) -> int:
    return int.from_bytes(message[position : position + 4], "little")
