"""One installation of the product for all tests that need its real processes."""

import os
import random
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser

from config.tests import chromium, storm
from config.tests.processes import Installation, Service
from config.tests.scripted import Upstream

# What the showroom sells: nano-dollars per token, in and out.
SHOWN = {"gpt-fast": (300, 1_200), "gpt-slow": (2_000, 8_000)}
_installations: list[Installation] = []
_LOGGED = pytest.StashKey[dict[Path, int]]()  # how long each log was when the test began


@pytest.fixture(scope="session")
def installation() -> Iterator[Installation]:
    """PostgreSQL and Redis of its own, migrated; shared by tests that each make their own organizations."""
    with Installation() as site:
        _installations.append(site)
        yield site
        _installations.remove(site)


@pytest.fixture(scope="module", autouse=True)
def end_of_services() -> Iterator[None]:
    """What a module has started ends with it: dozens of idle processes would slow the tests that follow."""
    yield
    for site in _installations:
        site.end_services()


@pytest.fixture(scope="session")
def showroom() -> Iterator[Installation]:
    """An installation for the pages alone: other tests sell other models of these names."""
    with Installation() as made:
        yield made


@pytest.fixture(scope="session")
def pages(showroom: Installation, upstream: Upstream) -> Service:
    """The showroom's web worker as in production: static files collected, compressed and named by their content."""
    for name, (paid_in, paid_out) in SHOWN.items():
        prices = {"input": paid_in, "output": paid_out}
        showroom.clerk.model(name=name, base_url=upstream.base_url, upstream_name="m", prices=prices)
    showroom.manage("collectstatic", "--noinput", "--verbosity", "0")
    return showroom.web(DEMO_LOGIN="demo@example.com tuppence-demo").shared()


@pytest.fixture
def site(installation: Installation) -> Installation:
    """The shared installation."""
    return installation


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A page on a machine that is busy with everything else gets a second try; the summary tells why it took one."""
    for item in items:
        if item.get_closest_marker("browser"):
            item.add_marker(pytest.mark.flaky(reruns=1))


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    logs = [service.log for site in _installations for service in site.services]
    item.stash[_LOGGED] = {log: log.stat().st_size for log in logs if log.exists()}


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Beside a failure stands what the services have logged since the test began."""
    report = yield
    site = getattr(item, "funcargs", {}).get("installation")
    if report.failed and isinstance(site, Installation):
        before = item.stash.get(_LOGGED, {})
        for service in site.services:
            if words := service.last_words(15, since=before.get(service.log, 0)):
                report.sections.append((f"log of {service.name}", words))
    return report


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A Chromium with a microphone; of a module, because asyncio has no room beside it."""
    with chromium.started(*chromium.MICROPHONE) as made:
        yield made


@pytest.fixture(scope="session")
def upstream() -> Iterator[Upstream]:
    """An upstream that does what a prompt tells it."""
    with Upstream() as server:
        yield server


@pytest.fixture(scope="session")
def llama(installation: Installation) -> Service:
    """A real llama.cpp server for chat and completions."""
    return installation.llama().shared()


@pytest.fixture(scope="session")
def llama_embeddings(installation: Installation) -> Service:
    return installation.llama(embeddings=True).shared()


@pytest.fixture(scope="session")
def web(installation: Installation) -> Service:
    """One web worker with short deadlines towards its upstreams."""
    return installation.web(
        GATEWAY_FIRST_BYTE_TIMEOUT_S="2",
        GATEWAY_IDLE_TIMEOUT_S="2",
        GATEWAY_TOTAL_TIMEOUT_S="20",
        GATEWAY_DRAIN_TIMEOUT_S="5",
    ).shared()


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
