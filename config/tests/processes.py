"""The product's real processes over a PostgreSQL and a Redis of their own, for tests that kill and for the bench.

Everything has a deadline, logs to a file whose end is shown when something fails, and dies with the test run.
"""

import atexit
import contextlib
import http.client
import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psycopg
from psycopg.rows import dict_row

from sandbox.postgres import Postgres
from sandbox.processes import Lock, child_setup, end, free_port, spawn
from sandbox.pytest_plugin import MIGRATED
from sandbox.redis import Redis

ROOT = Path(__file__).resolve().parent.parent.parent
HOST = "127.0.0.1"
START_TIMEOUT_S = 120.0
MIGRATION_TIMEOUT_S = 300.0
_INHERITED = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "PYTHONDONTWRITEBYTECODE", "PYTHONPYCACHEPREFIX")
_STOP = [(signal.SIGTERM, 8.0)]


class ProcessFailed(AssertionError):
    """A process ended or stayed silent; the message holds the end of its log."""


def wait_for(condition: Callable[[], Any], *, timeout_s: float, what: str, every_s: float = 0.05) -> Any:
    """Call `condition` until it is true and return its value; AssertionError naming `what` after `timeout_s`."""
    deadline = time.monotonic() + timeout_s
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout_s} s: {what}")
        time.sleep(every_s)
    return value


def answers_http(port: int, path: str = "/health") -> bool:
    """Whether an HTTP server answers `path` with a 200 within a second."""
    connection = http.client.HTTPConnection(HOST, port, timeout=1)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def processes_below(pid: int) -> list[int]:
    """`pid` and all its living descendants, from /proc."""
    children: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError, ValueError):
            fields = stat.read_text().rpartition(")")[2].split()
            children.setdefault(int(fields[1]), []).append(int(stat.parent.name))
    found, todo = [], [pid]
    while todo:
        found.append(todo.pop())
        todo += children.get(found[-1], [])
    return found


@dataclass
class Service:
    """One process of ours: how to start it, when it is ready, where it writes."""

    name: str
    argv: list[str]
    env: dict[str, str]
    log: Path
    is_ready: Callable[[], bool]
    port: int = 0
    process: subprocess.Popen[bytes] | None = None
    is_shared: bool = False

    def shared(self) -> Self:
        """Not to be ended with the module that started it."""
        self.is_shared = True
        return self

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}"

    def launch(self) -> None:
        """Start, and wait for nothing."""
        with self.log.open("ab") as log:
            self.process = spawn(self.argv, output=log, cwd=ROOT, env=self.env)

    def start(self) -> Self:
        """Start and wait until ready; raises ProcessFailed."""
        self.launch()
        assert self.process is not None
        deadline = time.monotonic() + START_TIMEOUT_S
        while not self.is_ready():
            if self.process.poll() is not None:
                raise ProcessFailed(f"{self.name} ended with status {self.process.returncode}:\n{self.last_words()}")
            if time.monotonic() > deadline:
                self.stop()
                raise ProcessFailed(f"{self.name} is not ready after {START_TIMEOUT_S} s:\n{self.last_words()}")
            time.sleep(0.05)
        return self

    def stop(self) -> None:
        """End it, and whatever it has left in its process group."""
        if self.process is None:
            return
        end(self.process, _STOP)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process = None

    def kill(self) -> None:
        """`kill -9` of the whole process group, as when a machine loses power. May be called twice."""
        if self.process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(10)
        self.process = None

    def workers(self) -> list[int]:
        """The processes that serve: the children of uvicorn's supervisor, without its resource tracker and the dead."""
        pids = []
        for pid in processes_below(self.pid)[1:]:
            with contextlib.suppress(OSError):
                command = Path(f"/proc/{pid}/cmdline").read_text()  # empty: killed, and not yet waited for
                if command and "resource_tracker" not in command:
                    pids.append(pid)
        return sorted(pids)

    def last_words(self, lines: int = 40, *, since: int = 0) -> str:
        """The end of what it has logged after the first `since` bytes."""
        with contextlib.suppress(OSError):
            return "\n".join(self.log.read_bytes()[since:].decode(errors="replace").splitlines()[-lines:])
        return "no log"


class Clerk:
    """A Django process that does at once what it is asked: `clerk.organization(name="a", credit_nanos=5)`.

    The functions are those of `config.tests.clerk`; arguments and results are JSON.
    """

    def __init__(self, env: dict[str, str], log: Path) -> None:
        self.log = log
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "config.tests.clerk"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=output,
                cwd=ROOT,
                env=env,
                text=True,
                start_new_session=True,
                preexec_fn=child_setup(user=None, death_signal=signal.SIGKILL),  # noqa: PLW1509
            )

    def __getattr__(self, verb: str) -> Callable[..., Any]:
        if verb.startswith("_"):
            raise AttributeError(verb)
        return lambda **arguments: self._ask(verb, arguments)

    def _ask(self, verb: str, arguments: dict[str, Any]) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps([verb, arguments]) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            raise ProcessFailed(f"the clerk is gone:\n{self.log.read_text(errors='replace')[-3000:]}")
        answer = json.loads(line)
        if "error" in answer:
            raise ProcessFailed(f"{verb}({arguments}): {answer['error']}")
        return answer["result"]

    @property
    def pid(self) -> int:
        return self._process.pid

    def close(self) -> None:
        self._process.kill()
        self._process.wait(10)
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()


def _copy_cluster(source: Path, target: Path) -> None:
    """Copy the files of a stopped PostgreSQL, with their owners, to where there is none."""
    target.mkdir(parents=True, exist_ok=True)
    subprocess.run(["cp", "-a", source / "secrets.json", source / "data", target], check=True)


@dataclass
class Installation:
    """PostgreSQL, Redis, a migrated database, and whichever of the product's processes a test starts."""

    durable: bool = False
    settings: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.home = Path(tempfile.mkdtemp(prefix="tuppence-"))
        self.home.chmod(0o711)
        self.postgres = Postgres(self.home / "postgres", durable=self.durable)
        self.redis = Redis(self.home / "redis", durable=False)
        self.services: list[Service] = []
        self._former: list[Postgres] = []
        self._clerk: Clerk | None = None
        self.payments: dict[str, str] = {}  # how to reach the simulated Stripe, once there is a shop
        self.database_url = self.redis_url = ""
        self._environment: dict[str, str] = {}

    def __enter__(self) -> Self:
        atexit.register(self.close)
        try:
            self.redis_url = self.redis.start()
            self._start_database()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
        atexit.unregister(self.close)

    def _start_database(self) -> None:
        """Start PostgreSQL, migrated; the first installation of a run leaves a copy to the others."""
        if MIGRATED not in os.environ:
            self._migrate()
            return
        copy = Path(os.environ[MIGRATED])
        lock = Lock(copy.with_suffix(".lock"))
        lock.acquire(wait_s=MIGRATION_TIMEOUT_S)
        try:
            if not copy.exists():
                self._migrate()
                self.postgres.stop()
                _copy_cluster(self.postgres.home, copy)
            else:
                _copy_cluster(copy, self.postgres.home)
        finally:
            lock.release()
        self.database_url = self.postgres.start()
        self._environment = self._settings()

    def _migrate(self) -> None:
        self.database_url = self.postgres.start()
        self._environment = self._settings()
        self.manage("migrate", "--verbosity", "0", timeout_s=MIGRATION_TIMEOUT_S)

    def _settings(self) -> dict[str, str]:
        kept = {name: os.environ[name] for name in _INHERITED if name in os.environ}
        return {
            **kept,
            "PYTHONPATH": str(ROOT),
            "DJANGO_SETTINGS_MODULE": "config.settings",
            "SECRET_KEY": secrets.token_urlsafe(40),
            "DATABASE_URL": self.database_url,
            "REDIS_URL": self.redis_url,
            "SITE_URL": "http://127.0.0.1:8000",
            "ALLOWED_HOSTS": "127.0.0.1,localhost",
            "EMAIL_URL": "dummy:",
            "LOG_LEVEL": "info",
            "STATUS_CALM_S": "1",
            "STATIC_ROOT": str(self.home / "static"),
            "MEDIA_ROOT": str(self.home / "media"),
            "GATEWAY_RETRIES": "0",
            **self.settings,
        }

    def environment(self, **more: str) -> dict[str, str]:
        return {**self._environment, **more}

    def manage(self, *arguments: str, timeout_s: float = 120, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run `manage.py` and return what it wrote; raises ProcessFailed when it fails."""
        result = subprocess.run(
            [sys.executable, str(ROOT / "manage.py"), *arguments],
            capture_output=True,
            text=True,
            check=False,
            timeout=timeout_s,
            cwd=ROOT,
            env=self.environment(),
        )
        if check and result.returncode != 0:
            raise ProcessFailed(f"manage.py {' '.join(arguments)}: {result.stdout[-2000:]}{result.stderr[-3000:]}")
        return result

    @property
    def clerk(self) -> Clerk:
        if self._clerk is None:
            self._clerk = Clerk(self.environment(DB_POOL_SIZE="0"), self.home / "clerk.log")
        return self._clerk

    def move_to(self, postgres: Postgres) -> None:
        """The books are in another server from now on. Processes that run are told by nobody."""
        self._former.append(self.postgres)
        self.postgres, self.database_url = postgres, postgres.url()
        self._environment["DATABASE_URL"] = self.database_url
        if self._clerk is not None:
            self._clerk.close()
            self._clerk = None

    # ------------------------------------------------------------ processes
    def service(
        self, name: str, argv: list[str], *, is_ready: Callable[[], bool], port: int = 0, **environment: str
    ) -> Service:
        log = self.home / f"{name}-{len(self.services)}.log"
        service = Service(name, argv, self.environment(**environment), log, is_ready, port)
        self.services.append(service)
        return service.start()

    def web(self, *, workers: int = 1, port: int | None = None, graceful_s: int = 5, **environment: str) -> Service:
        """uvicorn with `config.asgi:application`; ready when it answers `/ready`."""
        port = port or free_port()
        argv = [sys.executable, "-m", "uvicorn", "config.asgi:application", "--host", HOST, "--port", str(port)]
        argv += ["--http", "config.http_protocol:HttpProtocol"]
        argv += ["--ws", "websockets-sansio", "--no-access-log", "--no-proxy-headers", "--log-level", "warning"]
        argv += ["--timeout-graceful-shutdown", str(graceful_s)]
        argv += ["--workers", str(workers)] if workers > 1 else []
        environment = {"SITE_URL": f"http://{HOST}:{port}", **environment}
        return self.service("web", argv, is_ready=lambda: answers_http(port, "/ready"), port=port, **environment)

    def worker(self, *, has_beat: bool = True, **environment: str) -> Service:
        """A Celery worker, with its beat inside unless that is another process."""
        argv = [sys.executable, "-m", "celery", "-A", "config", "worker", "--concurrency", "1", "--loglevel", "info"]
        argv += ["--beat", "--schedule", str(self.home / "beat-schedule")] if has_beat else []
        return self._celery("worker", argv, says=" ready.", **environment)

    def beat(self, **environment: str) -> Service:
        """Celery's clock, as a process of its own."""
        schedule = str(self.home / "beat-alone-schedule")
        argv = [sys.executable, "-m", "celery", "-A", "config", "beat", "--schedule", schedule, "--pidfile="]
        return self._celery("beat", [*argv, "--loglevel", "info"], says="beat: Starting", **environment)

    def _celery(self, name: str, argv: list[str], *, says: str, **environment: str) -> Service:
        log = self.home / f"{name}-{len(self.services)}.log"
        is_ready = lambda: says in log.read_text(errors="replace")  # noqa: E731
        return self.service(name, argv, is_ready=is_ready, **environment)

    def provider(self, key: str) -> Service:
        """The simulated provider, which knows this key, without its human pace."""
        port = free_port()
        argv = [sys.executable, "-m", "sandbox.provider", "--host", HOST, "--port", str(port)]
        argv += ["--first-delay-ms", "0", "--word-delay-ms", "0"]
        return self.service("provider", argv, is_ready=lambda: answers_http(port), port=port, SANDBOX_KEY=key)

    def shop(self, **environment: str) -> tuple[Service, Service]:
        """A web worker that sells credit, and the simulated Stripe that it sells through."""
        web_port, port = free_port(), free_port()
        payments = {
            "STRIPE_SECRET_KEY": f"sk_test_{os.urandom(12).hex()}",
            "STRIPE_WEBHOOK_SECRET": f"whsec_{os.urandom(12).hex()}",
            "STRIPE_API_BASE": f"http://{HOST}:{port}",
        }
        self.payments = {name: payments[name] for name in ("STRIPE_SECRET_KEY", "STRIPE_API_BASE")}
        argv = [sys.executable, "-m", "sandbox.stripe", "--host", HOST, "--port", str(port)]
        argv += ["--base-url", payments["STRIPE_API_BASE"]]
        argv += ["--endpoint", f"http://{HOST}:{web_port}/stripe/webhook"]
        stripe = self.service("stripe", argv, is_ready=lambda: answers_http(port), port=port, **payments)
        return self.web(port=web_port, **payments, **environment), stripe

    def llama(self, *, embeddings: bool = False) -> Service:
        """llama.cpp's server over the tiny model."""
        port = free_port()
        argv = [sys.executable, "-m", "config.tests.llama", "--port", str(port)]
        argv += ["--embeddings"] if embeddings else []
        return self.service("llama", argv, is_ready=lambda: answers_http(port, "/health"), port=port)

    def end_services(self, *, shared: bool = False) -> None:
        """Kill what a test has started; with `shared`, all of it. May run twice."""
        for service in reversed(self.services):
            if shared or not service.is_shared:
                service.kill()

    # ------------------------------------------------------------ the books, read past the product's own code
    def query(self, statement: str, *parameters: object) -> list[dict[str, Any]]:
        with psycopg.connect(
            self.postgres.superuser_url("tuppence"), row_factory=dict_row, autocommit=True
        ) as database:
            cursor = database.execute(statement, parameters)  # type: ignore[arg-type]
            return cursor.fetchall() if cursor.description else []

    def close(self) -> None:
        """End everything and delete its files. May run twice."""
        if self._clerk is not None:
            self._clerk.close()
            self._clerk = None
        self.end_services(shared=True)
        self.redis.destroy()
        for postgres in (self.postgres, *self._former):
            postgres.destroy()
        shutil.rmtree(self.home, ignore_errors=True)
