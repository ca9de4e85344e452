"""What settling many organizations costs that have few requests each: `python -m bench.settle_many`, some minutes.

Ten thousand organizations with three usage records each are settled again and again, in interleaved rounds: one in a
commit, as many as a commit takes, and by two processes side by side. Meanwhile requests at a fixed rate hold and charge
credit of the same organizations through a teller, and so they do in a round in which nothing is settled.
"""

import argparse
import asyncio
import json
import random
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from typing import Any
from uuid import UUID

import psycopg
from uuid_utils import uuid7

from bench import growth_rows
from bench.figures import due_s, medians, quantile
from bench.growth_rows import FIRST, Size
from bench.targets import cpu_s, say, stores_of
from billing.teller import Capture, HoldRequest, Teller
from config.tests.processes import Clerk, Installation

ROUNDS = 3
RECORDS = 3
RATE = 100.0
QUIET_S = 5.0
NOTHING, ONE, MANY, TWICE = "nothing is settled", "one in a commit", "many in a commit", "many, two processes"
_ROWS = f"""
INSERT INTO billing_usagerecord (request_id, account_id, organization_id, key_id, cost_nanos, upstream_cost_nanos,
    input_tokens, output_tokens, created_at, status_code, latency_ms, model, endpoint, outcome, end_user)
SELECT (lpad(to_hex((extract(epoch FROM clock_timestamp()) * 1000)::bigint), 12, '0') || '7'
        || substr(md5(random()::text), 1, 3) || '8' || substr(md5(n || random()::text), 1, 15))::uuid,
    {FIRST} + n %% %(organizations)s, {FIRST} + n %% %(organizations)s, {FIRST} + n %% %(organizations)s,
    1000 + n %% 5000, 500, 100 + n %% 900, 50 + n %% 400, now(), 200, 400, 'bench', '/v1/chat/completions',
    'completed', ''
FROM generate_series(0, %(organizations)s * {RECORDS} - 1) n
"""
_OWED = """
UPDATE billing_account a SET unsettled = s.cost FROM (
    SELECT account_id, sum(cost_nanos) AS cost FROM billing_usagerecord WHERE settled_at IS NULL GROUP BY 1) s
WHERE s.account_id = a.id
"""


def run(organizations: int) -> dict[str, Any]:
    with Installation(durable=True, settings={"API_KEY_PEPPER": growth_rows.PEPPER}) as site:
        site.clerk.organization(name="bench")  # what the others are copies of
        say(f"writing {organizations:,} organizations")
        url = site.postgres.superuser_url("tuppence")
        growth_rows.fill(url, Size(rows=100_000, keys=organizations, organizations=organizations), known=0)
        environment = site.environment(DB_POOL_SIZE="0", LOG_LEVEL="error")
        runs: dict[str, list[dict[str, float]]] = {}
        with (
            closing(Clerk(environment, site.home / "second.log")) as second,
            psycopg.connect(url, autocommit=True) as db,
        ):
            for number in range(ROUNDS):
                for name in (NOTHING, ONE, MANY, TWICE):
                    say(f"settling many, round {number + 1}: {name}")
                    site.clerk.settle()
                    if name != NOTHING:
                        db.execute(_ROWS, {"organizations": organizations})
                        db.execute(_OWED)
                    db.execute("VACUUM ANALYZE billing_account")
                    db.execute("CHECKPOINT")
                    runs.setdefault(name, []).append(_round(site, name, second, organizations))
        say("")
        figures = {name: medians(each) for name, each in runs.items()}
    return {"organizations": organizations, "records": RECORDS, "rate": RATE, "figures": figures}


def _round(site: Installation, name: str, second: Clerk, organizations: int) -> dict[str, float]:
    clerks = {NOTHING: [], ONE: [site.clerk], MANY: [site.clerk], TWICE: [site.clerk, second]}[name]
    together = {"together": 1} if name == ONE else {}
    pids = [*stores_of(site), *(clerk.pid for clerk in clerks)]
    with _requests(site.postgres.url(), organizations) as waited:
        before, began = cpu_s(*pids), time.perf_counter()
        if not clerks:
            time.sleep(QUIET_S)
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(lambda clerk: clerk.settle(**together), clerks))
        seconds, cpu_ms = time.perf_counter() - began, (cpu_s(*pids) - before) * 1000
    found = {"seconds": seconds, "cpu_ms": cpu_ms / organizations}
    for what, times in waited.items():
        times.sort()
        found |= {f"{what}_{label}_ms": quantile(times, share) for label, share in (("p50", 0.5), ("p99", 0.99))}
        found[f"{what}_longest_ms"] = times[-1]
    return found


@contextmanager
def _requests(dsn: str, organizations: int) -> Iterator[dict[str, list[float]]]:
    """Requests of a gateway at a fixed rate: the milliseconds that their holds and charges took."""
    waited: dict[str, list[float]] = {"hold": [], "charge": []}
    ended = threading.Event()
    thread = threading.Thread(target=lambda: asyncio.run(_send(dsn, organizations, waited, ended)))
    thread.start()
    time.sleep(1)  # the teller plans its statements
    for times in waited.values():
        times.clear()
    try:
        yield waited
    finally:
        ended.set()
        thread.join()


async def _send(dsn: str, organizations: int, waited: dict[str, list[float]], ended: threading.Event) -> None:
    teller, dice = Teller(dsn), random.Random(1)
    await teller.start()
    tasks: list[asyncio.Task[None]] = []
    began = time.perf_counter()
    while not ended.is_set():
        await asyncio.sleep(max(0.0, due_s(len(tasks), RATE) - (time.perf_counter() - began)))
        tasks.append(asyncio.create_task(_request(teller, FIRST + dice.randrange(organizations), waited)))
    await asyncio.gather(*tasks)
    await teller.close()


async def _request(teller: Teller, number: int, waited: dict[str, list[float]]) -> None:
    """A hold and a charge; organization, account and key have the same number."""
    given: dict[str, Any] = {
        "request_id": UUID(bytes=uuid7().bytes),
        "account_id": number,
        "organization_id": number,
        "key_id": number,
        "model": "bench",
        "endpoint": "/v1/chat/completions",
    }
    began = time.perf_counter()
    await teller.hold(HoldRequest(**given, amount=9_000, tokens=0))
    held = time.perf_counter()
    waited["hold"].append((held - began) * 1000)
    await teller.capture(Capture(**given, cost=1_000, hold=9_000))
    waited["charge"].append((time.perf_counter() - held) * 1000)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.settle_many", description="Measure settling many accounts.")
    parser.add_argument("--organizations", type=int, default=10_000)
    print(json.dumps(run(parser.parse_args().organizations), indent=2))


if __name__ == "__main__":
    main()
