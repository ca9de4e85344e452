"""What one busy organization costs: `python -m bench.hot`, under a minute, everything on the loopback.

Every hold and charge of an organization changes its account's row, which one commit at a time may do. One, two and four
workers take the same load twice, in interleaved rounds: all of it for one organization, and spread over 64.
"""

import argparse
import json
import sys
from typing import Any

from bench import growth_rows
from bench.figures import median_ratio, medians
from bench.growth_rows import Size
from bench.targets import Target, attempt, listens, measure, say, stores_of
from config.tests.processes import HOST, Installation
from sandbox.processes import free_port

WORKERS = (1, 2, 4)
ROUNDS = 3
ORGANIZATIONS = 64
CONNECTIONS = 64
RATE = 200.0


def run(seconds: float = 1.5) -> dict[str, Any]:
    environment = {"DEFAULT_RPM": "0", "API_KEY_PEPPER": growth_rows.PEPPER}
    with Installation(durable=True, settings=environment) as site:
        port = free_port()
        argv = [sys.executable, "-m", "bench.upstream", "--port", str(port)]
        site.service("upstream", argv, is_ready=listens(port), port=port)
        base, prices = f"http://{HOST}:{port}/v1", {"input": 150, "output": 600}
        site.clerk.model(name="bench", base_url=base, upstream_name="bench-upstream", prices=prices)
        site.clerk.organization(name="bench")
        size = Size(rows=0, keys=ORGANIZATIONS, organizations=ORGANIZATIONS)
        secrets = growth_rows.fill(site.postgres.superuser_url("tuppence"), size, known=ORGANIZATIONS)
        found = {str(workers): _with(site, workers, secrets, seconds) for workers in WORKERS}
        drift = site.clerk.reconcile()["drift"]
    say("")
    return {"organizations": ORGANIZATIONS, "rate": RATE, "connections": CONNECTIONS, "workers": found, "drift": drift}


def _with(site: Installation, workers: int, secrets: list[str], seconds: float) -> dict[str, Any]:
    stores = stores_of(site)
    files = {"one": site.home / "one", "spread": site.home / "spread"}
    files["one"].write_text(secrets[0])
    files["spread"].write_text("\n".join(secrets))
    web = site.web(workers=workers, LOG_LEVEL="warning")
    target = Target(f"{workers} workers", web.port, web.pid)
    attempt(target, "json", seconds=0.5, keys=files["spread"])
    runs: dict[str, list[dict[str, float]]] = {"one": [], "spread": []}
    for number in range(ROUNDS):
        for name, keys in files.items():
            say(f"hot organization, round {number + 1}: {workers} workers, {name}")
            options: dict[str, Any] = {"seconds": seconds, "connections": CONNECTIONS, "keys": keys, "stores": stores}
            closed = measure(target, "json", **options)
            timed = measure(target, "json", rate=RATE, **options)
            kept = {name: closed[name] for name in ("requests_per_s", "cpu_ms", "stores_cpu_ms")}
            runs[name].append(kept | {name: timed[name] for name in ("p50_ms", "p99_ms", "late")})
    web.stop()
    pairs = list(zip(runs["one"], runs["spread"], strict=True))
    compared = ("requests_per_s", "cpu_ms", "stores_cpu_ms", "p50_ms")
    return {
        "figures": {name: medians(ones) for name, ones in runs.items()},
        "ratios": {name: median_ratio((one[name], other[name]) for one, other in pairs) for name in compared},
    }


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.hot", description="Measure one busy organization.")
    parser.add_argument("--seconds", type=float, default=1.5, help="of each measurement")
    report = run(parser.parse_args().seconds)
    print(json.dumps(report, indent=2))
    if report["drift"]:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
