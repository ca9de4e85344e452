"""Clocks jump: one web worker's clock goes days ahead and back under load. No money decision may ask it.

Done by Debian's libfaketime, which must be there (`apt install faketime`). Monotonic time goes on, as it does then;
time.sleep fails under it, which a web worker does not call.
"""

import email.utils
import os
import random
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx

from chaos import proof, rounds
from chaos.ground import Ground
from config.tests.processes import Installation, Service, wait_for
from config.tests.scripted import Upstream

LIBRARY = "libfaketime.so.1"
PLACES = [Path("/usr/lib"), Path("/usr/local/lib")]
JUMPS = {"+1d": 86_400, "-1d": -86_400, "+40d": 40 * 86_400, "-40d": -40 * 86_400, "+1h": 3_600, "-10m": -600}
# The server renews the date of its answers once a second, on a busy machine later.
TOLERANCE_S = 60


def run(seed: int, say: rounds.Say) -> rounds.Outcome:
    library = find_library()
    chance = random.Random(seed)
    jumps = chance.sample(sorted(JUMPS), len(JUMPS))
    with Installation() as site, Upstream() as upstream, Ground(site, upstream) as ground:
        clock = site.home / "clock"
        clock.write_text("+0")
        strange = ground.new_web(
            LD_PRELOAD=str(library),
            FAKETIME_TIMESTAMP_FILE=str(clock),
            FAKETIME_CACHE_DURATION="1",
            FAKETIME_DONT_FAKE_MONOTONIC="1",
        )
        ground.webs.pop().stop()
        ground.webs.append(strange)
        began = datetime.now(UTC)
        with rounds.load_on(ground, seed) as load:
            load.wait_for_answers(rounds.ANSWERS_AGAIN)
            for jump in [*jumps, "+0"]:
                clock.write_text(jump)
                wait_for(lambda: _is_off(strange, JUMPS.get(jump, 0)), timeout_s=90, what=f"the clock shows {jump}")  # noqa: B023
                load.wait_for_answers(40)
                say(f"one web worker's clock shows {jump}; {len(load.asked)} requests so far")
            wrong = proof.promptly(ground, load, 0) + proof.reconciled(ground)
        wrong += _dates(site, began)
        return rounds.judge(ground, load, say, wrong)


def find_library() -> Path:
    """libfaketime; `Skipped` where there is none. `FAKETIME_LIBRARY` names one elsewhere."""
    if named := os.environ.get("FAKETIME_LIBRARY"):
        return Path(named)
    for place in PLACES:
        for found in place.rglob(f"faketime/{LIBRARY}"):
            return found
    raise rounds.Skipped("there is no libfaketime here: `apt install faketime`, or name it in FAKETIME_LIBRARY")


def _is_off(web: Service, wanted_s: int) -> bool:
    """Whether the worker's own clock has jumped: the server writes the date into its answers."""
    try:
        told = httpx.get(f"{web.url}/health", timeout=10).headers["date"]
    except httpx.HTTPError:
        return False
    return abs(email.utils.parsedate_to_datetime(told).timestamp() - time.time() - wanted_s) < TOLERANCE_S


def _dates(site: Installation, began: datetime) -> list[str]:
    """When a request was charged is what PostgreSQL's clock said."""
    first, last = began - timedelta(minutes=1), datetime.now(UTC) + timedelta(minutes=1)
    odd = site.query(
        "select count(*) as n from billing_usagerecord where created_at not between %s and %s", first, last
    )[0]["n"]
    return [f"{odd} usage records were dated by the clock that jumped"] if odd else []
