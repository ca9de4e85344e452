"""What windows of requests and runs of probes say."""

import pytest

from status.judgement import FINE, Window, of_probe, of_traffic, worst
from status.states import State

USUAL = Window(requests=1_000, latency_ms_sum=1_000 * 800)


@pytest.mark.parametrize(
    ("window", "state", "fault"),
    [
        (Window(), State.OPERATIONAL, ""),
        (Window(requests=2, upstream_failures=2), State.OPERATIONAL, ""),  # too few to say
        (Window(requests=3, upstream_failures=3), State.MAJOR_OUTAGE, "upstream"),
        (Window(requests=10, upstream_failures=5), State.MAJOR_OUTAGE, "upstream"),
        (Window(requests=10, upstream_failures=4), State.PARTIAL_OUTAGE, "upstream"),
        (Window(requests=100, our_failures=5), State.DEGRADED_PERFORMANCE, "ours"),
        (Window(requests=1_000, upstream_failures=49, latency_ms_sum=800_000), State.OPERATIONAL, ""),
        (Window(requests=10, upstream_failures=2, our_failures=4), State.MAJOR_OUTAGE, "ours"),
        (Window(requests=10, latency_ms_sum=10 * 2_500), State.DEGRADED_PERFORMANCE, "upstream"),
        (Window(requests=10, latency_ms_sum=10 * 1_900), State.OPERATIONAL, ""),  # slow for it, but quick enough
        (Window(requests=5, latency_ms_sum=5 * 9_000), State.OPERATIONAL, ""),  # too few
    ],
)
def test_traffic(window, state, fault):
    verdict = of_traffic(window, USUAL)
    assert (verdict.state, verdict.fault) == (state, fault)
    assert bool(verdict.reason) == (state is not State.OPERATIONAL)


def test_slow_answers_need_something_to_compare_with():
    assert of_traffic(Window(requests=100, latency_ms_sum=100 * 60_000), Window()) == FINE


@pytest.mark.parametrize(
    ("failures", "latency_ms", "state"),
    [
        (0, 100, State.OPERATIONAL),
        (1, None, State.OPERATIONAL),
        (2, None, State.MAJOR_OUTAGE),
        (0, 6_000, State.DEGRADED_PERFORMANCE),
        (0, None, State.OPERATIONAL),
    ],
)
def test_probes(failures, latency_ms, state):
    verdict = of_probe(failures=failures, error="HTTP 503", latency_ms=latency_ms, slow_ms=5_000, fault="ours")
    assert verdict.state == state


def test_the_worst_counts():
    down = of_probe(failures=9, error="refused", latency_ms=None, slow_ms=1, fault="ours")
    assert worst([FINE, down, FINE]) is down
    assert worst([]) == FINE
