"""One supervised child: started, watched until it is ready, restarted when it dies, ended when we end."""

import asyncio
import contextlib
import json
import os
import pwd
import signal
import subprocess
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from sandbox.console import Console, LogFile, unpainted
from sandbox.processes import SandboxError, child_setup, write_private

_BACKOFF_S = (0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
_STEADY_S = 20.0  # after this long a service counts as healthy, and its next death as its first


@dataclass
class Service:
    """What to run and how to tell that it runs.

    `is_ready` is asked until it says yes; `before` runs in a thread ahead of each start; `stop` lists signals and the
    seconds to wait after each, before SIGKILL.
    """

    name: str
    argv: list[str]
    env: dict[str, str]
    cwd: Path
    is_ready: Callable[[], Awaitable[bool]] | None = None
    before: Callable[[], None] | None = None
    user: pwd.struct_passwd | None = None
    stop: list[tuple[int, float]] = field(default_factory=lambda: [(signal.SIGTERM, 10.0)])
    death_signal: int = signal.SIGTERM
    ready_within_s: float = 90.0
    has_helpers: bool = True  # its process group is swept after its death; PostgreSQL's helpers see to themselves


class Supervised:
    """A service and its current process."""

    def __init__(self, service: Service, directory: Path, console: Console) -> None:
        self.service = service
        self.console = console
        self.log = LogFile(directory / "logs" / f"{service.name}.log")
        self.restarts = 0
        self._is_up = False
        self._note = directory / "run" / f"{service.name}.json"
        self._note.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._process: asyncio.subprocess.Process | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._pump: asyncio.Task[None] | None = None

    async def start(self, *, wait: bool = True) -> None:
        """Start it, wait until it is ready, and keep it running from now on. Raises SandboxError."""
        await self._spawn()
        try:
            if wait:
                await self._until_ready()
        except BaseException:
            await self.end()
            raise
        self._keeper = asyncio.create_task(self._keep())

    async def end(self) -> None:
        """End it and do not start it again."""
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.gather(self._keeper, return_exceptions=True)
        if self._process is not None:
            await self._end_process(self._process)
        if self._pump is not None:
            await asyncio.wait([self._pump], timeout=1)
            self._pump.cancel()
            await asyncio.gather(self._pump, return_exceptions=True)
        self._note.unlink(missing_ok=True)
        self.log.close()

    def kill(self) -> None:
        """End it at once."""
        if self._process is not None and self._process.returncode is None:
            self._process.kill()

    # ------------------------------------------------------------ inside
    async def _keep(self) -> None:
        deaths = 0
        started_at = time.monotonic()
        while True:
            process = self._process
            assert process is not None
            status = await process.wait()
            self._sweep(process.pid)
            deaths = 0 if time.monotonic() - started_at > _STEADY_S else deaths + 1
            pause = _BACKOFF_S[min(deaths, len(_BACKOFF_S) - 1)]
            self.console.say(self.service.name, f"ended ({_described(status)}); starting it again in {pause:g} s")
            await asyncio.sleep(pause)
            started_at = time.monotonic()
            self.restarts += 1
            try:
                await self._spawn()
                await self._until_ready()
            except (SandboxError, OSError) as error:
                self.console.say(self.service.name, str(error).splitlines()[0])
                await self._end_process(self._process)
            else:
                self.console.say(self.service.name, "is back")

    async def _spawn(self) -> None:
        service = self.service
        self._is_up = False
        if service.before is not None:
            await asyncio.to_thread(service.before)
        # A pipe of our own: asyncio's would make `wait` wait for helpers that keep it open.
        ours, childs = os.pipe()
        try:
            # From the main thread, on which the parent-death signal hangs.
            self._process = await asyncio.create_subprocess_exec(
                *service.argv,
                cwd=service.cwd,
                env=service.env,
                stdin=subprocess.DEVNULL,
                stdout=childs,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=child_setup(user=service.user, death_signal=service.death_signal),
            )
        except BaseException:
            os.close(ours)
            raise
        finally:
            os.close(childs)
        write_private(self._note, json.dumps({"pid": self._process.pid, "birth": birth(self._process.pid)}))
        self._pump = asyncio.create_task(self._pump_lines(os.fdopen(ours, "rb", buffering=0)))

    async def _pump_lines(self, pipe: IO[bytes]) -> None:
        reader = asyncio.StreamReader(limit=2**20)
        loop = asyncio.get_running_loop()
        transport, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), pipe)
        try:
            while True:
                try:
                    line = await reader.readline()
                except ValueError:  # longer than the limit: dropped
                    continue
                if not line:
                    return
                line = unpainted(line)
                with contextlib.suppress(OSError, ValueError):  # the disk is full
                    self.log.write(line)
                if self._is_up or self.console.verbose:  # while it starts, its end is told with its last words
                    self.console.line_of(self.service.name, line)
        finally:
            transport.close()

    async def _until_ready(self) -> None:
        process = self._process
        assert process is not None
        deadline = time.monotonic() + self.service.ready_within_s
        while True:
            if process.returncode is not None:
                await asyncio.sleep(0.1)  # its last words
                raise SandboxError(
                    f"it ended ({_described(process.returncode)}) before it was ready\n{self.log.tail()}"
                )
            if self.service.is_ready is None or await self.service.is_ready():
                self._is_up = True
                return
            if time.monotonic() > deadline:
                raise SandboxError(f"it is not ready after {self.service.ready_within_s:g} s\n{self.log.tail()}")
            await asyncio.sleep(0.05)

    async def _end_process(self, process: asyncio.subprocess.Process) -> None:
        for number, wait_s in [*self.service.stop, (signal.SIGKILL, 30.0)]:
            if process.returncode is not None:
                break
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(number)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(process.wait(), wait_s)
        self._sweep(process.pid)

    def _sweep(self, pid: int) -> None:
        """Kill what a dead service left in its process group (Celery's pool, say)."""
        if self.service.has_helpers:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(pid, signal.SIGKILL)


def birth(pid: int) -> str:
    """When the live process `pid` began, to tell it from a later one with its number; "" when there is none."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return "" if fields[0] == "Z" else fields[19]
    except (OSError, IndexError):
        pass
    if Path("/proc/self/stat").exists():
        return ""
    done = subprocess.run(["ps", "-o", "lstart=", "-p", str(pid)], capture_output=True, text=True, check=False)
    return done.stdout.strip()


def bury(directory: Path, wait_s: float = 12.0) -> None:
    """End the children that a killed supervisor of `directory` left behind; PostgreSQL and Redis bury their own."""
    left = []
    for note in sorted((directory / "run").glob("*.json")):
        with contextlib.suppress(OSError, ValueError, KeyError):
            told = json.loads(note.read_text())
            if note.stem not in {"postgres", "redis"} and told["birth"] and birth(told["pid"]) == told["birth"]:
                left.append((int(told["pid"]), str(told["birth"])))
        note.unlink(missing_ok=True)
    for number, seconds in ((signal.SIGTERM, wait_s), (signal.SIGKILL, 5.0)):
        left = [(pid, born) for pid, born in left if birth(pid) == born]
        for pid, _ in left:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                (os.killpg if number == signal.SIGKILL else os.kill)(pid, number)
        deadline = time.monotonic() + seconds
        while any(birth(pid) == born for pid, born in left) and time.monotonic() < deadline:
            time.sleep(0.05)


def _described(status: int) -> str:
    return f"signal {signal.Signals(-status).name}" if status < 0 else f"status {status}"
