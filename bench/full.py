"""The full benchmark: `make bench-full`, some ten minutes, everything on the loopback.

Beside what `make bench` compares come peers (`bench.peers`), and what growth and one busy customer cost
(`bench.growth`). In one run and in interleaved rounds, against the same upstream and from the same load generator:

- throughput and CPU of JSON, a burst stream, a paced stream, embeddings and Realtime, as medians of the rounds; ratios
  are taken within a round; CPU is what the kernel charged to the target's process tree, the stores' apart;
- latency added to the upstream's own at fixed rates, open loop: counted from when a request was due; and CPU there,
  where every target bears the same load;
- memory of the process tree with 1,000 slow streams at once;
- a cold start: from the start of the process to the first whole answer, the better of two.

A peer that is missing, does not start or answers wrongly is in the report with the reason. The report is written as
JSON and as the Markdown of `docs/performance.md`.
"""

import argparse
import asyncio
import contextlib
import json
import os
import resource
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp

from bench import growth, growth_rows, hot, realtime, tables
from bench.figures import median_difference, median_ratio, medians
from bench.peers import NO_REALTIME, STARTERS, Missing, Upstreams
from bench.targets import (
    CREDIT_NANOS,
    Failed,
    Target,
    attempt,
    cpu_s,
    listens,
    machine,
    measure,
    memory_mb,
    say,
    stores_of,
    watched_memory_mb,
)
from config.tests.processes import HOST, Installation
from sandbox.processes import free_port

RESULTS = Path(__file__).parent / "results"
KINDS = ("json", "burst", "paced", "embeddings")
RATES = (("json", 25.0), ("json", 250.0), ("json", 1_000.0), ("burst", 10.0), ("burst", 250.0))
OPEN_ROUNDS = 3
OPEN_CONNECTIONS = 64
# Beyond this share of its own closed-loop throughput a target only queues: it is told as saturated.
SATURATED = 0.8
STREAMS = 1_000
STREAMS_PATIENCE_S = 45.0
ANSWERS_WITHIN_S = 60.0
PARTS = ("peers", "growth", "hot")
FILES = 16_384


def _same_load(kind: str, rate: float) -> str:
    return f"{kind} at {rate:.0f}/s"


SAME_LOADS = tuple(_same_load(kind, rate) for kind, rate in RATES)


@dataclass
class Runs:
    """What was measured of each target and kind, and what went wrong. Ours must not go wrong."""

    found: dict[tuple[str, str], list[dict[str, float]]] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)

    def take(self, target: Target, kind: str, run: Callable[[], dict[str, float]]) -> None:
        """Keep what `run` gives, unless this failed before. Raises `Failed` for ours."""
        if f"{target.name} {kind}" in self.failures:
            return
        try:
            self.found.setdefault((target.name, kind), []).append(run())
        except Failed as error:
            if target.name == "ours":
                raise
            self.failures[f"{target.name} {kind}"] = str(error)
            self.found.pop((target.name, kind), None)

    def pairs(self, one: str, other: str, kind: str, figure: str) -> list[tuple[float, float]]:
        """A figure of two targets, round by round; [] where one has none."""
        return [
            (mine[figure], theirs[figure])
            for mine, theirs in zip(self.found.get((one, kind), []), self.found.get((other, kind), []), strict=False)
        ]

    def summary(self) -> dict[str, dict[str, float]]:
        return {f"{name} {kind}": medians(runs) for (name, kind), runs in self.found.items() if runs}


class Field:
    """Every target that starts, each in a process tree of its own."""

    def __init__(self, site: Installation, peers: Iterable[str]) -> None:
        self.site = site
        self.missing: dict[str, str] = {}
        self.cold_s: dict[str, list[float]] = {}
        self.idle_mb: dict[str, float] = {}
        port = free_port()
        argv = [sys.executable, "-m", "bench.upstream", "--port", str(port)]
        self.upstream = Target("upstream", port, site.service("upstream", argv, is_ready=listens(port), port=port).pid)
        self.upstreams = Upstreams(port, realtime.start(site, "upstream").port)
        self.secret = self._customer()
        self.starters: dict[str, Callable[[], Target]] = {"ours": self._ours, "bare": self._bare}
        self.starters |= {name: lambda start=STARTERS[name]: start(site, self.upstreams) for name in peers}
        self.targets = [target for name in self.starters if (target := self._start(name))]

    def start_again(self) -> None:
        """End every target and start it once more, for its time alone."""
        for target in self.targets:
            self._end(target)
        for target in self.targets:
            say(f"cold start: {target.name}")
            if again := self._start(target.name):
                self._end(again)

    def _start(self, name: str) -> Target | None:
        say(f"starting {name}")
        started = time.perf_counter()
        try:
            target = self.starters[name]()
            _first_answer(target)
        except (Missing, Failed) as error:
            if name == "ours":
                raise
            self.missing[name] = str(error)
            return None
        self.cold_s.setdefault(name, []).append(time.perf_counter() - started)
        self.idle_mb.setdefault(name, memory_mb(target.pid))
        return target

    def _end(self, target: Target) -> None:
        for service in self.site.services:
            if service.process is not None and service.pid == target.pid:
                service.stop()

    def _customer(self) -> str:
        base = f"http://{HOST}:{self.upstreams.http}/v1"
        prices = {"input": 150, "output": 600}
        self.site.clerk.model(name="bench", base_url=base, upstream_name="bench-upstream", prices=prices)
        realtime.offer(self.site, self.upstreams.realtime)
        made = self.site.clerk.organization(name="bench", credit_nanos=CREDIT_NANOS * 100)
        return str(made["secret"])

    def _ours(self) -> Target:
        web = self.site.web(workers=1, LOG_LEVEL="warning")
        return Target("ours", web.port, web.pid, self.secret)

    def _bare(self) -> Target:
        port = free_port()
        argv = [sys.executable, "-m", "uvicorn", "bench.bare:application", "--host", HOST, "--port", str(port)]
        argv += ["--no-access-log", "--no-proxy-headers", "--log-level", "warning"]
        to = f"http://{HOST}:{self.upstreams.http}"
        service = self.site.service("bare", argv, is_ready=listens(port), port=port, BENCH_UPSTREAM=to)
        return Target("bare", port, service.pid)

    def for_realtime(self) -> list[Target]:
        """The targets as Realtime reaches them: the bare relay is another application."""
        address = f"http://{HOST}:{self.upstreams.realtime}/v1/realtime"
        bare = realtime.start(self.site, "bare", BENCH_UPSTREAM=address)
        relay = Target("bare", bare.port, bare.pid)
        return [relay if target.name == "bare" else target for target in self.targets if target.name not in NO_REALTIME]


def _first_answer(target: Target) -> None:
    """Ask until there is one whole answer; raises `Failed`."""
    deadline = time.monotonic() + ANSWERS_WITHIN_S
    while True:
        try:
            attempt(target, "json", seconds=0, connections=1)
        except Failed:
            if time.monotonic() > deadline:
                raise
        else:
            return


# ---------------------------------------------------------------- what is measured
def closed_loops(field_: Field, runs: Runs, *, rounds: int, seconds: float, stores: tuple[int, ...]) -> None:
    for target in field_.targets:
        for kind in KINDS:
            with contextlib.suppress(Failed):
                attempt(target, kind, seconds=0.3)
    for number in range(rounds):
        for kind in KINDS:
            for target in field_.targets:
                say(f"round {number + 1}: {target.name} {kind}")
                runs.take(target, kind, lambda t=target, k=kind: measure(t, k, seconds=seconds, stores=stores))


def open_loops(field_: Field, runs: Runs, *, seconds: float, stores: tuple[int, ...]) -> None:
    """Each target at each rate that it can bear, and the upstream itself."""
    capacity = {key: medians(found)["requests_per_s"] for key, found in runs.found.items() if found}
    for _ in range(OPEN_ROUNDS):
        for kind, rate in RATES:
            name = _same_load(kind, rate)
            for target in (field_.upstream, *field_.targets):
                if target is not field_.upstream and rate > SATURATED * capacity.get((target.name, kind), 0.0):
                    runs.failures.setdefault(f"{target.name} {name}", "saturated")
                    continue
                say(f"{name}: {target.name}")
                options = {
                    "seconds": seconds,
                    "rate": rate,
                    "connections": OPEN_CONNECTIONS,
                    "stores": stores,
                    "patience_s": 5.0,
                }
                runs.take(target, name, lambda t=target, k=kind, o=options: _on_time(t, k, **o))


def _on_time(target: Target, kind: str, **options: Any) -> dict[str, float]:
    found = measure(target, kind, **options)
    if found["late"]:
        raise Failed(f"saturated: {found['late']:.0f} requests had no answer in time")
    return found


def sessions(field_: Field, runs: Runs, *, rounds: int, seconds: float) -> None:
    """Realtime: messages of a voice to eight clients."""
    targets = field_.for_realtime()
    absent = {target.name for target in field_.targets} & set(NO_REALTIME)
    runs.failures |= {f"{name} realtime": f"{name}, Realtime: {NO_REALTIME[name]}" for name in absent}
    for number in range(rounds):
        for target in targets:
            say(f"round {number + 1}: {target.name} Realtime")
            runs.take(target, "realtime", lambda t=target: asyncio.run(_talk(t, seconds)))


async def _talk(target: Target, seconds: float) -> dict[str, float]:
    try:
        async with asyncio.timeout(seconds + 20):
            return await realtime.throughput(target, seconds) | await realtime.round_trips(target, 200)
    except (aiohttp.ClientError, OSError, TypeError, TimeoutError) as error:
        raise Failed(f"{target.name}, Realtime: {type(error).__name__} {error}"[:200]) from None


def slow_streams(field_: Field, runs: Runs) -> None:
    """1,000 streams of 10 s at once, and the most memory of the process tree meanwhile."""
    for target in field_.targets:
        say(f"{STREAMS} slow streams at once: {target.name}")
        runs.take(target, "streams", lambda t=target: _slow(t))


def _slow(target: Target) -> dict[str, float]:
    with watched_memory_mb(target.pid) as samples:
        done = attempt(target, "slow", seconds=0, connections=STREAMS, patience_s=STREAMS_PATIENCE_S)
    return {"memory_mb": max(samples), "finished": done["requests"], "seconds": done["seconds"]}


def compare(runs: Runs, names: list[str]) -> dict[str, dict[str, float]]:
    """Ours as a multiple of each other target; at a fixed rate only CPU differs."""
    found: dict[str, dict[str, float]] = {}
    for other in names:
        for kind, cpu, speed in [*((kind, "cpu_ms", "requests_per_s") for kind in KINDS), REALTIME]:
            if pairs := runs.pairs("ours", other, kind, cpu):
                throughput = median_ratio(runs.pairs("ours", other, kind, speed))
                found[f"{other} {kind}"] = {"cpu": median_ratio(pairs), "throughput": throughput}
        for name in SAME_LOADS:
            if pairs := runs.pairs("ours", other, name, "cpu_ms"):
                found[f"{other} {name}"] = {"cpu": median_ratio(pairs)}
    return found


REALTIME = ("realtime", "cpu_us", "messages_per_s")


def added(runs: Runs, names: list[str]) -> dict[str, dict[str, float]]:
    """Milliseconds that each target adds to the upstream's own, by target and rate."""
    return {
        f"{name} {load}": {
            figure: median_difference(pairs)
            for figure in ("p50_ms", "p99_ms")
            if (pairs := runs.pairs(name, "upstream", load, figure))
        }
        for name in names
        for load in SAME_LOADS
    }


def peers(options: argparse.Namespace) -> dict[str, Any]:
    runs = Runs()
    with Installation(durable=True, settings={"DEFAULT_RPM": "0"}) as site:
        stores = stores_of(site)
        found = Field(site, options.peers)
        closed_loops(found, runs, rounds=options.rounds, seconds=options.seconds, stores=stores)
        open_loops(found, runs, seconds=options.seconds * 2, stores=stores)
        sessions(found, runs, rounds=options.rounds, seconds=options.seconds / 2)
        slow_streams(found, runs)
        found.start_again()
        books = site.clerk.reconcile()
    names = [target.name for target in found.targets]
    return {
        "targets": names,
        "missing": found.missing,
        "failures": runs.failures,
        "results": runs.summary(),
        "ratios": compare(runs, names[1:]),
        "added_ms": added(runs, names),
        "cold_start_s": {name: min(times) for name, times in found.cold_s.items()},
        "idle_mb": found.idle_mb,
        "drift": books["drift"],
    }


# ---------------------------------------------------------------- the report
def busy_s() -> float:
    """Seconds that all CPUs of the machine have worked since it started."""
    fields = Path("/proc/stat").read_text().splitlines()[0].split()[1:]
    return sum(int(fields[index]) for index in (0, 1, 2, 5, 6)) / os.sysconf("SC_CLK_TCK")


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Every part that was asked for, and how much of the machine others used meanwhile."""
    started, busy, own = time.perf_counter(), busy_s(), cpu_s(os.getpid())
    parts: dict[str, Callable[[], dict[str, Any]]] = {
        "peers": lambda: peers(options),
        "growth": lambda: growth.run(growth_rows.Size(options.rows, options.keys, options.organizations)),
        "hot": lambda: hot.run(seconds=options.seconds),
    }
    found = {name: parts[name]() for name in PARTS if name in options.parts}
    took = time.perf_counter() - started
    others = (busy_s() - busy) - (cpu_s(os.getpid()) - own)
    return {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine(),
        "rounds": options.rounds,
        "seconds": options.seconds,
        "took_s": round(took),
        "others_cpu": max(0.0, others / took / (os.cpu_count() or 1)),
        **found,
    }


def _names(text: str) -> list[str]:
    return [name for name in text.split(",") if name]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.full", description="Measure beside peers, and growth.")
    parser.add_argument("--parts", type=_names, default=list(PARTS), help=f"of {','.join(PARTS)}")
    parser.add_argument("--peers", type=_names, default=list(STARTERS), help=f"of {','.join(STARTERS)}")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=1.5, help="of each measurement")
    growth.add_options(parser)
    parser.add_argument("--out", type=Path, default=RESULTS / "full.md", help="the Markdown; the JSON lies beside it")
    parser.add_argument("--into", type=Path, default=None, help="a page with marks that the Markdown goes between")
    options = parser.parse_args()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, FILES)), hard))
    try:
        report = run(options)
    except Failed as error:
        raise SystemExit(str(error)) from None
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.with_suffix(".json").write_text(json.dumps(report, indent=2) + "\n")
    options.out.write_text(tables.markdown(report))
    if options.into is not None:
        options.into.write_text(tables.inserted(options.into.read_text(), tables.markdown(report)))
    say("")
    print(options.out.read_text())
    print(f"written to {options.out}")
    if drift := [one for part in PARTS for one in report.get(part, {}).get("drift", [])]:
        raise SystemExit(f"the books do not agree: {drift}")


if __name__ == "__main__":
    main()
