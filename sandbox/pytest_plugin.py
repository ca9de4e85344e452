"""Gives the tests a PostgreSQL and a Redis of their own, and the settings, before Django reads them.

Loaded with `-p sandbox.pytest_plugin` so that it comes before pytest-django. The controller of an xdist run starts one
of each in a temporary directory; its workers inherit the addresses and take a test database and a Redis database each.
With DATABASE_URL / REDIS_URL in the environment nothing is started for it.
"""

import atexit
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import psycopg
import pytest

from sandbox.postgres import ROLE, Postgres
from sandbox.processes import keep_bytecode
from sandbox.redis import DATABASES, Redis

_SETTINGS = {
    "SECRET_KEY": "test-secret-key-that-is-long-enough-0123456789",
    "DEBUG": "1",
    "DB_POOL_SIZE": "0",
    "EMAIL_URL": "dummy:",
    "LOG_LEVEL": "warning",
    "SITE_URL": "http://localhost:8000",
    "ALLOWED_HOSTS": "localhost,127.0.0.1,testserver",
}
MIGRATED = "SANDBOX_TEST_MIGRATED"  # where a migrated cluster may lie for all installations of this run
_OWN_REDIS = "SANDBOX_TEST_REDIS"  # set by the controller when the Redis is ours: workers may then choose databases
_NO_SERVERS = {"-h", "--help", "--version", "-V", "--fixtures", "--markers", "--collect-only", "--co"}
_running: list[Postgres | Redis] = []
_directories: list[tempfile.TemporaryDirectory[str]] = []


@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests(args: list[str]) -> None:
    for name, value in _SETTINGS.items():
        os.environ.setdefault(name, value)
    worker = os.environ.get("PYTEST_XDIST_WORKER", "")
    if worker:
        if os.environ.get(_OWN_REDIS):
            number = int(worker.removeprefix("gw")) + 1
            os.environ["REDIS_URL"] = _with_database(os.environ["REDIS_URL"], number % DATABASES)
        return
    if _NO_SERVERS.intersection(args):
        os.environ.setdefault("DATABASE_URL", "postgres://none@127.0.0.1:1/none")
        return
    atexit.register(_stop)  # not pytest_unconfigure, which a broken settings module would skip
    if "PYTHONDONTWRITEBYTECODE" in os.environ:
        keep_bytecode(os.environ, _new_home() / "bytecode")
    os.environ[MIGRATED] = str(_new_home() / "migrated")
    _start_missing()


def _start_missing() -> None:
    missing = [name for name in ("DATABASE_URL", "REDIS_URL") if not os.environ.get(name)]
    if not missing:
        return
    home = _new_home()
    if "DATABASE_URL" in missing:
        postgres = Postgres(home / "postgres", durable=False)
        _running.append(postgres)
        os.environ["DATABASE_URL"] = postgres.start()
        # Emptying the append-only tables between tests needs their triggers off, which an ordinary role may not.
        with psycopg.connect(postgres.superuser_url(), autocommit=True) as connection:
            connection.execute(f"GRANT SET ON PARAMETER session_replication_role TO {ROLE}")
    if "REDIS_URL" in missing:
        redis = Redis(home / "redis", durable=False)
        _running.append(redis)
        os.environ["REDIS_URL"] = redis.start()
        os.environ[_OWN_REDIS] = "1"


def _new_home() -> Path:
    directory = tempfile.TemporaryDirectory(prefix="tuppence-tests-", ignore_cleanup_errors=True)
    _directories.append(directory)
    home = Path(directory.name)
    home.chmod(0o711)  # PostgreSQL may have to run as `nobody`
    return home


def _stop() -> None:
    while _running:
        _running.pop().destroy()
    while _directories:
        _directories.pop().cleanup()


def _with_database(url: str, number: int) -> str:
    return urlunsplit(urlsplit(url)._replace(path=f"/{number}"))


@pytest.fixture
def redis_url() -> Iterator[str]:
    """The URL of this worker's Redis database, empty."""
    import redis  # noqa: PLC0415 - only tests that ask for it pay for it

    url = os.environ["REDIS_URL"]
    with redis.Redis.from_url(url) as client:
        client.flushdb()
        yield url
        client.flushdb()
