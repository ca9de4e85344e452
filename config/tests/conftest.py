"""One installation of the product for all tests that need its real processes."""

import os
import random
from collections.abc import Generator, Iterator
from typing import Any

import pytest

from config.tests import storm
from config.tests.processes import Installation, Service
from config.tests.scripted import Upstream


@pytest.fixture(scope="session")
def installation() -> Iterator[Installation]:
    """PostgreSQL and Redis of its own, migrated; shared by tests that each make their own organizations."""
    with Installation() as site:
        yield site


@pytest.fixture
def site(installation: Installation) -> Installation:
    """The shared installation; with a failed test the end of each of its logs is shown."""
    return installation


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    site = getattr(item, "funcargs", {}).get("installation")
    if report.failed and isinstance(site, Installation):
        report.sections += [(f"log of {service.name}", service.last_words()) for service in site.services]
    return report


@pytest.fixture(scope="session")
def upstream() -> Iterator[Upstream]:
    """An upstream that does what a prompt tells it."""
    with Upstream() as server:
        yield server


@pytest.fixture(scope="session")
def llama(installation: Installation) -> Service:
    """A real llama.cpp server for chat and completions."""
    return installation.llama()


@pytest.fixture(scope="session")
def llama_embeddings(installation: Installation) -> Service:
    return installation.llama(embeddings=True)


@pytest.fixture(scope="session")
def web(installation: Installation) -> Service:
    """One web worker with short deadlines towards its upstreams."""
    return installation.web(
        GATEWAY_FIRST_BYTE_TIMEOUT_S="2",
        GATEWAY_IDLE_TIMEOUT_S="2",
        GATEWAY_TOTAL_TIMEOUT_S="20",
        GATEWAY_DRAIN_TIMEOUT_S="5",
    )


@pytest.fixture
def seed() -> int:
    """The seed of a random test, printed; `CHAOS_SEED=…` runs one again."""
    number = int(os.environ.get("CHAOS_SEED") or random.SystemRandom().randrange(10**6))
    print(f"CHAOS_SEED={number}")
    return number


@pytest.fixture(scope="session")
def storm_model(installation: Installation, upstream: Upstream) -> None:
    prices = {"input": storm.INPUT, "output": storm.OUTPUT}
    installation.clerk.model(name=storm.MODEL, base_url=upstream.base_url, upstream_name="m", prices=prices)


@pytest.fixture
def storm_customer(site: Installation) -> dict[str, Any]:
    """An organization that can pay for any storm."""
    record: dict[str, Any] = site.clerk.organization(name="storm", credit_nanos=storm.CREDIT)
    return record
