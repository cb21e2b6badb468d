"""What a result takes of a server's memory."""

from __future__ import annotations

import pytest

from cambfs.names import RunId
from cambfs.shared.engine import STRING_BYTES
from tests.shared.conftest import RealPlace, key

RUN, TOKEN = RunId(5), b"token"
PIECE = 100_000


@pytest.mark.parametrize(("size", "most"), [(6 * PIECE, 1.2), (30 * PIECE, 1.2), (90 * PIECE, 1.3)])
def test_a_finished_log_takes_little_more_than_its_bytes_and_stays(real: RealPlace, size: int, most: float) -> None:
    engine = real.engine(f"valkey://127.0.0.1:{real.server.port}", string_bytes=STRING_BYTES)
    assert engine.lease(RUN, TOKEN)
    for offset in range(0, size, PIECE):
        assert engine.append(RUN, TOKEN, offset, bytes(PIECE))
    assert engine.finish(RUN, TOKEN, b"facts")
    taken: int = real.server.admin.memory_usage(key(RUN, "s0"))
    assert size < taken < most * size
    assert real.seconds_left(RUN, "s0") == float("inf")
    assert engine.read(RUN, size - 10, 20).data == bytes(10)
