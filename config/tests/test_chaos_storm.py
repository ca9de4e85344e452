"""A short storm of `make chaos` with a fixed seed: the parts are struck while clients ask, the books proved."""

import itertools
import random

import pytest

from chaos import rounds, strikes
from chaos.ground import Ground
from config.tests.processes import Installation
from config.tests.scripted import Upstream

pytestmark = [pytest.mark.processes, pytest.mark.xdist_group("kills")]

SEED, SECONDS = 51, 6
# Quick ones: nothing that has to start again for seconds (`test_chaos_kills.py` kills workers), and no Celery.
QUICK = [
    strikes.Strike("web", strikes.stop_a_web_worker, (0.5, 1.0)),
    strikes.Strike("postgresql", strikes.restart_postgresql, (0.0, 0.5)),
    strikes.Strike("postgresql", strikes.lose_replies_of_postgresql, (0.5, 1.0)),
    strikes.Strike("redis", strikes.flush_redis, (0.0, 0.2)),
    strikes.Strike("redis", strikes.stop_redis, (0.5, 1.0)),
    strikes.Strike("upstream", strikes.cut_upstream, (0.0, 0.5)),
    strikes.Strike("clients", strikes.clients_leave, (0.0, 0.2)),
]


def test_a_short_storm_leaves_the_books_right(site: Installation, upstream: Upstream) -> None:
    with Ground(site, upstream, has_celery=False) as ground:
        wrong, figures = rounds.storm(ground, seed=SEED, seconds=SECONDS, say=print, strikes=QUICK, clients=8)
    print(figures)
    assert wrong == []
    assert figures["answered whole"] > 40
    assert figures["of them uploads"]
    assert figures["of them Realtime responses"]


def test_every_strike_has_its_turn_before_any_comes_again() -> None:
    names = [one.name for one in strikes.STRIKES]
    for seed in range(20):
        rounds_of_strikes = rounds.deal(random.Random(seed), strikes.STRIKES)
        dealt = itertools.chain.from_iterable(rounds_of_strikes)
        for _ in range(3):
            assert sorted(one.name for one in itertools.islice(dealt, len(names))) == sorted(names)


def test_two_strikes_at_once_are_on_two_parts() -> None:
    pairs = [ones for ones in itertools.islice(rounds.deal(random.Random(1), strikes.STRIKES), 200) if len(ones) == 2]
    assert pairs
    assert all(first.part != second.part and not (first.is_alone or second.is_alone) for first, second in pairs)
