"""A terminal for pixie, and somebody who types there."""

import fcntl
import os
import pty
import select
import subprocess
import termios
import time

from tests.conftest import BINARY, Pixie


class Terminal:
    """pixie in a terminal, and what a person types there."""

    def __init__(self, pixie: Pixie, *arguments: str) -> None:
        self._ours, theirs = pty.openpty()
        self._said = ""
        self._process = subprocess.Popen(
            [str(BINARY), *arguments], stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True,
            env={**pixie.env, "TERM": "xterm-256color", "COLUMNS": "200"}, cwd=pixie.home,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # noqa: PLW1509 - so that Ctrl-C reaches it
        )  # fmt: skip
        os.close(theirs)

    def __enter__(self) -> "Terminal":
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait(5)
        os.close(self._ours)

    def type(self, text: str) -> None:
        self.send(f"{text}\r")

    def send(self, text: str) -> None:
        os.write(self._ours, text.encode())

    def until(self, words: str) -> None:
        """Wait for words, and forget what was said up to them."""
        deadline = time.monotonic() + 20
        while words not in self._said:
            assert time.monotonic() < deadline, f"not said: {words!r} in {self._said!r}"
            self._read()
        self._said = self._said.partition(words)[2]

    def ended(self, while_sending: str = "") -> int:
        deadline = time.monotonic() + 20
        while self._process.poll() is None:
            assert time.monotonic() < deadline, self._said
            self.send(while_sending)
            self._read()
        return self._process.returncode

    def _read(self) -> None:
        if select.select([self._ours], [], [], 0.1)[0]:
            try:
                self._said += os.read(self._ours, 65536).decode(errors="replace")
            except OSError:
                time.sleep(0.05)
