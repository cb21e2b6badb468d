"""The command line of the load test: how long, and which chances. No threads."""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
from pathlib import Path

from tests.soak.run import soak, text
from tests.soak.shared import soak_shared


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="scripts/soak", description="Reads from mounts of an API that fails at random."
    )
    parser.add_argument("--minutes", type=float, default=10.0, help="how long (10)")
    parser.add_argument("--seed", type=int, default=None, help="repeats what a run with that seed chose")
    parser.add_argument(
        "--shared",
        type=int,
        metavar="ROUNDS",
        help="instead: eight machines that share an engine, each kind of accident so often",
    )
    arguments = parser.parse_args()
    if arguments.minutes <= 0:
        parser.error("--minutes must be above 0")
    seed = random.randrange(1 << 30) if arguments.seed is None else arguments.seed
    if arguments.shared is not None:
        return _report(soak_shared(arguments.shared, seed))
    print(f"seed {seed}, {arguments.minutes:g} minutes", flush=True)
    with tempfile.TemporaryDirectory(prefix="cambfs-soak-") as directory:
        outcome = soak(Path(directory), arguments.minutes * 60, seed)
    print(text(outcome))
    return _report(outcome.faults_of_ours())


def _report(wrong: list[str]) -> int:
    print("\n".join(["", *wrong[:50]]) if wrong else "nothing is wrong")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
