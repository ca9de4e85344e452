"""Uptime arithmetic on hand-made histories: gaps, midnight, time zones, rounding."""

from datetime import UTC, date, datetime, timedelta, timezone
from itertools import pairwise

import pytest

from status.states import State
from status.uptime import Observation, Tally, basis_points, by_day, last_days, percent, tally

UP, SLOW, PARTIAL, DOWN = State
NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)
DAY = date(2026, 11, 20)


def every(seconds: int, states: list[State], start: datetime = NOON) -> list[Observation]:
    return [Observation(start + timedelta(seconds=seconds * n), state) for n, state in enumerate(states)]


def test_each_observation_lasts_until_the_next():
    found = tally(every(60, [UP, UP, DOWN, PARTIAL, SLOW]), NOON + timedelta(seconds=300))
    assert found == {DAY: Tally(operational=120, degraded=60, partial=60, major=60)}


def test_what_nobody_saw_is_a_gap_and_neither_up_nor_down():
    history = [Observation(NOON, UP), Observation(NOON + timedelta(hours=1), UP)]
    found = tally(history, NOON + timedelta(hours=2))
    assert found == {DAY: Tally(operational=180)}  # 90 s after each of the two
    assert basis_points(found.values()) == 10_000


def test_days_are_cut_at_midnight_in_utc():
    start = datetime(2026, 11, 20, 23, 59, 30, tzinfo=UTC)
    found = tally([Observation(start, DOWN)], start + timedelta(seconds=75))
    assert found == {DAY: Tally(major=30), DAY + timedelta(days=1): Tally(major=45)}


def test_other_time_zones_are_the_same_moments():
    tokyo = timezone(timedelta(hours=9))
    start = datetime(2026, 11, 21, 8, 59, 30, tzinfo=tokyo)  # 23:59:30 the day before in UTC
    assert dict(by_day(start, start + timedelta(minutes=1))) == {DAY: 30, DAY + timedelta(days=1): 30}


def test_fractions_of_seconds_are_not_lost():
    start = NOON + timedelta(microseconds=700_000)
    steps = [start + timedelta(milliseconds=15_300) * n for n in range(101)]
    total = sum(seconds for a, b in pairwise(steps) for _, seconds in by_day(a, b))
    assert total == 1_530


def test_no_time_is_no_day():
    assert tally([Observation(NOON, UP)], NOON) == {}
    assert tally([], NOON) == {}


@pytest.mark.parametrize(
    ("tallies", "points"),
    [
        ([], None),
        ([Tally()], None),
        ([Tally(operational=86_400)], 10_000),
        ([Tally(operational=86_399, major=1)], 9_999),  # 99.9988 %: rounded down, never to 100
        ([Tally(degraded=100)], 10_000),
        ([Tally(operational=50, major=50)], 5_000),
        ([Tally(operational=90, partial=10)], 9_700),
        ([Tally(operational=100), Tally(major=300)], 2_500),
    ],
)
def test_the_share_that_was_up(tallies, points):
    assert basis_points(tallies) == points


@pytest.mark.parametrize(
    ("points", "text"), [(None, "—"), (10_000, "100.00"), (9_999, "99.99"), (5, "0.05"), (0, "0.00")]
)
def test_percentages_read_well(points, text):
    assert percent(points) == text


def test_days_without_data_stay_unknown():
    shown = last_days({DAY: Tally(operational=5)}, DAY, 3)
    assert [one for _, one in shown] == [None, None, Tally(operational=5)]


def test_the_worst_state_of_a_day():
    assert Tally(operational=1000, partial=1).worst is PARTIAL
    assert Tally().worst is None
