"""The real `pixie`, run as a program, against an HTTP server that answers by a script."""

import contextlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest

BINARY = Path(sys.executable).parent / "pixie"
KEY = "sk-tup-" + "0" * 50


@dataclass
class Asked:
    """One request that came."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def bearer(self) -> str:
        return self.headers.get("authorization", "").removeprefix("Bearer ")


@dataclass
class Answer:
    """One answer: a JSON body unless it is bytes; `None` hangs up without a word."""

    body: Any = None
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    content_type: str = "application/json"
    is_dropped: bool = False


class Server:
    """Answers `(method, path)` by what was scripted: the answers in turn, the last one again and again."""

    def __init__(self) -> None:
        self.asked: list[Asked] = []
        self._scripts: dict[tuple[str, str], list[Answer | Callable[[Asked], Answer]]] = {}
        handler = type("Handler", (_Handler,), {"server_of_test": self})
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._http.daemon_threads = True
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._http.server_address[1]}"

    def on(self, method: str, path: str, *answers: Any) -> None:
        """Script answers; what is neither an `Answer` nor a function is a JSON body with 200."""
        made = [one if isinstance(one, Answer) or callable(one) else Answer(one) for one in answers]
        self._scripts[method, path] = made

    def calls(self, path: str) -> list[Asked]:
        return [one for one in self.asked if one.path == path]

    def answer(self, asked: Asked) -> Answer:
        self.asked.append(asked)
        script = self._scripts.get((asked.method, asked.path))
        if not script:
            told = {"message": f"Unknown request URL: {asked.method} {asked.path}.", "code": "unknown_url"}
            return Answer({"error": told}, 404)
        chosen = script[0] if len(script) == 1 else script.pop(0)
        return chosen(asked) if callable(chosen) else chosen

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()
        self._thread.join(5)


class _Handler(BaseHTTPRequestHandler):
    server_of_test: Server

    def handle_any(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        address = urlsplit(self.path)
        headers = {name.lower(): value for name, value in self.headers.items()}
        answer = self.server_of_test.answer(
            Asked(self.command, address.path, dict(parse_qsl(address.query)), headers, body)
        )
        self.close_connection = True
        if answer.is_dropped:
            return
        sent = answer.body if isinstance(answer.body, bytes) else json.dumps(answer.body).encode()
        self.send_response(answer.status)
        for name, value in {"content-type": answer.content_type, "connection": "close", **answer.headers}.items():
            self.send_header(name, value)
        self.send_header("content-length", str(len(sent)))
        with contextlib.suppress(BrokenPipeError):  # a client that was told to stop
            self.end_headers()
            self.wfile.write(sent)

    do_GET = do_POST = do_DELETE = do_PATCH = handle_any

    def log_message(self, format: str, *args: Any) -> None:
        pass


@dataclass
class Ran:
    """What a run of pixie came to."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def error(self) -> dict[str, Any]:
        told: dict[str, Any] = json.loads(self.err.splitlines()[-1])["error"]
        return told


@dataclass
class Pixie:
    """Runs the installed program with settings of its own."""

    home: Path
    env: dict[str, str]

    def __call__(self, *arguments: object, stdin: str = "", **more: str) -> Ran:
        done = subprocess.run(
            [str(BINARY), *(str(one) for one in arguments)], input=stdin, capture_output=True, text=True, check=False,
            timeout=60, cwd=self.home, env={**self.env, **more},
        )  # fmt: skip
        return Ran(done.returncode, done.stdout, done.stderr)


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    yield made
    made.close()


@pytest.fixture
def anonymous(tmp_path: Path, server: Server) -> Pixie:
    """Nobody signed in; secrets go to a file."""
    env = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "PIXIE_API_URL": server.url,
        "PIXIE_CONFIG_DIR": str(tmp_path / "config"),
        "PIXIE_CREDENTIALS": "file",
        "PIXIE_NO_BROWSER": "1",
        "PYTHONWARNINGS": "error",
    }
    home = tmp_path / "work"
    home.mkdir()
    return Pixie(home, env)


@pytest.fixture
def pixie(anonymous: Pixie) -> Pixie:
    """With a key in the environment."""
    anonymous.env["PIXIE_API_KEY"] = KEY
    return anonymous
