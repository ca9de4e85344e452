"""The benchmark of the gateway: `make bench`, about 2 minutes, everything on the loopback.

In one run and in interleaved rounds, against the same upstream and from the same load generator, 32 connections:

- `ours`: one worker of `config.asgi:application`, all metering on (key, route, price, hold and capture as two durable
  commits each in an embedded PostgreSQL with fsync);
- `bare`: uvicorn + bare ASGI + aiohttp passing the same bytes through (`bench/bare.py`);
- `nginx`: `proxy_pass` with kept-alive upstream connections, where nginx is installed.

CPU is what the kernel charged to the target's processes; PostgreSQL's is apart.
Figures are medians of the rounds; ratios are taken within a round. Wall-clock figures of a shared machine vary up
to 2x.
"""

import argparse
import contextlib
import json
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench.figures import median_ratio, medians
from bench.peers import Missing, Upstreams, start_nginx
from bench.targets import (
    CONNECTIONS,
    CREDIT_NANOS,
    Failed,
    Target,
    listens,
    load,
    machine,
    measure,
    peak_memory_mb,
    say,
)
from config.tests.processes import HOST, Installation, Service
from sandbox.processes import free_port

RESULTS = Path(__file__).parent / "results"
KINDS = ("json", "burst", "paced", "responses", "embeddings", "multipart")
REPEATED = KINDS[:2]  # measured in each round; the others in the first
SLOW_STREAMS = 1_000
MINUTES = {"units": {"minute": "0.006"}}


@contextlib.contextmanager
def targets(site: Installation) -> Iterator[tuple[list[Target], Target]]:
    """The running targets, ours first, and the upstream itself."""
    upstream = free_port()

    def python(name: str, *argv: str, port: int, **environment: str) -> Service:
        return site.service(name, [sys.executable, "-m", *argv], is_ready=listens(port), port=port, **environment)

    upstream_service = python("upstream", "bench.upstream", "--port", str(upstream), port=upstream)
    base = f"http://{HOST}:{upstream}"
    organization = site.clerk.organization(name="bench", credit_nanos=CREDIT_NANOS)
    site.clerk.model(
        name="bench", base_url=f"{base}/v1", upstream_name="bench-upstream", prices={"input": 150, "output": 600}
    )
    site.clerk.model(name="bench-audio", base_url=f"{base}/v1", upstream_name="bench-upstream", rates=MINUTES)
    web = site.web(workers=1, LOG_LEVEL="warning")
    port = free_port()
    uvicorn = ("uvicorn", "bench.bare:application", "--host", HOST, "--port", str(port), "--no-access-log")
    bare = python("bare", *uvicorn, "--no-proxy-headers", "--log-level", "warning", port=port, BENCH_UPSTREAM=base)
    found = [
        Target("ours", web.port, web.pid, organization["secret"]),
        Target("bare", bare.port, bare.pid),
    ]
    with contextlib.suppress(Missing):
        found.append(start_nginx(site, Upstreams(upstream, upstream), fetch=False))
    yield found, Target("upstream", upstream, upstream_service.pid)


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Measure and return the report."""
    with Installation(durable=True, settings={"DEFAULT_RPM": "0"}) as site, targets(site) as (measured, upstream):
        assert site.postgres.process is not None
        postgres = site.postgres.process.pid
        runs: dict[tuple[str, str], list[dict[str, float]]] = {}
        for target in measured:
            for kind in REPEATED:
                load(target, kind, seconds=0.7)
        for number in range(options.rounds):
            for kind in KINDS if number == 0 else REPEATED:
                for target in measured:
                    say(f"round {number + 1}: {target.name} {kind}")
                    result = measure(target, kind, seconds=options.seconds, stores=(postgres,))
                    runs.setdefault((target.name, kind), []).append(result)
        quarter = medians(runs["ours", "json"])["requests_per_s"] / 4
        open_loop: dict[str, list[dict[str, float]]] = {}
        for _ in range(3):
            for target in (upstream, *measured):
                say(f"open loop at {quarter:.0f}/s: {target.name}")
                result = measure(target, "json", seconds=options.seconds, stores=(postgres,), rate=quarter)
                open_loop.setdefault(target.name, []).append(result)
        say(f"{SLOW_STREAMS} slow streams at once")
        slow = load(measured[0], "slow", seconds=0, connections=SLOW_STREAMS)
        memory = peak_memory_mb(measured[0].pid)
        books = site.clerk.reconcile()
    summary = {f"{name} {kind}": medians(results) for (name, kind), results in runs.items()}
    latency = {name: medians(results) for name, results in open_loop.items()}
    return {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine(),
        "connections": CONNECTIONS,
        "rounds": options.rounds,
        "seconds": options.seconds,
        "results": summary,
        "ratios": ratios(runs, [target.name for target in measured[1:]]),
        "open_loop": {
            "rate": quarter,
            "latency": latency,
            "cpu_ratios": {
                name: median_ratio(
                    (mine["cpu_ms"], its["cpu_ms"]) for mine, its in zip(open_loop["ours"], found, strict=True)
                )
                for name, found in open_loop.items()
                if name not in {"upstream", "ours"}
            },
            "added_ms": {
                name: {q: latency[name][q] - latency["upstream"][q] for q in ("p50_ms", "p99_ms")}
                for name in latency
                if name != "upstream"
            },
        },
        "slow_streams": {"streams": slow["requests"], "seconds": slow["seconds"], "peak_memory_mb": memory},
        "drift": books["drift"],
    }


def ratios(runs: dict[tuple[str, str], list[dict[str, float]]], others: list[str]) -> dict[str, dict[str, float]]:
    """Ours against each other target: CPU as a multiple of theirs, throughput as a share of theirs."""
    found: dict[str, dict[str, float]] = {}
    for other in others:
        for kind in KINDS:
            pairs = list(zip(runs["ours", kind], runs[other, kind], strict=True))
            found[f"{other} {kind}"] = {
                "cpu": median_ratio((one["cpu_ms"], other["cpu_ms"]) for one, other in pairs),
                "throughput": median_ratio((one["requests_per_s"], other["requests_per_s"]) for one, other in pairs),
            }
    return found


def show(report: dict[str, Any]) -> None:
    columns = f"{'':<20}{'requests/s':>12}{'CPU ms':>10}{'PG CPU ms':>11}{'p50 ms':>10}{'p99 ms':>10}"
    cpus, rounds = report["machine"]["cpus"], report["rounds"]
    print(f"\n{report['connections']} connections, {cpus} CPUs, medians of {rounds} rounds\n")
    print(columns)
    for kind in KINDS:
        for name, row in report["results"].items():
            if name.endswith(kind):
                pg = f"{row['stores_cpu_ms']:>11.3f}" if name.startswith("ours") else f"{'':>11}"
                print(
                    f"{name:<20}{row['requests_per_s']:>12,.0f}{row['cpu_ms']:>10.3f}{pg}"
                    f"{row['p50_ms']:>10.2f}{row['p99_ms']:>10.2f}"
                )
    print("\nours as a multiple")
    for name, row in report["ratios"].items():
        print(f"  of {name:<17}{row['cpu']:>8.2f} x CPU{row['throughput']:>10.2f} x throughput")
    added = report["open_loop"]["added_ms"]
    print(f"\nadded latency at a quarter of capacity ({report['open_loop']['rate']:.0f} requests/s)")
    for name, row in added.items():
        print(f"  {name:<13}p50 {row['p50_ms']:>7.2f} ms   p99 {row['p99_ms']:>7.2f} ms")
    print("\nours as a multiple at that rate")
    for name, ratio in report["open_loop"]["cpu_ratios"].items():
        print(f"  of {name:<17}{ratio:>8.2f} x CPU")
    slow = report["slow_streams"]
    print(
        f"\n{slow['streams']:,} of {SLOW_STREAMS:,} slow streams at once finished, in {slow['seconds']:.1f} s: "
        f"peak memory of the worker {slow['peak_memory_mb']:.0f} MB"
    )
    print(f"\nbooks after it: {'clean' if not report['drift'] else report['drift']}")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench", description="Measure the gateway's own overhead.")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=2.0, help="of each measurement")
    parser.add_argument("--out", type=Path, default=None, help="where the JSON goes (default: bench/results/)")
    options = parser.parse_args()
    try:
        report = run(options)
    except Failed as error:
        raise SystemExit(str(error)) from None
    show(report)
    out = options.out or RESULTS / f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}.json"
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(report, indent=2) + "\n")
    print(f"written to {out}")
    if report["drift"]:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
