"""Runs the whole product on one machine: what `make run` calls.

PostgreSQL and Redis (unless DATABASE_URL / REDIS_URL are given), then preparation (migrations, prices, demo data), the
simulated provider, web, worker and beat, each when what it needs is ready. A child that dies is started again; a killed
supervisor takes its children with it and the next start goes on from the same data.
"""

import asyncio
import contextlib
import hashlib
import json
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import psycopg

from sandbox.console import Console
from sandbox.postgres import Postgres
from sandbox.processes import (
    AlreadyRunning,
    Lock,
    SandboxError,
    die_with_parent,
    is_port_free,
    keep_bytecode,
    remembered_port,
    write_private,
)
from sandbox.redis import Redis
from sandbox.service import Service, Supervised, bury

ROOT = Path(__file__).resolve().parent.parent
PYTHON = sys.executable
DEMO_EMAIL = "demo@example.com"
# What preparation depends on: when none of it changed, a second start skips it.
_PREPARED_FROM = ("*/migrations/*.py", "billing/catalogue/*", "static/**/*", "sandbox/demo.py", "sandbox/prepare.py")
# And the settings that the providers and prices are made from, or the demo.
_PREPARED_BY = ("UPSTREAM_", "OPENAI_", "CLOUDFLARE_", "MODEL_PRICING", "DEPLOYMENT_MODE", "SANDBOX_", "DEMO_", "DEBUG")
_STOPPED_BY = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Supervisor:
    """One installation in `directory`, serving on `host:port`."""

    def __init__(self, directory: Path, *, host: str, port: int, console: Console) -> None:
        self.directory = directory
        self.host = host
        self.port = port
        self.console = console
        self.lock = Lock(directory / "lock")
        self.env: dict[str, str] = {}
        self.own: dict[str, str] = {}
        self.running: list[Supervised] = []
        self.postgres: Postgres | None = None
        self.redis: Redis | None = None
        self._preparing: asyncio.subprocess.Process | None = None

    async def run(self) -> int:
        """Start everything, keep it running until a signal, end it. The status to exit with."""
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in _STOPPED_BY:
            loop.add_signal_handler(number, self._told_to_stop, stop)
        stopped = asyncio.create_task(stop.wait())
        starting = asyncio.create_task(self._start())
        status = 0
        try:
            await asyncio.wait({stopped, starting}, return_when=asyncio.FIRST_COMPLETED)
            if starting.done():
                starting.result()
                await stopped
        except SandboxError as error:
            self.console.plain(str(error))
            status = 1
        finally:
            starting.cancel()
            await asyncio.gather(starting, return_exceptions=True)
            await self._end()
            stopped.cancel()
        return status

    # ------------------------------------------------------------ start
    async def _start(self) -> None:
        await asyncio.to_thread(bury, self.directory)
        if not is_port_free(self.port, self.host):
            raise SandboxError(f"Port {self.port} is taken. Choose another: PORT={self.port + 1} make run")
        kept = _kept_secrets(self.directory)
        self.env = self._environment(kept)
        provider_port = remembered_port(self.directory / "provider.port")
        self.env["SANDBOX_URL"] = f"http://127.0.0.1:{provider_port}/v1"
        stripe_port = self._prepare_stripe(kept)
        await self._start_postgres()
        await self._start_redis()
        told = self.own | {name: self.env[name] for name in ("DATABASE_URL", "REDIS_URL", "SANDBOX_URL")}
        write_private(self.directory / "env.json", json.dumps(told))
        await self._prepare()
        await self._supervise(self._provider(provider_port))
        if stripe_port is not None:
            await self._supervise(self._stripe(stripe_port))
        await self._supervise(self._web())
        await self._supervise(self._celery("worker", "--concurrency=2", "--without-gossip", "--without-mingle"))
        schedule = self.directory / "celerybeat-schedule"
        await self._supervise(self._celery("beat", f"--schedule={schedule}", "--pidfile="))
        self._greet(_kept_secrets(self.directory))

    def _environment(self, kept: dict[str, str]) -> dict[str, str]:
        """What every child gets. What the environment or the `.env` files say comes first."""
        shown = "localhost" if self.host in {"127.0.0.1", "0.0.0.0", "::"} else self.host
        defaults = {
            "SECRET_KEY": kept["secret_key"],
            "SITE_URL": f"http://{shown}:{self.port}",
            "ALLOWED_HOSTS": "localhost,127.0.0.1" if self.host == "127.0.0.1" else "*",
            "MEDIA_ROOT": str(self.directory / "media"),
            "STATIC_ROOT": str(self.directory / "static"),
            "LOG_FORMAT": "console",
            "DEMO_LOGIN": f"{DEMO_EMAIL} {kept['demo_password']}",
            # The demo's person is staff; only those at this machine reach it.
            "STAFF_NEEDS_MFA": "0" if self.host == "127.0.0.1" else "1",
        }
        own = {
            "DATA_DIR": str(self.directory),
            "SANDBOX_KEY": kept["sandbox_key"],
            "DEMO_PASSWORD": kept["demo_password"],
            "PYTHONUNBUFFERED": "1",
            "PYTHONPATH": str(ROOT),
            "NO_COLOR": "1",
        }
        given = {**_env_files(), **os.environ}
        for name in ("DATABASE_URL", "REDIS_URL"):
            if given.get(f"{name}_FILE"):
                given[name] = Path(given[f"{name}_FILE"]).read_text().strip()
        self.own = {name: given.get(name, value) for name, value in defaults.items()} | own
        environment = {**given, **self.own}
        keep_bytecode(environment, self.directory / "bytecode")
        return environment

    async def _start_postgres(self) -> None:
        if self.env.get("DATABASE_URL"):
            return self.console.say("postgres", "not started: DATABASE_URL is given")
        self.postgres = postgres = Postgres(self.directory / "postgres")
        await asyncio.to_thread(postgres.prepare)

        async def is_ready() -> bool:
            return await asyncio.to_thread(postgres.answers)

        await self._supervise(
            Service(
                "postgres",
                postgres.command(),
                postgres.environment(),
                postgres.home,
                is_ready=is_ready,
                before=postgres.before_spawn,
                user=postgres.user,
                stop=[(signal.SIGINT, 20.0), (signal.SIGQUIT, 10.0)],
                death_signal=signal.SIGINT,
                has_helpers=False,
            )
        )
        await asyncio.to_thread(postgres.provision)
        self.env["DATABASE_URL"] = postgres.url()
        if postgres.home.parent != self.directory:
            self.console.say("postgres", f"keeps its data in {postgres.home}: `nobody` cannot enter {self.directory}")

    async def _start_redis(self) -> None:
        if self.env.get("REDIS_URL"):
            return self.console.say("redis", "not started: REDIS_URL is given")
        self.redis = redis = Redis(self.directory / "redis")
        await asyncio.to_thread(redis.prepare)

        async def is_ready() -> bool:
            return await asyncio.to_thread(redis.answers)

        await self._supervise(
            Service(
                "redis",
                redis.command(),
                redis.environment(),
                redis.data,
                is_ready=is_ready,
                before=redis.before_spawn,
                has_helpers=False,
            )
        )
        self.env["REDIS_URL"] = redis.url()
        if redis.flavour == "fakeredis":
            self.console.say("redis", "no redis-server on PATH: fakeredis stands in, and keeps nothing over a restart")

    async def _prepare(self) -> None:
        """Migrate, load prices and demo data, collect static files; nothing when nothing changed."""
        stamp = await asyncio.to_thread(self._stamp)
        note = self.directory / "prepared"
        if stamp and note.exists() and note.read_text() == stamp:
            return
        self.console.say("prepare", "migrations, prices, demo data (a first start takes a minute)")
        log_path = self.directory / "logs" / "prepare.log"
        with log_path.open("ab") as log:
            process = await asyncio.create_subprocess_exec(
                PYTHON, "-m", "sandbox.prepare", cwd=ROOT, env=self.env, stdout=log, stderr=subprocess.STDOUT
            )
            self._preparing = process
            status = await process.wait()
            self._preparing = None
        if status != 0:
            words = "\n".join("    " + line for line in log_path.read_text(errors="replace").splitlines()[-20:])
            raise SandboxError(f"Preparation failed with status {status}; the end of {log_path}:\n{words}")
        note.write_text(await asyncio.to_thread(self._stamp))

    def _stamp(self) -> str:
        """What was prepared: the sources, and this database's migrations; "" when the database has none."""
        told = {name: value for name, value in self.env.items() if name.startswith(_PREPARED_BY)}
        digest = hashlib.sha256(json.dumps(told, sort_keys=True).encode())
        for pattern in _PREPARED_FROM:
            for path in sorted(ROOT.glob(pattern)):
                if path.is_file():
                    digest.update(f"{path}:{path.stat().st_size}:{path.stat().st_mtime_ns}\n".encode())
        digest.update(str((ROOT / "staticfiles" / "staticfiles.json").exists()).encode())
        try:
            with psycopg.connect(self.env["DATABASE_URL"], connect_timeout=5) as connection:
                exists = connection.execute("select to_regclass('django_migrations')").fetchone()
                if exists is None or exists[0] is None:
                    return ""
                row = connection.execute("select count(*), max(applied) from django_migrations").fetchone()
        except psycopg.Error as error:
            raise SandboxError(f"DATABASE_URL: {str(error).strip().splitlines()[0]}") from None
        return f"{digest.hexdigest()} {row}"

    async def _supervise(self, service: Service) -> None:
        started_at = time.monotonic()
        supervised = Supervised(service, self.directory, self.console)
        self.running.append(supervised)
        try:
            await supervised.start()
        except SandboxError as error:
            raise SandboxError(f"{service.name}: {error}") from None
        self.console.say(service.name, f"up after {time.monotonic() - started_at:.1f} s")

    # ------------------------------------------------------------ what runs
    def _provider(self, port: int) -> Service:
        argv = [PYTHON, "-m", "sandbox.provider", "--port", str(port)]
        return Service("provider", argv, self.env, ROOT, is_ready=_answers("127.0.0.1", port, "/health"))

    def _prepare_stripe(self, kept: dict[str, str]) -> int | None:
        """Let a simulated Stripe stand in where no key of the real one is given; its port."""
        if self.env.get("STRIPE_SECRET_KEY") or self.env.get("STRIPE_SECRET_KEY_FILE"):
            return None
        port = remembered_port(self.directory / "stripe.port")
        stripe = {
            "STRIPE_SECRET_KEY": kept["stripe_key"],
            "STRIPE_WEBHOOK_SECRET": kept["stripe_secret"],
            "STRIPE_API_BASE": f"http://127.0.0.1:{port}",
        }
        self.own |= stripe
        self.env |= stripe
        return port

    def _stripe(self, port: int) -> Service:
        argv = [PYTHON, "-m", "sandbox.stripe", "--port", str(port), "--base-url", self.env["STRIPE_API_BASE"]]
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host, self.host)
        argv += [
            "--endpoint",
            f"http://{host}:{self.port}/stripe/webhook",
            "--state",
            str(self.directory / "stripe.json"),
        ]
        return Service("stripe", argv, self.env, ROOT, is_ready=_answers("127.0.0.1", port, "/health"))

    def _web(self) -> Service:
        argv = [PYTHON, "-m", "uvicorn", "config.asgi:application", "--host", self.host, "--port", str(self.port)]
        argv += [
            "--loop",
            "uvloop",
            "--http",
            "config.http_protocol:HttpProtocol",
            "--ws",
            "websockets-sansio",
            "--no-access-log",
            "--no-server-header",
            "--no-proxy-headers",
        ]
        argv += ["--timeout-graceful-shutdown", "8", "--log-level", "warning"]
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host, self.host)
        ready = _answers(host, self.port, "/health")
        return Service("web", argv, self.env, ROOT, is_ready=ready, stop=[(signal.SIGTERM, 15.0)])

    def _celery(self, name: str, *options: str) -> Service:
        argv = [PYTHON, "-m", "celery", "-A", "config"]
        argv += [name, "--loglevel=WARNING", *options]
        return Service(name, argv, self.env, ROOT)

    # ------------------------------------------------------------ words
    def _greet(self, kept: dict[str, str]) -> None:
        url, key = self.env["SITE_URL"], kept.get("demo_api_key", "")
        body = '{"model": "gpt-4o-mini", "stream": true, "messages": [{"role": "user", "content": "Hello!"}]}'
        self.console.plain(
            f"\n  Tuppence runs at {url}\n\n"
            f"  login     {DEMO_EMAIL}  {kept['demo_password']}   (staff: {url}/admin/)\n"
            f"  API key   {key}\n"
            f"  try       curl -N {url}/v1/chat/completions -H 'Authorization: Bearer {key}' \\\n"
            f"              -H 'Content-Type: application/json' -d '{body}'\n\n"
            f"  logs      {self.directory / 'logs'}\n"
            f"  commands  {_command('manage')} create_api_key --help\n"
            "  Ctrl-C ends all of it.\n"
        )

    # ------------------------------------------------------------ end
    def _told_to_stop(self, stop: asyncio.Event) -> None:
        if stop.is_set():
            self.console.plain("Ending at once.")
            for supervised in self.running:
                supervised.kill()
            return
        self.console.plain("Stopping: running streams may finish. Again to end at once.")
        stop.set()

    async def _end(self) -> None:
        """End the children, those first that need the others."""
        if self._preparing is not None and self._preparing.returncode is None:
            self._preparing.terminate()
            await self._preparing.wait()
        named = {supervised.service.name: supervised for supervised in self.running}
        for group in (("beat", "worker"), ("web",), ("provider", "stripe"), ("redis", "postgres")):
            await asyncio.gather(*(named[name].end() for name in group if name in named))
        if self.redis is not None:
            self.redis.stop()
        if self.postgres is not None:
            self.postgres.stop()


def _answers(host: str, port: int, path: str) -> Callable[[], Awaitable[bool]]:
    """A probe: GET `path` answers 200 within two seconds."""

    async def is_ready() -> bool:
        try:
            async with asyncio.timeout(2):
                reader, writer = await asyncio.open_connection(host, port)
                try:
                    request = f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
                    writer.write(request.encode())
                    return b" 200 " in await reader.readline()
                finally:
                    writer.close()
        except (OSError, TimeoutError):
            return False

    return is_ready


def _kept_secrets(directory: Path) -> dict[str, str]:
    """The installation's own secrets, made on the first start."""
    path = directory / "secrets.json"
    kept: dict[str, str] = json.loads(path.read_text()) if path.exists() else {}
    made = {
        "secret_key": lambda: secrets.token_urlsafe(48),
        "demo_password": lambda: f"tuppence-{secrets.token_hex(4)}",
        "sandbox_key": lambda: f"sandbox-{secrets.token_urlsafe(24)}",
        "stripe_key": lambda: f"sk_test_{secrets.token_hex(16)}",
        "stripe_secret": lambda: f"whsec_{secrets.token_hex(16)}",
    }
    missing = {name: make() for name, make in made.items() if name not in kept}
    if missing:
        kept |= missing
        write_private(path, json.dumps(kept, indent=1))
    return kept


def _env_files() -> dict[str, str]:
    """What `.env.local` and `.env` say. Asked of a child, as `config` stands above `sandbox`."""
    program = (
        "import json, os, pathlib; from config.environment import read_env_files; before = dict(os.environ)\n"
        "read_env_files(pathlib.Path('.'))\n"
        "print(json.dumps({name: value for name, value in os.environ.items() if name not in before}))"
    )
    done = subprocess.run([PYTHON, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SandboxError((done.stderr.strip().splitlines() or ["the .env files cannot be read"])[-1])
    result: dict[str, str] = json.loads(done.stdout)
    return result


def _command(name: str) -> str:
    python = Path(PYTHON)
    shown = python.relative_to(ROOT) if python.is_relative_to(ROOT) else python
    return f"{shown} -m sandbox {name}"


def data_directory() -> Path:
    """DATA_DIR, `.data` in the checkout by default."""
    return Path(os.environ.get("DATA_DIR") or ROOT / ".data").absolute()


def run(*, follow_parent: bool = False) -> int:
    """Run the installation in DATA_DIR on HOST:PORT until a signal; the status to exit with."""
    if follow_parent:
        die_with_parent(signal.SIGTERM)
    console = Console(verbose=bool(os.environ.get("VERBOSE")))
    port = os.environ.get("PORT") or "8000"
    if not port.isdecimal() or not 0 < int(port) < 65536:
        console.plain(f"PORT: is {port!r}, expected a number from 1 to 65535")
        return 1
    directory = data_directory()
    directory.mkdir(parents=True, exist_ok=True, mode=0o711 if os.geteuid() == 0 else 0o700)
    (directory / "logs").mkdir(mode=0o700, exist_ok=True)
    host = os.environ.get("HOST") or "127.0.0.1"
    supervisor = Supervisor(directory, host=host, port=int(port), console=console)
    try:
        supervisor.lock.acquire(wait_s=3)
    except AlreadyRunning as error:
        console.plain(f"{error}: it runs already. Stop that one, or set DATA_DIR and PORT for a second installation.")
        return 1
    with contextlib.suppress(KeyboardInterrupt):
        return asyncio.run(supervisor.run())
    return 1


def environment_of(directory: Path) -> dict[str, Any]:
    """The environment of the installation in `directory`, as of its last start. Raises SandboxError."""
    try:
        told: dict[str, Any] = json.loads((directory / "env.json").read_text())
    except OSError:
        raise SandboxError(f"Nothing was ever started in {directory}: make run") from None
    return told
