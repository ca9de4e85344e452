"""The benchmark of the gateway: `make bench`, about 2 minutes, everything on the loopback.

In one run and in interleaved rounds, against the same upstream and from the same load generator, 32 connections:

- `ours`: one worker of `config.asgi:application`, all metering on (key, route, price, hold and capture as two durable
  commits each in an embedded PostgreSQL with fsync);
- `bare`: uvicorn + bare ASGI + aiohttp passing the same bytes through (`bench/bare.py`);
- `nginx`: `proxy_pass` with kept-alive upstream connections, where nginx is installed.

CPU is what the kernel charged to the target's processes (utime + stime of /proc/<pid>/stat); PostgreSQL's is apart.
Figures are medians of the rounds; ratios are taken within a round. Wall-clock figures of a shared machine vary up
to 2x.
"""

import argparse
import contextlib
import json
import os
import platform
import shutil
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from config.tests.processes import HOST, Installation, Service, processes_below
from sandbox.processes import free_port

RESULTS = Path(__file__).parent / "results"
TICK_S = 1 / os.sysconf("SC_CLK_TCK")
KINDS = ("json", "burst", "paced", "responses", "embeddings", "multipart")
REPEATED = KINDS[:2]  # measured in each round; the others in the first
CONNECTIONS = 32
SLOW_STREAMS = 1_000
MINUTES = {"units": {"minute": "0.006"}}
CREDIT_NANOS = 1_000_000 * 10_000_000
NGINX = """
daemon off; pid {home}/nginx.pid; error_log {home}/nginx.err warn; worker_processes 1;
events {{ worker_connections 2048; }}
http {{
  access_log off; client_body_temp_path {home}/b; proxy_temp_path {home}/p; fastcgi_temp_path {home}/f;
  uwsgi_temp_path {home}/u; scgi_temp_path {home}/s; keepalive_requests 100000000;
  upstream bench {{ server 127.0.0.1:{upstream}; keepalive 256; keepalive_requests 100000000; }}
  server {{ listen 127.0.0.1:{port}; location / {{
    proxy_pass http://bench; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_buffering off; }} }}
}}
"""


@dataclass(frozen=True)
class Target:
    name: str
    port: int
    pid: int
    key: str = "none"


def cpu_s(pid: int) -> float:
    """User and system seconds of a process, its living descendants and those that it has waited for."""
    total = 0
    for one in processes_below(pid):
        with contextlib.suppress(OSError):
            fields = Path(f"/proc/{one}/stat").read_text().rpartition(")")[2].split()
            total += sum(int(fields[index]) for index in (11, 12, 13, 14))
    return total * TICK_S


def listens(port: int) -> Callable[[], bool]:
    def is_ready() -> bool:
        with socket.socket() as probe:
            return probe.connect_ex((HOST, port)) == 0

    return is_ready


def peak_memory_mb(pid: int) -> float:
    """The most resident memory that the process ever had."""
    line = Path(f"/proc/{pid}/status").read_text().partition("VmHWM:")[2].split()[0]
    return int(line) / 1024


def load(
    target: Target, kind: str, *, seconds: float, rate: float = 0.0, connections: int = CONNECTIONS
) -> dict[str, Any]:
    """One run of the load generator; raises SystemExit when an answer was not what it must be."""
    argv = [sys.executable, "-m", "bench.load", "--port", str(target.port), "--kind", kind, "--key", target.key]
    argv += ["--seconds", str(seconds), "--rate", str(rate), "--connections", str(connections)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=seconds + 60)
    if done.returncode != 0:
        raise SystemExit(f"bench.load against {target.name} failed: {done.stderr[-2000:]}")
    report: dict[str, Any] = json.loads(done.stdout)
    if report["bad"] or not report["requests"]:
        raise SystemExit(f"{target.name}, {kind}: {report['bad']} bad answers, the first: {report['first_bad']}")
    return report


def measure(target: Target, kind: str, *, seconds: float, postgres: int, rate: float = 0.0) -> dict[str, float]:
    """One run with the CPU that it cost."""
    own, database = cpu_s(target.pid), cpu_s(postgres)
    report = load(target, kind, seconds=seconds, rate=rate)
    time.sleep(0.05)
    requests = report["requests"]
    return {
        "requests_per_s": requests / report["seconds"],
        "cpu_ms": (cpu_s(target.pid) - own) * 1000 / requests,
        "postgres_cpu_ms": (cpu_s(postgres) - database) * 1000 / requests,
        "p50_ms": report["p50_ms"],
        "p99_ms": report["p99_ms"],
    }


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
    if nginx := shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin"):
        port = free_port()
        configuration = site.home / "nginx.conf"
        configuration.write_text(NGINX.format(home=site.home, upstream=upstream, port=port))
        argv = [nginx, "-c", str(configuration), "-e", str(site.home / "nginx.start")]
        service = site.service("nginx", argv, is_ready=listens(port), port=port)
        found.append(Target("nginx", port, service.pid))
    yield found, Target("upstream", upstream, upstream_service.pid)


def medians(runs: list[dict[str, float]]) -> dict[str, float]:
    return {name: statistics.median(run[name] for run in runs) for name in runs[0]}


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
                    result = measure(target, kind, seconds=options.seconds, postgres=postgres)
                    runs.setdefault((target.name, kind), []).append(result)
        quarter = medians(runs["ours", "json"])["requests_per_s"] / 4
        open_loop: dict[str, list[dict[str, float]]] = {}
        for _ in range(2):
            for target in (upstream, *measured):
                say(f"open loop at {quarter:.0f}/s: {target.name}")
                result = measure(target, "json", seconds=options.seconds, postgres=postgres, rate=quarter)
                open_loop.setdefault(target.name, []).append(result)
        say(f"{SLOW_STREAMS} slow streams at once")
        slow = load(measured[0], "slow", seconds=0, connections=SLOW_STREAMS)
        memory = peak_memory_mb(measured[0].pid)
        books = site.clerk.reconcile()
    summary = {f"{name} {kind}": medians(results) for (name, kind), results in runs.items()}
    latency = {name: medians(results) for name, results in open_loop.items()}
    return {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": {"cpus": os.cpu_count(), "platform": platform.platform(), "python": platform.python_version()},
        "connections": CONNECTIONS,
        "rounds": options.rounds,
        "seconds": options.seconds,
        "results": summary,
        "ratios": ratios(runs, [target.name for target in measured[1:]]),
        "open_loop": {
            "rate": quarter,
            "latency": latency,
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
                "cpu": statistics.median(ours["cpu_ms"] / max(theirs["cpu_ms"], 1e-6) for ours, theirs in pairs),
                "throughput": statistics.median(ours["requests_per_s"] / t["requests_per_s"] for ours, t in pairs),
            }
    return found


def say(text: str) -> None:
    print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)


def show(report: dict[str, Any]) -> None:
    columns = f"{'':<20}{'requests/s':>12}{'CPU ms':>10}{'PG CPU ms':>11}{'p50 ms':>10}{'p99 ms':>10}"
    cpus, rounds = report["machine"]["cpus"], report["rounds"]
    print(f"\n{report['connections']} connections, {cpus} CPUs, medians of {rounds} rounds\n")
    print(columns)
    for kind in KINDS:
        for name, row in report["results"].items():
            if name.endswith(kind):
                pg = f"{row['postgres_cpu_ms']:>11.3f}" if name.startswith("ours") else f"{'':>11}"
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
    slow = report["slow_streams"]
    print(
        f"\n{slow['streams']:,} slow streams at once, all finished, in {slow['seconds']:.1f} s: "
        f"peak memory of the worker {slow['peak_memory_mb']:.0f} MB"
    )
    print(f"\nbooks after it: {'clean' if not report['drift'] else report['drift']}")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench", description="Measure the gateway's own overhead.")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=2.0, help="of each measurement")
    parser.add_argument("--out", type=Path, default=None, help="where the JSON goes (default: bench/results/)")
    options = parser.parse_args()
    report = run(options)
    show(report)
    out = options.out or RESULTS / f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}.json"
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(report, indent=2) + "\n")
    print(f"written to {out}")
    if report["drift"]:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
