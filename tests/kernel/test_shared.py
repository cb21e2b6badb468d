"""Eight machines and one engine: each result is fetched once, and no reader notices what happens to the engine.

`scripts/soak --shared` does the same for longer.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.kernel.harness import Mount
from tests.soak.farm import RESULTS, Farm

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def farm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Farm]:
    with Farm(tmp_path_factory.mktemp("farm"), rounds=4, seed=1) as farm:
        yield farm


def usage(mount: Mount) -> dict[str, Any]:
    """What its status says of the shared cache."""
    shared: dict[str, Any] = json.loads(mount.run("cat .cambfs/status.json").out)["shared"]
    return shared


def test_eight_machines_fetch_each_result_once(farm: Farm) -> None:
    runs = farm.read_together()

    # The end of storage's object each, or its head and its end, as one machine alone asks for.
    asked = farm.requests_for(runs)
    is_as_alone = asked["stream"] == asked["sign"] == RESULTS and RESULTS <= asked["stored"] <= 2 * RESULTS
    usages = [usage(mount) for mount in farm.mounts]
    is_led_once = sum(one["led"] for one in usages) == RESULTS
    is_shared = sum(one["hits"] + one["followed"] for one in usages) == RESULTS * (len(usages) - 1)
    # On a machine so busy that the engine seems to be down, the bytes have to be right, and that is all.
    assert (is_as_alone and is_led_once and is_shared) or farm.has_missed_engine(), asked


def test_a_listing_of_results_that_another_machine_has_fetched_costs_no_request(farm: Farm) -> None:
    farm.server.forget()
    late = farm.mount("--runs", f"1-{RESULTS}", "--no-url-files")
    listing = late.run("ls -l").out.decode()

    assert listing.count(".flac") == RESULTS
    assert farm.requests_for(range(1, RESULTS + 1)) == {}
    assert usage(late)["facts"] == RESULTS


def test_all_that_the_engine_has_may_be_replaced_by_random_bytes(farm: Farm) -> None:
    runs = farm.read_together(farm.poison)
    farm.poison()
    late = farm.mount()
    assert farm.read(late, runs) == []
    assert usage(late)["dropped"] > 0


def test_a_machine_may_be_killed(farm: Farm) -> None:
    victim = farm.mounts[-1]
    farm.read_together(victim.crash, victim)
    farm.mounts.remove(victim)


def test_the_engine_may_be_killed_and_started_again(farm: Farm) -> None:
    farm.read_together(farm.restart_engine)
