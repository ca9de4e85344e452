"""What the benchmarks measure with: processes under load, the load generator, and what the kernel charged for them."""

import contextlib
import json
import os
import platform
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from config.tests.processes import HOST, Installation, processes_below

TICK_S = 1 / os.sysconf("SC_CLK_TCK")
CONNECTIONS = 32
CREDIT_NANOS = 1_000_000 * 10_000_000
_CPUCLOCK_SCHED = 2


class Failed(Exception):
    """A run that did not end as it must; the message says whose, and how."""


@dataclass(frozen=True)
class Target:
    """A server under load. `headers` are more of them, as `name: value`."""

    name: str
    port: int
    pid: int
    key: str = "none"
    headers: tuple[str, ...] = ()


def cpu_s(*pids: int) -> float:
    """User and system seconds of processes, their living descendants and those that they have waited for."""
    return sum(_own_s(one) + _waited_for_s(one) for pid in pids for one in processes_below(pid))


def _own_s(pid: int) -> float:
    """A process's CPU clock, in nanoseconds where the kernel's scheduler keeps it (clock_getcpuclockid(3))."""
    with contextlib.suppress(OSError):
        return time.clock_gettime((~pid << 3) | _CPUCLOCK_SCHED)
    return 0.0


def _waited_for_s(pid: int) -> float:
    with contextlib.suppress(OSError):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[13]) + int(fields[14])) * TICK_S
    return 0.0


def stores_of(site: Installation) -> tuple[int, ...]:
    """The processes of PostgreSQL and Redis."""
    return tuple(one.process.pid for one in (site.postgres, site.redis) if one.process is not None)


def machine() -> dict[str, Any]:
    """What a run was made on. Who built Python, and how, is worth as much as a processor."""
    model = ""
    with contextlib.suppress(OSError):
        model = Path("/proc/cpuinfo").read_text().partition("model name")[2].partition("\n")[0].lstrip("\t :")
    return {
        "cpus": os.cpu_count(),
        "cpu": model,
        "platform": platform.platform(),
        "python": f"{platform.python_version()} ({platform.python_compiler()})",
    }


def listens(port: int) -> Callable[[], bool]:
    def is_ready() -> bool:
        with socket.socket() as probe:
            return probe.connect_ex((HOST, port)) == 0

    return is_ready


def peak_memory_mb(pid: int) -> float:
    """The most resident memory that the process ever had."""
    line = Path(f"/proc/{pid}/status").read_text().partition("VmHWM:")[2].split()[0]
    return int(line) / 1024


def memory_mb(pid: int) -> float:
    """The resident memory of a process and its descendants now; what they share is counted for each."""
    total = 0
    for one in processes_below(pid):
        with contextlib.suppress(OSError, IndexError):
            total += int(Path(f"/proc/{one}/status").read_text().partition("VmRSS:")[2].split()[0])
    return total / 1024


@contextlib.contextmanager
def watched_memory_mb(pid: int, every_s: float = 0.25) -> Iterator[list[float]]:
    """Samples of `memory_mb` while the block runs."""
    samples, is_over = [memory_mb(pid)], threading.Event()

    def watch() -> None:
        while not is_over.wait(every_s):
            samples.append(memory_mb(pid))

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield samples
    finally:
        is_over.set()
        thread.join()


def attempt(
    target: Target,
    kind: str,
    *,
    seconds: float,
    rate: float = 0.0,
    connections: int = CONNECTIONS,
    patience_s: float = 20.0,
    keys: Path | None = None,
) -> dict[str, Any]:
    """One run of the load generator; raises `Failed` when an answer was not what it must be."""
    argv = [sys.executable, "-m", "bench.load", "--port", str(target.port), "--kind", kind, "--key", target.key]
    argv += ["--seconds", str(seconds), "--rate", str(rate), "--connections", str(connections)]
    argv += ["--patience", str(patience_s), *(part for header in target.headers for part in ("--header", header))]
    argv += ["--keys", str(keys)] if keys else []
    timeout_s = seconds + patience_s + 40
    try:
        done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=timeout_s)
    except subprocess.TimeoutExpired:
        raise Failed(f"{target.name}, {kind}: no end after {timeout_s:.0f} s") from None
    if done.returncode != 0:
        raise Failed(f"{target.name}, {kind}: the load generator failed: {done.stderr[-500:].strip()}")
    report: dict[str, Any] = json.loads(done.stdout)
    if report["bad"] or not report["requests"]:
        raise Failed(f"{target.name}, {kind}: {report['bad']} bad answers, the first: {report['first_bad']}")
    return report


def load(target: Target, kind: str, **options: Any) -> dict[str, Any]:
    """`attempt`, where a failure ends the benchmark."""
    try:
        return attempt(target, kind, **options)
    except Failed as error:
        raise SystemExit(str(error)) from None


def measure(target: Target, kind: str, *, stores: tuple[int, ...], **options: Any) -> dict[str, float]:
    """One run with the CPU that it cost the target and, apart, the stores. Raises `Failed`."""
    own, stored = cpu_s(target.pid), cpu_s(*stores)
    report = attempt(target, kind, **options)
    time.sleep(0.05)
    requests = report["requests"]
    return {
        "requests_per_s": requests / report["seconds"],
        "cpu_ms": (cpu_s(target.pid) - own) * 1000 / requests,
        "stores_cpu_ms": (cpu_s(*stores) - stored) * 1000 / requests,
        "p50_ms": report["p50_ms"],
        "p99_ms": report["p99_ms"],
        "late": report["late"],
    }


def say(text: str) -> None:
    print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)
