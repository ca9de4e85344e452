"""`make run` as a person meets it: one command, killed in every part, started again."""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import openai
import psycopg
import pytest

from sandbox.processes import free_port
from sandbox.service import birth

ROOT = Path(__file__).resolve().parents[2]
pytestmark = [pytest.mark.processes, pytest.mark.xdist_group("run"), pytest.mark.timeout(600)]
NOT_OURS = "DATABASE_URL REDIS_URL SECRET_KEY DEBUG DB_POOL SITE_URL ALLOWED_HOSTS EMAIL PYTEST"


class Installation:
    """`python -m sandbox run` in a directory of its own."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.output = directory.parent / "output.log"
        self.process: subprocess.Popen[bytes] | None = None

    def env(self, **more: str) -> dict[str, str]:
        own = {name: value for name, value in os.environ.items() if not name.startswith(tuple(NOT_OURS.split()))}
        return {**own, "DATA_DIR": str(self.directory), "PORT": str(self.port), **more}

    def command(self, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
        argv = [sys.executable, "-m", "sandbox", *arguments]
        env = self.env(**more)
        return subprocess.run(argv, cwd=ROOT, env=env, capture_output=True, text=True, timeout=120, check=False)

    def start(self) -> float:
        """Start it; the seconds until it had said where it runs."""
        started_at = time.monotonic()
        with self.output.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "sandbox", "run"], cwd=ROOT, env=self.env(), stdout=output, stderr=output
            )
        self.until(lambda: "Ctrl-C ends" in self.said(), 180)
        return time.monotonic() - started_at

    def stop(self, number: int = signal.SIGTERM) -> float:
        started_at = time.monotonic()
        self.process.send_signal(number)
        self.process.wait(60)
        return time.monotonic() - started_at

    def said(self) -> str:
        text = self.output.read_text()
        assert self.process.poll() is None, f"it ended: {text}"
        return text

    def until(self, condition, seconds: float = 60):
        deadline = time.monotonic() + seconds
        while not (result := condition()):
            assert time.monotonic() < deadline, self.output.read_text()[-3000:]
            time.sleep(0.1)
        return result

    def pid(self, name: str) -> int:
        with contextlib.suppress(OSError, ValueError):
            return json.loads((self.directory / "run" / f"{name}.json").read_text())["pid"]
        return 0

    def is_ready(self) -> bool:
        with contextlib.suppress(httpx.HTTPError):
            return httpx.get(f"{self.url}/ready", timeout=5).status_code == 200
        return False

    def key(self) -> str:
        return re.search(r"API key +(sk-tup-\w+)", self.output.read_text())[1]

    def ask(self, prompt: str = "Hello") -> str:
        with openai.OpenAI(api_key=self.key(), base_url=f"{self.url}/v1", timeout=60) as client:
            stream = client.chat.completions.create(
                model="gpt-4o-mini", messages=[{"role": "user", "content": prompt}], stream=True
            )
            return "".join(chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices)

    def rows(self, statement: str) -> list[tuple]:
        url = json.loads((self.directory / "env.json").read_text())["DATABASE_URL"]
        with psycopg.connect(url) as connection:
            return connection.execute(statement).fetchall()


@pytest.fixture(scope="module")
def installation() -> Iterator[Installation]:
    with tempfile.TemporaryDirectory(prefix="tuppence-run-", ignore_cleanup_errors=True) as name:
        Path(name).chmod(0o711)  # as a checkout is: `nobody` may pass through
        one = Installation(Path(name) / "data")
        one.start()
        yield one
        if one.process.poll() is None:
            one.stop()


def test_it_answers_with_the_key_that_it_printed(installation):
    (past,) = installation.rows("select count(*) from billing_usagerecord where settled_at is not null")[0]
    assert past > 200
    assert "sandbox" in installation.ask()
    with openai.OpenAI(api_key=installation.key(), base_url=f"{installation.url}/v1") as client:
        names = {model.id for model in client.models.list()}
        wanted = {"gpt-4o-mini", "gpt-4.1", "gpt-5.4-mini", "gpt-fast", "gpt-full", "embed", "text-embedding-3-small"}
        assert wanted <= names
        answer = client.embeddings.create(model="embed", input="two pence")
        assert len(answer.data[0].embedding) > 100
    assert installation.rows("select count(*) from billing_usagerecord")[0][0] == past + 2


def test_its_secrets_are_private_and_its_credit_is_granted_once(installation):
    for name in ("secrets.json", "env.json"):
        assert (installation.directory / name).stat().st_mode & 0o777 == 0o600
    grants = "select sum(amount) from billing_transfer where kind = 'grant' and idempotency_key not like 'demo-past:%'"
    assert installation.rows(grants) == [(25_000_000_000,)]


def test_a_second_supervisor_and_a_taken_port_are_refused(installation, tmp_path):
    second = installation.command("run")
    assert second.returncode == 1
    assert "it runs already" in second.stdout
    elsewhere = installation.command("run", DATA_DIR=str(tmp_path / "other"))
    assert elsewhere.returncode == 1
    assert f"Port {installation.port} is taken" in elsewhere.stdout


def test_management_commands_reach_it(installation):
    done = installation.command("manage", "shell", "-c", "from accounts.models import User; print(User.objects.get())")
    assert done.stdout.strip().endswith("demo@example.com"), done.stderr


@pytest.mark.parametrize("name", ["web", "postgres", "redis", "worker", "beat", "provider"])
def test_whatever_is_killed_comes_back(installation, name):
    before = installation.pid(name)
    os.kill(before, signal.SIGKILL)
    installation.until(lambda: installation.pid(name) not in {0, before} and birth(installation.pid(name)))
    installation.until(installation.is_ready)
    installation.until(lambda: f"{name:9} is back" in installation.said())
    assert "sandbox" in installation.ask()


def test_a_killed_supervisor_takes_all_with_it_and_the_next_one_goes_on(installation):
    key, used = installation.key(), installation.rows("select count(*) from billing_usagerecord")[0][0]
    pids = [installation.pid(name) for name in ("postgres", "redis", "provider", "web", "worker", "beat")]
    assert all(birth(pid) for pid in pids)
    installation.process.kill()
    installation.process.wait()
    seconds = installation.start()
    assert not any(birth(pid) for pid in pids)
    assert installation.key() == key
    assert "prepare" not in installation.said()
    assert "sandbox" in installation.ask()
    installation.until(lambda: installation.rows("select count(*) from billing_usagerecord")[0][0] == used + 1)
    assert seconds < 60


def test_a_running_stream_finishes_before_the_end_and_nothing_is_left(installation):
    pids = [installation.pid(name) for name in ("postgres", "redis", "provider", "web", "worker", "beat")]
    with openai.OpenAI(api_key=installation.key(), base_url=f"{installation.url}/v1", timeout=60) as client:
        stream = client.chat.completions.create(
            model="gpt-4o-mini",
            messages=[{"role": "user", "content": "[[words=20; slow=100ms]]"}],
            stream=True,
        )
        parts = iter(stream)
        next(parts)
        installation.process.send_signal(signal.SIGTERM)
        chunks = list(parts)
    assert chunks[-1].choices[0].finish_reason == "stop"
    assert installation.process.wait(40) == 0
    assert not any(birth(pid) for pid in pids)
    assert list((installation.directory / "run").iterdir()) == []
