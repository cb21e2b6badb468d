"""The load of `scripts/soak`, in its short form: all kinds of readers, an API that fails at random, kills."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.kernel.faults import seen
from tests.soak.run import soak, text

_SECONDS = 20.0


@pytest.mark.timeout(300)
def test_nothing_is_wrong_under_load(tmp_path: Path) -> None:
    seed = int(time.time())
    outcome = soak(tmp_path, _SECONDS, seed)
    print(f"seed {seed}\n{text(outcome)}")
    assert outcome.faults_of_ours() == [], f"with seed {seed}"
    assert len(outcome.faults) > 3, "how many is a matter of how busy the machine is"
    seen(
        "Load",
        f"{sum(outcome.faults.values())} faults of {len(outcome.faults)} kinds at random, {outcome.kills} kill -9, "
        f"{outcome.tally.operations.total()} operations",
        "the right bytes or an errno; wrong bytes 0, wrong sizes 0, hangs 0",
        None,
        "whole results only",
        "each failure",
    )
