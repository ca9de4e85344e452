"""Running the probes that are due. Each has a deadline; what fails is a fact about the service, never an error here."""

import base64
import secrets
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from urllib.parse import urljoin

import httpx
import redis
from django.conf import settings
from django.core.files.storage import default_storage
from django.db import connection
from django.utils import timezone

from status.models import Check

PARALLEL = 8
LONGEST_QUEUE = 1_000
ERROR_SIZE = 200


class ProbeFailed(Exception):
    """The probe found the service down; the message says how, without secrets."""


def run_due() -> int:
    """Run every enabled check whose time has come and note what it found; returns how many."""
    now = timezone.now()
    due = list(Check.objects.filter(is_enabled=True, next_at__lte=now))
    if not due:
        return 0
    with ThreadPoolExecutor(max_workers=PARALLEL) as pool:
        found = list(pool.map(probe, due))
    done = timezone.now()
    for check, (error, latency_ms) in zip(due, found, strict=True):
        check.failures = check.failures + 1 if error else 0
        check.error = error
        check.latency_ms = latency_ms
        check.checked_at = done
        check.next_at = now + timedelta(seconds=check.interval_s)
    Check.objects.bulk_update(due, ["failures", "error", "latency_ms", "checked_at", "next_at"])
    return len(due)


def is_configured(check: Check) -> bool:
    """Whether this installation has what the check looks at."""
    if check.kind in {Check.Kind.CACHE, Check.Kind.QUEUE}:
        return bool(settings.REDIS_URL)
    if check.kind == Check.Kind.COMPLETION:
        return bool(settings.STATUS_API_KEY)
    return True


def probe(check: Check) -> tuple[str, int | None]:
    """(error, latency in ms): an empty error is a success."""
    if not is_configured(check):
        return "", None
    started = time.perf_counter()
    try:
        _PROBES[Check.Kind(check.kind)](check)
    except ProbeFailed as error:
        return str(error)[:ERROR_SIZE], None
    except Exception as error:  # whatever a driver raises is the finding
        return type(error).__name__[:ERROR_SIZE], None
    return "", round((time.perf_counter() - started) * 1000)


def _http(check: Check) -> None:
    answer = httpx.get(urljoin(settings.SITE_URL, check.target), timeout=check.timeout_s, follow_redirects=False)
    if answer.status_code >= 500:
        raise ProbeFailed(f"HTTP {answer.status_code}")


def _websocket(check: Check) -> None:
    """A handshake without a key: to be asked for one is a sign of life (RFC 6455, section 4.2.2)."""
    headers = {
        "connection": "Upgrade",
        "upgrade": "websocket",
        "sec-websocket-version": "13",
        "sec-websocket-key": base64.b64encode(secrets.token_bytes(16)).decode(),
    }
    answer = httpx.get(urljoin(settings.SITE_URL, check.target), headers=headers, timeout=check.timeout_s)
    if answer.status_code not in {101, 401}:
        raise ProbeFailed(f"HTTP {answer.status_code}")


def _tcp(check: Check) -> None:
    host, _, port = check.target.rpartition(":")
    with socket.create_connection((host.strip("[]"), int(port)), timeout=check.timeout_s):
        pass


def _completion(check: Check) -> None:
    answer = httpx.post(
        f"{settings.SITE_URL}/v1/chat/completions",
        headers={"authorization": f"Bearer {settings.STATUS_API_KEY}", "x-user-id": "status-probe"},
        json={"model": check.target, "messages": [{"role": "user", "content": "ping"}], "max_tokens": 1},
        timeout=check.timeout_s,
    )
    if answer.status_code != 200:
        raise ProbeFailed(f"HTTP {answer.status_code}")


def _database(check: Check) -> None:
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
    finally:
        connection.close()  # this thread's own


def _cache(check: Check) -> None:
    with redis.Redis.from_url(settings.REDIS_URL, socket_timeout=check.timeout_s) as client:
        client.ping()


def _queue(check: Check) -> None:
    with redis.Redis.from_url(settings.REDIS_URL, socket_timeout=check.timeout_s) as client:
        waiting = client.llen("celery")
    if waiting > LONGEST_QUEUE:
        raise ProbeFailed(f"{waiting} tasks wait")


def _storage(check: Check) -> None:
    default_storage.exists("status-probe")


_PROBES = {
    Check.Kind.HTTP: _http,
    Check.Kind.WEBSOCKET: _websocket,
    Check.Kind.TCP: _tcp,
    Check.Kind.COMPLETION: _completion,
    Check.Kind.DATABASE: _database,
    Check.Kind.CACHE: _cache,
    Check.Kind.STORAGE: _storage,
    Check.Kind.QUEUE: _queue,
}
