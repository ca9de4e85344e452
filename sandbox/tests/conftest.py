"""The simulated provider on a real socket, in a thread of the test process."""

import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from sandbox.processes import free_port
from sandbox.provider.app import Provider, server

KEY = "sandbox-key-for-tests"


@dataclass(frozen=True)
class Running:
    port: int
    provider: Provider
    key: str = KEY

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"


@pytest.fixture(scope="session")
def running() -> Iterator[Running]:
    provider = Provider(KEY)
    port = free_port()
    one = server(provider, port)
    thread = threading.Thread(target=one.run, daemon=True)
    thread.start()
    deadline = time.monotonic() + 10
    while not one.started and time.monotonic() < deadline:
        time.sleep(0.01)
    yield Running(port, provider)
    one.should_exit = True
    thread.join(10)
