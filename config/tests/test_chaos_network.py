"""The network between the gateway and PostgreSQL: cut, silent, slow, and losing answers to commits that were made.

After a lost answer nobody knows whether the commit happened. Holds and captures are repeated under the same ids, so the
books must come out as if it had happened once.
"""

import random
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import pytest

from config.tests import storm
from config.tests.processes import Installation, Service
from config.tests.scripted import Upstream
from config.tests.tcp_proxy import TcpProxy

pytestmark = [pytest.mark.processes, pytest.mark.xdist_group("network")]


@pytest.fixture
def line(site: Installation) -> Iterator[TcpProxy]:
    with TcpProxy(site.postgres.port) as proxy:
        yield proxy


@pytest.fixture
def far_worker(site: Installation, storm_model: None, line: TcpProxy) -> Iterator[Service]:
    """A web worker that reaches PostgreSQL through the proxy only."""
    parts = urlsplit(site.database_url)
    netloc = f"{parts.username}:{parts.password}@127.0.0.1:{line.port}"
    service = site.web(DATABASE_URL=urlunsplit(parts._replace(netloc=netloc)))
    yield service
    line.is_stalled, line.lost_replies, line.delay_s = False, 0.0, 0.0
    service.stop()


def test_answers_to_commits_that_are_lost_are_asked_for_again_and_counted_once(
    site: Installation,
    far_worker: Service,
    line: TcpProxy,
    storm_customer: dict[str, Any],
    upstream: Upstream,
    seed: int,
) -> None:
    with storm.Storm(site, far_worker, storm_customer["secret"], seed) as weather:
        weather.wait_for_answers(20)
        line.lost_replies = 0.05
        deadline = time.monotonic() + 20
        while line.lost < 15 and time.monotonic() < deadline:
            time.sleep(0.1)
        line.lost_replies = 0.0
        weather.wait_for_answers(40)
    assert line.lost >= 5
    assert {seen.status for seen in weather.seen if seen.status} <= {200, 503}
    storm.sweep(site)
    print(line.lost, storm.prove(weather, storm_customer, upstream, credit=storm.CREDIT))


def test_a_line_that_is_cut_again_and_again(
    site: Installation,
    far_worker: Service,
    line: TcpProxy,
    storm_customer: dict[str, Any],
    upstream: Upstream,
    seed: int,
) -> None:
    chance = random.Random(seed)
    with storm.Storm(site, far_worker, storm_customer["secret"], seed) as weather:
        weather.wait_for_answers(20)
        for _ in range(8):
            time.sleep(chance.random() * 0.4)
            line.cut()
        weather.wait_for_answers(40)
    storm.sweep(site)
    print(storm.prove(weather, storm_customer, upstream, credit=storm.CREDIT))


def test_a_line_that_falls_silent_and_then_slow(
    site: Installation,
    far_worker: Service,
    line: TcpProxy,
    storm_customer: dict[str, Any],
    upstream: Upstream,
    seed: int,
) -> None:
    with storm.Storm(site, far_worker, storm_customer["secret"], seed) as weather:
        weather.wait_for_answers(20)
        line.is_stalled = True
        time.sleep(3)
        line.is_stalled = False
        weather.wait_for_answers(20)
        line.delay_s = 0.05
        weather.wait_for_answers(40)
        line.delay_s = 0.0
    assert {seen.status for seen in weather.seen if seen.status} <= {200, 503}
    storm.sweep(site)
    print(storm.prove(weather, storm_customer, upstream, credit=storm.CREDIT))
