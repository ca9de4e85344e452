"""The disk is full: PostgreSQL's data lies on a small tmpfs, which fills up under load and is freed again."""

import contextlib
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg

from chaos import proof, rounds
from chaos.ground import Ground
from config.tests.processes import Installation
from config.tests.scripted import Upstream
from sandbox.postgres import Postgres

SIZE = "400m"
LEFT_BYTES = 512 * 1024
FULL_FOR_S = 6.0


def run(seed: int, say: rounds.Say) -> rounds.Outcome:
    if os.geteuid() != 0:
        raise rounds.Skipped("only root may mount the small tmpfs that it needs")
    with (
        Installation() as site,
        _on_small_disk(site.postgres),
        Upstream() as upstream,
        Ground(site, upstream) as ground,
    ):
        with rounds.load_on(ground, seed) as load:
            load.wait_for_answers(100)
            asked = len(load.asked)
            with _full(site.postgres.data):
                say("the disk is full")
                _run_into_it(site)
                refused = [one for one in load.asked[asked:] if one.status == 503]
                is_up = site.postgres.process is not None and site.postgres.process.poll() is None
                say(f"PostgreSQL {'stands' if is_up else 'has fallen'}, {len(refused)} requests were answered 503")
            # As systemd or Kubernetes would, once there is room.
            site.postgres.restart()
            took_s = rounds.recover(ground, load, say)
            say(f"there is room again: served after {took_s:.1f} s")
            load.wait_for_answers(100)
            wrong = proof.promptly(ground, load, asked) + proof.reconciled(ground)
        if not refused:
            wrong.append("nobody was refused while the disk was full: the scenario did not happen")
        return rounds.judge(ground, load, say, wrong)


@contextmanager
def _on_small_disk(postgres: Postgres) -> Iterator[None]:
    """Move the data to a tmpfs of `SIZE`; the server runs again inside the context."""
    postgres.stop()
    aside = postgres.home / "data.aside"
    postgres.data.rename(aside)
    postgres.data.mkdir()
    user = postgres.user
    assert user is not None
    options = f"size={SIZE},mode=0700,uid={user.pw_uid},gid={user.pw_gid}"
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(postgres.data)],
        capture_output=True,
        text=True,
        check=False,
    )
    if mounted.returncode != 0:
        raise rounds.Skipped(f"this machine mounts no tmpfs: {mounted.stderr.strip()}")
    try:
        subprocess.run(["cp", "-a", f"{aside}/.", str(postgres.data)], check=True)
        shutil.rmtree(aside)
        postgres.start()
        yield
    finally:
        postgres.stop()
        subprocess.run(["umount", "-l", str(postgres.data)], check=False)


@contextmanager
def _full(directory: Path) -> Iterator[None]:
    ballast = directory / "ballast"
    with ballast.open("wb") as file:
        free = shutil.disk_usage(directory).free - LEFT_BYTES
        with contextlib.suppress(OSError):
            for _ in range(free // 65_536):
                file.write(bytes(65_536))
    try:
        yield
    finally:
        ballast.unlink()


def _run_into_it(site: Installation) -> None:
    """New segments of the log make sure that it is not only tables which find no room."""
    deadline = time.monotonic() + FULL_FOR_S
    while time.monotonic() < deadline:
        with contextlib.suppress(psycopg.Error):
            site.query("select pg_switch_wal()")
        time.sleep(0.5)
