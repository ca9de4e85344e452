"""Child processes that are ours: they die with us, drop root where they must, and leave nothing behind.

Start them from the main thread: Linux ties the parent-death signal to the thread that forked.
"""

import contextlib
import ctypes
import fcntl
import os
import pwd
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, MutableMapping
from pathlib import Path
from typing import Any

_PR_SET_PDEATHSIG = 1
_IS_LINUX = sys.platform == "linux"
_libc = ctypes.CDLL(None, use_errno=True) if _IS_LINUX else None


class SandboxError(Exception):
    """Something of the sandbox cannot start; the message is one line for the person at the console."""


class AlreadyRunning(SandboxError):
    """Another process of ours holds this directory."""


class Lock:
    """An exclusive lock on a directory, held by this process until `release` or its death."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._fd: int | None = None

    def acquire(self, wait_s: float = 0) -> None:
        """Take the lock, waiting up to `wait_s`; raises AlreadyRunning. A second call is a no-op."""
        if self._fd is not None:
            return
        fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        deadline = time.monotonic() + wait_s
        while True:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    holder = os.pread(fd, 20, 0).decode(errors="replace").strip()
                    os.close(fd)
                    raise AlreadyRunning(f"{self.path.parent} is in use by process {holder or 'unknown'}") from None
                time.sleep(0.1)
        os.ftruncate(fd, 0)
        os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
        self._fd = fd

    def release(self) -> None:
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None


def die_with_parent(death_signal: int) -> None:
    """Ask Linux to send `death_signal` to this process when its parent dies; elsewhere do nothing."""
    if _libc is not None:
        _libc.prctl(_PR_SET_PDEATHSIG, death_signal, 0, 0, 0)


def child_setup(*, user: pwd.struct_passwd | None, death_signal: int) -> Callable[[], None]:
    """A `preexec_fn`: become `user` if given, then die with the parent. The order matters: setuid clears the signal."""
    parent = os.getpid()

    def setup() -> None:
        if user is not None:
            os.setgroups([])
            os.setgid(user.pw_gid)
            os.setuid(user.pw_uid)
        die_with_parent(death_signal)
        if os.getppid() != parent:  # it died before we asked
            os._exit(1)

    return setup


def spawn(
    argv: list[str],
    *,
    output: Any,
    cwd: Path | None = None,
    env: dict[str, str] | None = None,
    user: pwd.struct_passwd | None = None,
    death_signal: int = signal.SIGTERM,
) -> subprocess.Popen[bytes]:
    """Start `argv` in a session of its own (Ctrl-C reaches only us), writing to `output`."""
    return subprocess.Popen(
        argv,
        cwd=cwd,
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        preexec_fn=child_setup(user=user, death_signal=death_signal),  # noqa: PLW1509 - started before any thread
    )


def end(process: subprocess.Popen[bytes], signals: list[tuple[int, float]]) -> None:
    """Send each signal in turn, waiting its seconds, until the process has ended; SIGKILL at last."""
    for number, wait_s in [*signals, (signal.SIGKILL, 30.0)]:
        if process.poll() is not None:
            return
        process.send_signal(number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(wait_s)
            return


def nobody() -> pwd.struct_passwd | None:
    """The user that a server which refuses root runs as; None when we are not root."""
    return pwd.getpwnam("nobody") if os.geteuid() == 0 else None


def can(user: pwd.struct_passwd | None, shell_test: str, *arguments: str) -> bool:
    """Whether the shell line `shell_test` (arguments as $1…) succeeds as `user`."""
    result = subprocess.run(
        ["/bin/sh", "-c", shell_test, "sh", *arguments],
        cwd="/",
        check=False,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        preexec_fn=child_setup(user=user, death_signal=signal.SIGKILL),
    )
    return result.returncode == 0


def living_in(directory: Path) -> list[int]:
    """Live processes (zombies excluded) whose working directory is `directory`; [] where /proc is missing."""
    found = []
    target = str(directory.resolve())
    for entry in _numbered(Path("/proc")):
        with contextlib.suppress(OSError):  # gone meanwhile, a zombie, or another user's
            if os.readlink(entry / "cwd") == target and entry.name != str(os.getpid()):
                found.append(int(entry.name))
    return found


def _numbered(proc: Path) -> Iterator[Path]:
    if proc.is_dir():
        yield from (entry for entry in proc.iterdir() if entry.name.isdigit())


def wait_until_empty(directory: Path, *, signals: tuple[int, ...], each_s: float = 10.0) -> None:
    """Wait for left-over servers of an earlier run (their supervisor is dead: we hold its lock) to leave `directory`.

    They have been told to stop by the parent-death signal; after `each_s` they are told again, with each of `signals`.
    """
    for number in (None, *signals):
        if number is not None:
            for pid in living_in(directory):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, number)
        deadline = time.monotonic() + each_s
        while living_in(directory):
            if time.monotonic() > deadline:
                break
            time.sleep(0.05)
        else:
            return
    raise SandboxError(f"processes {living_in(directory)} still use {directory}")


def is_port_free(port: int, host: str = "127.0.0.1") -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
        return True


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def remembered_port(path: Path) -> int:
    """The port written in `path` if it is still free, else a free one, written there."""
    with contextlib.suppress(OSError, ValueError):
        port = int(path.read_text())
        if is_port_free(port):
            return port
    port = free_port()
    write_private(path, f"{port}\n")
    return port


def keep_bytecode(environment: MutableMapping[str, str], directory: Path) -> None:
    """Where Python may keep no bytecode, have it kept in `directory`: else each process compiles all of the code again.

    Containers commonly set PYTHONDONTWRITEBYTECODE; a process that starts cold takes three times as long.
    """
    if environment.pop("PYTHONDONTWRITEBYTECODE", ""):
        environment.setdefault("PYTHONPYCACHEPREFIX", str(directory))


def write_private(path: Path, text: str, *, user: pwd.struct_passwd | None = None) -> None:
    """Write `path` whole or not at all, readable by its owner only."""
    fd, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")  # mode 0600
    try:
        with os.fdopen(fd, "w") as file:
            file.write(text)
        if user is not None:
            os.chown(temporary, user.pw_uid, user.pw_gid)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
