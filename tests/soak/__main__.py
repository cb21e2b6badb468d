"""The command line of the load test: how long, and which chances. No threads."""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
from pathlib import Path

from tests.soak.run import soak, text


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="scripts/soak", description="Reads from mounts of an API that fails at random."
    )
    parser.add_argument("--minutes", type=float, default=10.0, help="how long (10)")
    parser.add_argument("--seed", type=int, default=None, help="repeats what a run with that seed chose")
    arguments = parser.parse_args()
    if arguments.minutes <= 0:
        parser.error("--minutes must be above 0")
    seed = random.randrange(1 << 30) if arguments.seed is None else arguments.seed
    print(f"seed {seed}, {arguments.minutes:g} minutes", flush=True)
    with tempfile.TemporaryDirectory(prefix="cambfs-soak-") as directory:
        outcome = soak(Path(directory), arguments.minutes * 60, seed)
    print(text(outcome))
    wrong = outcome.faults_of_ours()
    print("\n".join(["", *wrong[:50]]) if wrong else "nothing is wrong")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
