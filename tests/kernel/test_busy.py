"""A busy API, through a mount: it gets no request for which no caller waits."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.api.faults import Fault
from tests.api.log import Record
from tests.api.server import Server
from tests.kernel.conftest import Mounted
from tests.kernel.faults import results_of, server_of_results
from tests.kernel.harness import wait_until

COUNT = 12

results = results_of(COUNT)
server = server_of_results


def _signed_alone(server: Server) -> list[Record]:
    return [record for record in server.requests if record.kind == "sign" and record.run_id]  # 0: the check of the key


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize("kind", ["flac", "url"])
def test_a_listing_that_is_broken_off(status: int, kind: str, server: Server, mounted: Mounted) -> None:
    server.fail(Fault("status", target="bulk", status=status, times=None))
    server.fail(Fault("status", target="sign", status=status, times=None))
    with mounted("--runs", f"1-{COUNT}") as mount, mount.start(f"exec stat *.{kind}"):
        wait_until(lambda: server.count("bulk") == 1 and len(_signed_alone(server)) >= 3, "a caller asks again")

    assert server.count("bulk") == 1
    assert {record.run_id for record in _signed_alone(server)} == {1}


def test_a_listing_goes_on(server: Server, results: dict[int, Path], mounted: Mounted) -> None:
    server.fail(Fault("status", target="bulk", status=429, times=3))
    server.fail(Fault("status", target="sign", status=429, run_id=1))
    with mounted("--runs", f"1-{COUNT}") as mount:
        done = mount.run("stat -c '%n %s' *.flac && cat *.url >/dev/null")
        assert (done.status, done.err) == (0, ""), done

    sizes = dict(line.split() for line in done.out.decode().splitlines())
    assert sizes == {f"{run_id}.flac": str(path.stat().st_size) for run_id, path in results.items()}
    assert server.count("bulk") == 1, "nothing is requested ahead from then on"
    assert len(_signed_alone(server)) == COUNT + 1
    assert server.count("stream") == 1, "the one that proves storage"
