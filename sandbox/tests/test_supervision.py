"""A supervised child: restarted when it dies, ended when we end, and gone when we are killed."""

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sandbox.console import Console, LogFile, unpainted
from sandbox.processes import SandboxError
from sandbox.service import Service, Supervised, birth, bury

ROOT = Path(__file__).resolve().parents[2]
SLEEPER = "import time; print('up', flush=True); time.sleep(600)"


def service(tmp_path, program=SLEEPER, **options) -> Service:
    return Service("dummy", [sys.executable, "-c", program], dict(os.environ), tmp_path, **options)


def pid_of(directory: Path) -> int:
    return json.loads((directory / "run" / "dummy.json").read_text())["pid"]


async def until(condition, seconds=10):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "not in time"
        await asyncio.sleep(0.02)


async def test_a_killed_child_is_started_again(tmp_path):
    child = Supervised(service(tmp_path), tmp_path, Console())
    await child.start()
    first = pid_of(tmp_path)
    os.kill(first, signal.SIGKILL)
    await until(lambda: child.restarts == 1 and pid_of(tmp_path) != first)
    second = pid_of(tmp_path)
    assert birth(second)
    await child.end()
    assert not birth(second)
    assert not (tmp_path / "run" / "dummy.json").exists()


async def test_its_helpers_die_with_it(tmp_path):
    program = (
        "import subprocess, sys, time\n"
        "p = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        "open('helper', 'w').write(str(p.pid))\n"
        "time.sleep(600)"
    )
    child = Supervised(service(tmp_path, program), tmp_path, Console())
    await child.start()
    await until(lambda: (tmp_path / "helper").exists() and (tmp_path / "helper").read_text())
    helper = int((tmp_path / "helper").read_text())
    assert birth(helper)
    os.kill(pid_of(tmp_path), signal.SIGKILL)
    await until(lambda: not birth(helper))
    await child.end()


async def test_a_child_that_ends_before_it_is_ready_is_an_error_with_its_last_words(tmp_path):
    async def never() -> bool:
        return False

    child = Supervised(service(tmp_path, "raise SystemExit('no such thing')", is_ready=never), tmp_path, Console())
    with pytest.raises(SandboxError, match=r"status 1(.|\n)*no such thing"):
        await child.start()


async def test_a_child_that_never_gets_ready_is_an_error(tmp_path):
    async def never() -> bool:
        return False

    child = Supervised(service(tmp_path, is_ready=never, ready_within_s=0.3), tmp_path, Console())
    with pytest.raises(SandboxError, match="not ready"):
        await child.start()
    assert not (tmp_path / "run" / "dummy.json").exists()


async def test_a_child_that_ignores_sigterm_is_killed(tmp_path):
    program = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); open('set', 'w').close(); {SLEEPER}"
    child = Supervised(service(tmp_path, program, stop=[(signal.SIGTERM, 0.3)]), tmp_path, Console())
    await child.start()
    await until((tmp_path / "set").exists)
    pid = pid_of(tmp_path)
    await child.end()
    assert not birth(pid)


def test_children_die_with_a_killed_supervisor_and_the_rest_is_buried(tmp_path):
    program = (
        "import asyncio, os, sys; from pathlib import Path\n"
        "from sandbox.console import Console; from sandbox.service import Service, Supervised\n"
        "stubborn = 'import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)'\n"
        "async def main():\n"
        "    d = Path(sys.argv[1])\n"
        "    s = Service('dummy', [sys.executable, '-c', stubborn], dict(os.environ), d)\n"
        "    c = Supervised(s, d, Console()); await c.start()\n"
        "    await asyncio.sleep(1); print('ready', flush=True); await asyncio.sleep(600)\n"
        "asyncio.run(main())"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as supervisor:
        assert supervisor.stdout.readline().strip() == "ready"
        pid = pid_of(tmp_path)
        supervisor.kill()
    assert birth(pid)  # it ignores the signal that it got
    bury(tmp_path, wait_s=0.3)
    assert not birth(pid)
    bury(tmp_path)  # nothing left: at once


def test_a_reused_process_number_is_not_buried(tmp_path):
    (tmp_path / "run").mkdir()
    with subprocess.Popen([sys.executable, "-c", SLEEPER], stdout=subprocess.DEVNULL) as stranger:
        (tmp_path / "run" / "web.json").write_text(json.dumps({"pid": stranger.pid, "birth": "12"}))
        bury(tmp_path, wait_s=0.3)
        assert stranger.poll() is None
        stranger.kill()


def test_a_log_is_rotated(tmp_path, monkeypatch):
    monkeypatch.setattr("sandbox.console._ROTATE_BYTES", 100)
    log = LogFile(tmp_path / "x.log")
    for _ in range(30):
        log.write(b"0123456789\n")
    assert (tmp_path / "x.log.1").exists()
    assert (tmp_path / "x.log").stat().st_size < 120
    assert "0123456789" in log.tail()
    log.close()


def test_the_console_shows_trouble_and_survives_a_closed_terminal(capsys, monkeypatch):
    console = Console()
    console.line_of("web", b"all is well\n")
    console.line_of("web", unpainted(b"2026-11-20 [\x1b[31m\x1b[1merror    \x1b[0m] something broke\n"))
    shown = capsys.readouterr().out
    assert "something broke" in shown
    assert "all is well" not in shown

    class Gone:
        def write(self, _text):
            raise BrokenPipeError

        def flush(self):
            raise BrokenPipeError

    monkeypatch.setattr(sys, "stdout", Gone())
    console.say("web", "nobody reads this")
    console.say("web", "nor this")
    with contextlib.suppress(AttributeError):
        sys.stdout.close()
