"""The benchmark of the Realtime relay: `python -m bench.realtime`, about half a minute, everything on the loopback.

Ours (one worker, all metering on) beside a bare relay of the same libraries, in interleaved rounds: messages a second
from the provider to eight clients, CPU for each, the time of a round trip with nothing else going on, and the memory of
1,000 idle sessions. Ratios are taken within a round.
"""

import argparse
import asyncio
import json
import resource
import sys
import time
from typing import Any

import aiohttp

from bench.figures import median_difference, median_ratio, medians, quantile
from bench.realtime_peers import SOUND
from bench.targets import CREDIT_NANOS, Target, cpu_s, listens, memory_mb, say
from config.tests.processes import HOST, Installation, Service
from sandbox.processes import free_port

CLIENTS, BURST = 8, 500
IDLE = 1_000
PRICES = {"input": 4_000, "output": 24_000, "audio_input": 32_000, "audio_output": 64_000}


async def _talk(session: aiohttp.ClientSession, target: Target, until: float) -> int:
    """One client: at least one burst, and one after the other until then; returns the messages that came."""
    messages = 0
    async with session.ws_connect(*_address(target), compress=0) as socket:
        while not messages or time.perf_counter() < until:
            await socket.send_json({"burst": BURST})
            while not (await socket.receive_str()).startswith('{"burst"'):
                messages += 1
            messages += 1
    return messages


async def throughput(target: Target, seconds: float) -> dict[str, float]:
    own, started = cpu_s(target.pid), time.perf_counter()
    async with aiohttp.ClientSession(headers=_headers(target)) as session:
        counts = await asyncio.gather(*(_talk(session, target, started + seconds) for _ in range(CLIENTS)))
    took, messages = time.perf_counter() - started, sum(counts)
    cpu = cpu_s(target.pid) - own
    return {"messages_per_s": messages / took, "cpu_us": cpu * 1e6 / messages, "per_core": messages / cpu}


async def round_trips(target: Target, count: int) -> dict[str, float]:
    times = []
    async with (
        aiohttp.ClientSession(headers=_headers(target)) as session,
        session.ws_connect(*_address(target), compress=0) as socket,
    ):
        for _ in range(count):
            started = time.perf_counter()
            await socket.send_json({"burst": 0, "audio": SOUND})
            await socket.receive_str()
            times.append((time.perf_counter() - started) * 1000)
    return {"p50_ms": quantile(sorted(times), 0.5), "p99_ms": quantile(sorted(times), 0.99)}


async def idle_memory(target: Target, count: int) -> float:
    """How much more memory the worker has with so many sessions open."""
    before = memory_mb(target.pid)
    async with aiohttp.ClientSession(headers=_headers(target), connector=aiohttp.TCPConnector(limit=0)) as session:
        sockets = []
        for _ in range(count):
            socket = await session.ws_connect(*_address(target), compress=0)
            sockets.append(socket)
        await asyncio.sleep(2)
        grown = memory_mb(target.pid) - before
        await asyncio.gather(*(socket.close() for socket in sockets))
    return grown


def _address(target: Target) -> tuple[str]:
    return (f"http://{HOST}:{target.port}/v1/realtime?model=bench-realtime",)


def _headers(target: Target) -> dict[str, str]:
    more = (header.partition(": ") for header in target.headers)
    return {"authorization": f"Bearer {target.key}", **{name: value for name, _, value in more}}


def start(site: Installation, name: str, **environment: str) -> Service:
    """One application of `bench.realtime_peers` under uvicorn."""
    port = free_port()
    argv = [sys.executable, "-m", "uvicorn", f"bench.realtime_peers:{name}", "--host", HOST, "--port", str(port)]
    argv += ["--ws", "websockets-sansio", "--no-access-log", "--log-level", "warning"]
    return site.service(name, argv, is_ready=listens(port), port=port, **environment)


def offer(site: Installation, upstream_port: int) -> None:
    """The model that is asked for."""
    site.clerk.model(
        name="bench-realtime",
        base_url=f"http://{HOST}:{upstream_port}/v1",
        upstream_name="m",
        prices=PRICES,
        endpoints=["/v1/realtime"],
    )


def run(rounds: int, seconds: float) -> dict[str, Any]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 8_192)), hard))
    with Installation(durable=True, settings={"DEFAULT_RPM": "0"}) as site:
        upstream = start(site, "upstream")
        organization = site.clerk.organization(name="bench", credit_nanos=CREDIT_NANOS * 100)
        offer(site, upstream.port)
        web = site.web(workers=1, LOG_LEVEL="warning")
        bare = start(site, "bare", BENCH_UPSTREAM=f"http://{HOST}:{upstream.port}/v1/realtime")
        found = [Target("ours", web.port, web.pid, organization["secret"]), Target("bare", bare.port, bare.pid)]
        runs: dict[str, list[dict[str, float]]] = {}
        for target in found:
            asyncio.run(throughput(target, 0))
        for number in range(rounds):
            for target in found:
                say(f"round {number + 1}: {target.name}")
                one = asyncio.run(throughput(target, seconds)) | asyncio.run(round_trips(target, 300))
                runs.setdefault(target.name, []).append(one)
        memory = {}
        for target in found:
            say(f"{IDLE} idle sessions: {target.name}")
            memory[target.name] = asyncio.run(idle_memory(target, IDLE))
        drift = site.clerk.reconcile()["drift"]
    pairs = list(zip(runs["ours"], runs["bare"], strict=True))
    return {
        "results": {name: medians(ones) for name, ones in runs.items()},
        "cpu_ratio": median_ratio((ours["cpu_us"], bare["cpu_us"]) for ours, bare in pairs),
        "added_p50_ms": median_difference((ours["p50_ms"], bare["p50_ms"]) for ours, bare in pairs),
        "idle_memory_mb": memory,
        "drift": drift,
    }


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.realtime", description="Measure the Realtime relay.")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=1.0, help="of each measurement of the throughput")
    options = parser.parse_args()
    report = run(options.rounds, options.seconds)
    print(f"\n{json.dumps(report, indent=2)}")
    if report["drift"]:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
