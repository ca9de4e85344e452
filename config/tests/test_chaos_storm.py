"""A short storm of `make chaos` with a fixed seed: the parts are struck while clients ask, the books proved."""

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
