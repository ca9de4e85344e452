"""`make chaos`: the storm and the scenarios, one after the other; exit code 1 if anything was wrong.

`CHAOS_SEED=…` draws the same strikes and the same requests again, `CHAOS_MINUTES=…` sets the length of the storm.
"""

import argparse
import json
import os
import random
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from chaos import rounds
from chaos.ground import Ground
from chaos.scenarios import SCENARIOS
from chaos.strikes import STRIKES, Strike
from config.tests.processes import Installation
from config.tests.scripted import Upstream
from sandbox.processes import keep_bytecode
from sandbox.pytest_plugin import MIGRATED

STORM = "storm"


def main() -> int:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    names = [STORM, *SCENARIOS]
    parser = argparse.ArgumentParser(prog="chaos", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="part", help=f"of {', '.join(names)}; all without any")
    parser.add_argument("--seed", type=int, default=int(os.environ.get("CHAOS_SEED") or random.randrange(10**6)))
    parser.add_argument("--minutes", type=float, default=float(os.environ.get("CHAOS_MINUTES") or 10))
    parser.add_argument("--only", default="", metavar="words", help="in the storm, only strikes with these words")
    options = parser.parse_args()
    if unknown := set(options.parts) - set(names):
        parser.error(f"there is no {', '.join(sorted(unknown))}")
    strikes = [one for one in STRIKES if options.only in one.name]
    if not strikes:
        parser.error(f"no strike is called so; there are {', '.join(one.name for one in STRIKES)}")
    say(f"CHAOS_SEED={options.seed} CHAOS_MINUTES={options.minutes:g}")
    scenarios: dict[str, rounds.Scenario] = {STORM: partial(_storm, options.minutes, strikes), **SCENARIOS}
    with tempfile.TemporaryDirectory(prefix="tuppence-chaos-", ignore_cleanup_errors=True) as kept:
        Path(kept).chmod(0o711)  # PostgreSQL may have to run as `nobody`
        keep_bytecode(os.environ, Path(kept) / "bytecode")
        os.environ[MIGRATED] = str(Path(kept) / "migrated")
        verdicts = [run(name, scenarios[name], options.seed) for name in options.parts or names]
    print()
    for verdict in verdicts:
        print(verdict)
    is_right = not any(": WRONG" in verdict for verdict in verdicts)
    print(f"{'Nothing was lost, nothing was charged twice.' if is_right else 'WRONG.'} CHAOS_SEED={options.seed}")
    return 0 if is_right else 1


def say(words: str, began: float = time.monotonic()) -> None:
    print(f"[{time.monotonic() - began:6.1f} s] {words}", flush=True)


def run(name: str, scenario: rounds.Scenario, seed: int) -> str:
    """One part, on an installation of its own; its verdict."""
    say(f"{name}: PostgreSQL, Redis and the product start")
    try:
        wrong, figures = scenario(seed, say)
    except rounds.Skipped as reason:
        return f"{name}: left out, {reason}"
    except Exception as error:
        traceback.print_exc()
        return f"{name}: WRONG, it broke off: {type(error).__name__}: {error}"
    for one in wrong[:20]:
        say(f"WRONG: {one}")
    say(f"{name}: {json.dumps(figures)}")
    return f"{name}: {f'WRONG, {len(wrong)} violations' if wrong else 'right'}"


def _storm(minutes: float, strikes: Sequence[Strike], seed: int, tell: rounds.Say) -> rounds.Outcome:
    # As operators run it, holds do not wait for the disk and may vanish with PostgreSQL; odd seeds try the other way.
    settings = {"HOLDS_WAIT_FOR_DISK": "1"} if seed % 2 else {}
    tell(f"storm: {'holds wait for the disk' if settings else 'holds do not wait for the disk, the default'}")
    with Installation() as site, Upstream() as upstream, Ground(site, upstream, settings) as ground:
        return rounds.storm(ground, seed=seed, seconds=minutes * 60, say=tell, strikes=strikes)


if __name__ == "__main__":
    sys.exit(main())
