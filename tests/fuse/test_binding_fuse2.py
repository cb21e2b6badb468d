"""The agreement of libfuse 2 with the kernel: the first request and its response, as captured on Linux 6.18."""

from __future__ import annotations

import struct

from cambfs.fuse.binding_fuse2 import with_larger_reads

_UNIQUE, _KNOWS_PAGES = 2, 1 << 22


def _request(flags: int) -> bytes:
    header = struct.pack("<IIQQIIIHH", 104, 26, _UNIQUE, 0, 0, 0, 0, 0, 0)
    return header + struct.pack("<IIIII", 7, 45, 131072, flags, 0) + bytes(44)


def _response(flags: int = 0x1100, error: int = 0) -> bytes:
    body = struct.pack("<IIIIHHI", 7, 19, 131072, flags, 512, 384, 131072)
    return struct.pack("<IiQ", 16 + len(body), error, _UNIQUE) + body


def test_reads_of_a_mebibyte_are_agreed_on() -> None:
    response = with_larger_reads(_request(_KNOWS_PAGES | 0xFFFB), _response())

    assert struct.unpack_from("<IiQ", response) == (len(response), 0, _UNIQUE) == (80, 0, 2)
    assert struct.unpack_from("<IIIIHHI", response, 16) == (7, 19, 131072, 0x1100 | _KNOWS_PAGES, 512, 384, 131072)
    time_granularity, max_pages, map_alignment, more_flags = struct.unpack_from("<IHHI", response, 40)
    assert max_pages == 256
    assert time_granularity == map_alignment == more_flags == 0
    assert not any(response[52:])


def test_a_kernel_that_does_not_know_of_them_gets_what_libfuse_says() -> None:
    assert with_larger_reads(_request(0xFFFB), _response()) == _response()


def test_an_error_stays_one() -> None:
    refused = struct.pack("<IiQ", 16, -71, _UNIQUE)

    assert with_larger_reads(_request(_KNOWS_PAGES), refused) == refused


def test_a_libfuse_that_knows_of_them_is_left_alone() -> None:
    longer = _response() + bytes(40)

    assert with_larger_reads(_request(_KNOWS_PAGES), longer) == longer
