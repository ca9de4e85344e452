"""The simulation behind `docs/scaling.md`: it keeps the books, and the page shows what it prints."""

from dataclasses import replace

import pytest

from bench.hold_sharding import Scenario, simulate, table
from config.tests.manifests import ROOT

BUSY = Scenario(requests_s=3_000, seconds=0.3)


@pytest.mark.parametrize("shards", [1, 3, 16])
@pytest.mark.parametrize("credit", [10**9, 20_000, 250, 0])
def test_credit_is_neither_made_nor_lost(shards, credit):
    ended = simulate(replace(BUSY, shards=shards, credit=credit))
    assert ended.left + ended.charged == credit
    assert ended.charged == ended.admitted * BUSY.charge
    assert ended.left >= 0
    assert len(ended.waits_ms) == ended.admitted + ended.refused


@pytest.mark.parametrize("shards", [1, 4, 16])
def test_nobody_is_refused_whom_the_account_could_pay(shards):
    ended = simulate(replace(BUSY, requests_s=50, shards=shards, credit=100))
    assert ended.admitted >= 1
    assert ended.left < BUSY.hold
    assert simulate(replace(BUSY, shards=shards)).refused == 0


def test_the_same_seed_tells_the_same():
    assert simulate(BUSY) == simulate(BUSY)
    assert simulate(BUSY) != simulate(replace(BUSY, seed=2))


def test_shards_take_the_wait_away():
    one, four = (simulate(replace(BUSY, requests_s=10_000, shards=shards)).percentile(0.99) for shards in (1, 4))
    assert four < one / 2


def test_the_page_has_the_table_that_the_simulation_prints():
    page = (ROOT / "docs" / "scaling.md").read_text()
    for line in table()[:5]:
        assert line in page
