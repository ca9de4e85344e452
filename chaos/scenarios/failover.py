"""Failover by promotion: PostgreSQL's standby takes over under load, and no acknowledged commit is lost.

Replication is synchronous, as it must be where a failover may lose nothing: a capture waits until the standby has it.
"""

import json
import os
import random
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

from chaos import proof, rounds
from chaos.ground import Ground
from config.tests.processes import Installation, wait_for
from config.tests.scripted import Upstream
from sandbox.postgres import Postgres
from sandbox.processes import spawn, write_private


class Standby(Postgres):
    """A streaming copy of `primary`, made by pg_basebackup when it is started first."""

    def __init__(self, directory: Path, primary: Postgres) -> None:
        super().__init__(directory, durable=primary.durable)
        self._primary = primary
        if not (self.home / "secrets.json").exists():
            write_private(self.home / "secrets.json", json.dumps(primary._secrets))

    def _initialise(self) -> None:
        temporary = Path(tempfile.mkdtemp(dir=self.home, prefix="data.new-"))
        if self.user is not None:
            os.chown(temporary, self.user.pw_uid, self.user.pw_gid)
        argv = [str(self._binaries / "pg_basebackup"), "-h", "127.0.0.1", "-p", str(self._primary.port)]
        argv += ["-U", "postgres", "-D", str(temporary), "-R", "-X", "stream", "-c", "fast"]
        environment = {**self.environment(), "PGPASSWORD": self._secrets["superuser"], "HOME": str(self.home)}
        with tempfile.TemporaryFile() as output:
            process = spawn(argv, output=output, cwd=self.home, env=environment, user=self.user)
            if process.wait(120) != 0:
                output.seek(0)
                shutil.rmtree(temporary, ignore_errors=True)
                raise subprocess.SubprocessError(output.read().decode(errors="replace")[-600:])
        temporary.rename(self.data)


def run(seed: int, say: rounds.Say) -> rounds.Outcome:
    """Both ways to lose a primary, each on an installation of its own."""
    chance = random.Random(seed)
    wrong: list[str] = []
    figures: dict[str, Any] = {}
    for is_killed in chance.sample([True, False], 2):
        found, figures["killed" if is_killed else "cut off"] = _lose(seed, say, chance, is_killed=is_killed)
        wrong += found
    return wrong, figures


def _lose(seed: int, say: rounds.Say, chance: random.Random, *, is_killed: bool) -> rounds.Outcome:
    with Installation(durable=True) as site, Upstream() as upstream, Ground(site, upstream) as ground:
        standby = Standby(site.home / "standby", site.postgres)
        try:
            standby.start()
            _replicate_synchronously(site)
            say("the standby follows, synchronously")
            with rounds.load_on(ground, seed) as load:
                load.wait_for_answers(100)
                time.sleep(chance.random())
                asked, began = len(load.asked), time.monotonic()
                say(_fail_over(ground, standby, is_killed=is_killed))
                rounds.recover(ground, load, say)
                took_s = time.monotonic() - began
                say(f"served again {took_s:.1f} s after the primary was lost")
                load.wait_for_answers(100)
                wrong = proof.promptly(ground, load, max(0, asked - 500)) + proof.reconciled(ground)
            wrong, figures = rounds.judge(ground, load, say, wrong)
            return wrong, figures | {"served again after, s": round(took_s, 1)}
        finally:
            standby.destroy()


def _replicate_synchronously(site: Installation) -> None:
    site.query("alter system set synchronous_standby_names = '*'")
    site.query("select pg_reload_conf()")

    def is_synchronous() -> bool:
        return bool(site.query("select 1 from pg_stat_replication where sync_state = 'sync' and state = 'streaming'"))

    wait_for(is_synchronous, timeout_s=60, what="the standby follows synchronously")


def _fail_over(ground: Ground, standby: Postgres, *, is_killed: bool) -> str:
    """The primary is lost, killed or behind a network; the standby is promoted and the line leads to it."""
    primary = ground.site.postgres
    assert primary.process is not None
    line = ground.postgres_line
    line.target = standby.port
    if is_killed:
        os.kill(primary.process.pid, signal.SIGKILL)  # its backends end when they miss it
    line.cut()
    ground.site.move_to(standby)
    assert ground.site.query("select pg_promote(true, 60) as done")[0]["done"]
    lost = "primary's postmaster is killed (kill -9)" if is_killed else "primary is cut off and runs on"
    return f"the {lost}; the standby is promoted"
