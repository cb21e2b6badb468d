"""A busy API and storage, through a mount: they get no request for which no caller waits."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal

import pytest

from tests.api.faults import BEFORE_HEADERS, Fault
from tests.api.log import Record
from tests.api.server import Server
from tests.kernel.conftest import Mounted
from tests.kernel.faults import results_of, server_of_results
from tests.kernel.harness import Mount, wait_until

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
    server.fail(Fault("status", target="bulk", status=429))
    server.fail(Fault("status", target="sign", status=429, run_id=1))
    with mounted("--runs", f"1-{COUNT}") as mount:
        done = mount.run("stat -c '%n %s' *.flac && cat *.url >/dev/null")
        assert (done.status, done.err) == (0, ""), done

    sizes = dict(line.split() for line in done.out.decode().splitlines())
    assert sizes == {f"{run_id}.flac": str(path.stat().st_size) for run_id, path in results.items()}
    assert server.count("bulk") == 1, "nothing is requested ahead from then on"
    assert len(_signed_alone(server)) == COUNT + 1
    assert server.count("stream") == 1, "the one that proves storage"


@pytest.mark.parametrize("kind", ["reset", "cut"])
def test_a_storage_that_closes_one_connection(
    kind: Literal["reset", "cut"], server: Server, results: dict[int, Path], mounted: Mounted
) -> None:
    """A listing does not fetch whole results because of that."""
    server.fail(Fault(kind, target="stored", after_bytes=BEFORE_HEADERS))
    with mounted("--runs", f"1-{COUNT}") as mount:
        done = mount.run("stat -c '%n %s' *.flac")
        assert (done.status, done.err) == (0, ""), done

    sizes = dict(line.split() for line in done.out.decode().splitlines())
    assert sizes == {f"{run_id}.flac": str(path.stat().st_size) for run_id, path in results.items()}
    assert server.count("stream") == 1, "the one that proves storage"


def _transfers(mount: Mount) -> list[object]:
    found: list[object] = json.loads(mount.run("cat .cambfs/status.json").out)["transfers"]
    return found


@pytest.mark.parametrize("status", [429, 503])
def test_a_stat_beside_whose_size_the_audio_was_requested(
    status: int, server: Server, results: dict[int, Path], mounted: Mounted
) -> None:
    with mounted("--timeout", "4") as mount:
        assert mount.run("stat 1.flac && cat 1.flac > /dev/null").status == 0
        server.forget()
        server.fail(Fault("status", target="stream", status=status, times=None))
        assert mount.run("stat -c %s 2.flac").out.decode().split() == [str(results[2].stat().st_size)]
        wait_until(lambda: _transfers(mount) == [], "it is asked for again and again")
        server.heal()
        assert mount.run(f"cmp 2.flac {results[2]}").status == 0

    assert server.count("stream") == 2, "one beside the size, and one for the reader"
