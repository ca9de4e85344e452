"""What the person at the terminal sees, and the log files beside it."""

import os
import re
import sys
import time
from pathlib import Path

_COLOURS = {
    "postgres": 34,
    "redis": 31,
    "prepare": 37,
    "provider": 35,
    "web": 32,
    "worker": 33,
    "beat": 36,
}
_TROUBLE = re.compile(rb"\b(ERROR|CRITICAL|FATAL|PANIC)\b|\[(error|critical)\s*\]|^Traceback ")
_PAINT = re.compile(rb"\x1b\[[0-9;]*m")
_ROTATE_BYTES = 10 * 1024 * 1024


class Console:
    """Short lines on standard output; nothing fails when that has gone away."""

    def __init__(self, *, verbose: bool = False) -> None:
        self.verbose = verbose
        self.is_coloured = sys.stdout.isatty() and "NO_COLOR" not in os.environ
        self.started_at = time.monotonic()

    def say(self, name: str, text: str) -> None:
        seconds = time.monotonic() - self.started_at
        self.plain(f"{seconds:7.1f}s {self._painted(name)} {text}")

    def plain(self, text: str) -> None:
        try:
            print(text, flush=True)
        except OSError:  # the terminal or the pipe is gone; the children are not
            sys.stdout = Path(os.devnull).open("w")  # noqa: SIM115 - for the rest of this process

    def line_of(self, name: str, line: bytes) -> None:
        """Show a child's line if it is trouble, or all of them when verbose."""
        if self.verbose or _TROUBLE.search(line):
            self.say(name, line.decode(errors="replace").rstrip()[:500])

    def _painted(self, name: str) -> str:
        padded = f"{name:9}"
        return f"\033[{_COLOURS.get(name, 37)}m{padded}\033[0m" if self.is_coloured else padded


def unpainted(line: bytes) -> bytes:
    """The line without terminal colours, for files and for our own patterns."""
    return _PAINT.sub(b"", line) if b"\x1b" in line else line


class LogFile:
    """One child's log, with one older file beside it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._file = path.open("ab", buffering=0)

    def write(self, line: bytes) -> None:
        if self._file.tell() > _ROTATE_BYTES:
            self._file.close()
            self.path.replace(self.path.with_suffix(".log.1"))
            self._file = self.path.open("ab", buffering=0)
        self._file.write(line)

    def tail(self, lines: int = 15) -> str:
        with self.path.open("rb") as file:
            file.seek(max(0, self.path.stat().st_size - 8192))
            return "\n".join("    " + line for line in file.read().decode(errors="replace").splitlines()[-lines:])

    def close(self) -> None:
        self._file.close()
