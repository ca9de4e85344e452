"""What growth costs a request: `python -m bench.growth`, some four minutes, everything on the loopback.

The same product over two databases of one durable PostgreSQL: a small one, and one with ten million usage records,
100,000 keys and 10,000 organizations (`bench.growth_rows`). In interleaved rounds, each as a ratio within its round:

- a request with one key, as a busy customer sends it;
- a request with keys that the worker knows, in turn;
- the first request of a key, which the worker must look up;
- settling what those requests left, by record of one organization and by organization;

and once: a cold start, the memory of a worker that knows many keys, and how soon a revoked key is refused.
"""

import argparse
import http.client
import json
import statistics
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg

from bench import growth_rows
from bench.figures import median_ratio, medians
from bench.growth_rows import Size
from bench.load import BODIES
from bench.targets import CREDIT_NANOS, Target, attempt, cpu_s, listens, measure, memory_mb, say, stores_of
from config.tests.processes import HOST, Clerk, Installation, Service, wait_for
from sandbox.processes import free_port

ROUNDS = 3
SECONDS = 1.5
NEW_A_ROUND = 1_000
KNOWN = 200
SECRETS = KNOWN + ROUNDS * NEW_A_ROUND
SMALL = Size(rows=10_000, keys=5_000, organizations=1_000)
REVOKED = 10


@dataclass
class Site:
    """One of the databases with a worker, and a clerk who settles."""

    name: str
    target: Target
    clerk: Clerk
    url: str
    secrets: list[str]
    folder: Path
    cold_s: float
    runs: dict[str, list[dict[str, float]]] = field(default_factory=dict)

    def keys(self, begin: int, count: int) -> Path:
        """A file of some of the keys."""
        path = self.folder / f"keys-{self.name}-{begin}-{count}"
        path.write_text("\n".join(self.secrets[begin : begin + count]))
        return path

    def note(self, what: str, figures: dict[str, float]) -> None:
        self.runs.setdefault(what, []).append(figures)


def run(size: Size) -> dict[str, Any]:
    environment = {"DEFAULT_RPM": "0", "API_KEY_PEPPER": growth_rows.PEPPER}
    with Installation(durable=True, settings=environment) as home, _sites(home, size) as (small, grown):
        stores = stores_of(home)
        for site in (small, grown):
            attempt(site.target, "json", seconds=0.5)
            _see(site, 0, KNOWN)
            site.clerk.settle()
        for number in range(ROUNDS):
            for site in (small, grown):
                _round(site, number, stores)
        found = {
            "size": vars(size),
            "small_size": vars(SMALL),
            "figures": {
                site.name: {what: medians(runs) for what, runs in site.runs.items()} for site in (small, grown)
            },
            "ratios": {
                what: {name: _ratio(small, grown, what, name) for name in runs[0]} for what, runs in grown.runs.items()
            },
            "cold_start_s": {site.name: site.cold_s for site in (small, grown)},
            "memory": _memory(grown),
            "refused_after_ms": {site.name: _refused_after_ms(site) for site in (small, grown)},
        }
        say("")
        return found


def _ratio(small: Site, grown: Site, what: str, name: str) -> float:
    pairs = [(g[name], s[name]) for g, s in zip(grown.runs[what], small.runs[what], strict=True) if s[name]]
    return median_ratio(pairs) if pairs else 0.0


def _round(site: Site, number: int, stores: tuple[int, ...]) -> None:
    say(f"growth, round {number + 1}: {site.name}")
    one = measure(site.target, "json", seconds=SECONDS, stores=stores)
    records, _, settling = _settle(site, stores)
    known = measure(site.target, "json", seconds=SECONDS, stores=stores, keys=site.keys(0, KNOWN))
    before = cpu_s(site.target.pid), cpu_s(*stores)
    count = _see(site, KNOWN + number * NEW_A_ROUND, NEW_A_ROUND)
    first = {
        "cpu_ms": (cpu_s(site.target.pid) - before[0]) * 1000 / count,
        "stores_cpu_ms": (cpu_s(*stores) - before[1]) * 1000 / count,
    }
    for what, figures in (("one key", one), ("known keys", known)):
        site.note(what, {name: figures[name] for name in ("cpu_ms", "stores_cpu_ms", "requests_per_s")})
    site.note("a key's first request", first)
    _, organizations, settling_many = _settle(site, stores)
    site.note("settling a record", {"cpu_ms": settling / records})
    site.note("settling an organization", {"cpu_ms": settling_many / organizations})


def _settle(site: Site, stores: tuple[int, ...]) -> tuple[int, int, float]:
    """Settle what waits: how many records of how many accounts, and the CPU milliseconds of clerk and stores."""
    with psycopg.connect(site.url) as database:
        waiting = "SELECT count(*), count(DISTINCT account_id) FROM billing_usagerecord WHERE settled_at IS NULL"
        found = database.execute(waiting).fetchone()
    assert found is not None
    before = cpu_s(site.clerk.pid, *stores)
    site.clerk.settle()
    return found[0], found[1], (cpu_s(site.clerk.pid, *stores) - before) * 1000


def _see(site: Site, begin: int, count: int) -> int:
    """One request with each of some keys; how many."""
    count = min(count, len(site.secrets) - begin)
    rate = 100_000.0  # all are due at once, and each connection takes the next
    return int(attempt(site.target, "json", seconds=count / rate, rate=rate, keys=site.keys(begin, count))["requests"])


def _memory(site: Site) -> dict[str, float]:
    """The worker's memory after the start and with every key that was used; what a key takes."""
    now = memory_mb(site.target.pid)
    return {"keys": len(site.secrets), "mb": now}


def _refused_after_ms(site: Site) -> float:
    """The median time from the commit of a revocation until the worker refuses the key."""
    times = []
    with psycopg.connect(site.url, autocommit=True) as database:
        for number in range(REVOKED):
            secret = site.secrets[number]
            revoke = "UPDATE accounts_apikey SET revoked_at = now() WHERE id = %s"
            database.execute(revoke, [growth_rows.FIRST + number])
            started = time.perf_counter()
            wait_for(lambda s=secret: _status(site.target, s) == 401, timeout_s=30, what="refusal", every_s=0.002)
            times.append((time.perf_counter() - started) * 1000)
    return statistics.median(times)


def _status(target: Target, secret: str) -> int:
    with closing(http.client.HTTPConnection(HOST, target.port, timeout=20)) as connection:
        headers = {"authorization": f"Bearer {secret}", "content-type": "application/json"}
        connection.request("POST", "/v1/chat/completions", json.dumps(BODIES["json"]), headers)
        return connection.getresponse().status


# ---------------------------------------------------------------- the two databases
@contextmanager
def _sites(home: Installation, size: Size) -> Iterator[tuple[Site, Site]]:
    upstream = _upstream(home)
    log = home.home / "growth.log"
    with closing(Clerk(home.environment(DB_POOL_SIZE="0"), log)) as clerk:
        base = f"http://{HOST}:{upstream.port}/v1"
        prices = {"input": 150, "output": 600}
        clerk.model(name="bench", base_url=base, upstream_name="bench-upstream", prices=prices)
        secret = clerk.organization(name="bench", credit_nanos=CREDIT_NANOS * 100)["secret"]
    with psycopg.connect(home.postgres.superuser_url(), autocommit=True) as database:
        database.execute("CREATE DATABASE grown TEMPLATE tuppence OWNER tuppence")
    made = []
    for name, one, number in (("tuppence", SMALL, 1), ("grown", size, 2)):
        say(f"writing {one.rows:,} usage records, {one.keys:,} keys, {one.organizations:,} organizations")
        secrets = growth_rows.fill(home.postgres.superuser_url(name), one, known=SECRETS)
        made.append(_site(home, name, number, secret, secrets))
    try:
        yield made[0], made[1]
    finally:
        for site in made:
            site.clerk.close()


def _upstream(home: Installation) -> Service:
    port = free_port()
    argv = [sys.executable, "-m", "bench.upstream", "--port", str(port)]
    return home.service("upstream", argv, is_ready=listens(port), port=port)


def _site(home: Installation, name: str, number: int, secret: str, secrets: list[str]) -> Site:
    stores = {"DATABASE_URL": home.postgres.url(name), "REDIS_URL": f"{home.redis_url.rpartition('/')[0]}/{number}"}
    started = time.perf_counter()
    web = home.web(workers=1, LOG_LEVEL="warning", **stores)
    target = Target(name, web.port, web.pid, secret)
    attempt(target, "json", seconds=0, connections=1)
    cold_s = time.perf_counter() - started
    clerk = Clerk(home.environment(DB_POOL_SIZE="0", LOG_LEVEL="error", **stores), home.home / f"clerk-{name}.log")
    url = home.postgres.superuser_url(name)
    return Site("small" if number == 1 else "grown", target, clerk, url, secrets, home.home, cold_s)


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--rows", type=int, default=10_000_000, help="usage records of the grown installation")
    parser.add_argument("--keys", type=int, default=100_000)
    parser.add_argument("--organizations", type=int, default=10_000)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.growth", description="Measure what growth costs.")
    add_options(parser)
    options = parser.parse_args()
    print(json.dumps(run(Size(options.rows, options.keys, options.organizations)), indent=2))


if __name__ == "__main__":
    main()
