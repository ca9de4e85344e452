"""Uptime from observations: seconds in each state by day, and the share that was not down. Pure."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta

from status.states import DOWNTIME_PERCENT, State

# An observation speaks for so long; after that nobody knows, and what nobody knows is a gap.
MAX_GAP = timedelta(seconds=90)


@dataclass(frozen=True, slots=True)
class Observation:
    """What a service was seen to be at a moment (aware)."""

    at: datetime
    state: State


@dataclass(frozen=True, slots=True)
class Tally:
    """Seconds in each state."""

    operational: int = 0
    degraded: int = 0
    partial: int = 0
    major: int = 0

    @property
    def observed(self) -> int:
        return self.operational + self.degraded + self.partial + self.major

    @property
    def worst(self) -> State | None:
        """The worst state that lasted at all; None where nothing was observed."""
        if not self.observed:
            return None
        lasted = (self.operational, self.degraded, self.partial, self.major)
        return max(state for state in State if lasted[state])


def spans(history: Sequence[Observation], until: datetime) -> Iterator[tuple[datetime, datetime, State]]:
    """(start, end, state) of what `history` (oldest first) covers up to `until`; each lasts `MAX_GAP` at most."""
    for number, seen in enumerate(history):
        following = history[number + 1].at if number + 1 < len(history) else until
        end = min(following, seen.at + MAX_GAP, until)
        if end > seen.at:
            yield seen.at, end, seen.state


def by_day(start: datetime, end: datetime) -> Iterator[tuple[date, int]]:
    """(day in UTC, whole seconds) of the time from `start` to `end`: cut at midnight, nothing lost to rounding."""
    start, end = start.astimezone(UTC), end.astimezone(UTC)
    while start < end:
        midnight = datetime.combine(start.date() + timedelta(days=1), time(), UTC)
        stop = min(end, midnight)
        # Both ends rounded down to the second, so that adjacent spans add up.
        seconds = int(stop.timestamp()) - int(start.timestamp())
        if seconds:
            yield start.date(), seconds
        start = stop


def tally(history: Sequence[Observation], until: datetime) -> dict[date, Tally]:
    """Seconds in each state by day (UTC). Days that nobody observed are not there."""
    found: dict[date, list[int]] = {}
    for start, end, state in spans(history, until):
        for day, seconds in by_day(start, end):
            found.setdefault(day, [0, 0, 0, 0])[state] += seconds
    return {day: Tally(*seconds) for day, seconds in found.items()}


def basis_points(tallies: Iterable[Tally]) -> int | None:
    """The share of observed time that was up, in 1/10,000, rounded down: 10,000 means that there was no downtime.

    A partial outage counts as 30 % down. None where nothing was observed.
    """
    observed = down = 0
    for one in tallies:
        observed += one.observed
        down += one.partial * DOWNTIME_PERCENT[State.PARTIAL_OUTAGE] + one.major * DOWNTIME_PERCENT[State.MAJOR_OUTAGE]
    if not observed:
        return None
    return (observed * 100 - down) * 10_000 // (observed * 100)


def percent(points: int | None) -> str:
    """`99.98` of 9,998; an em dash of None."""
    return "—" if points is None else f"{points // 100}.{points % 100:02d}"


def last_days(tallies: Mapping[date, Tally], today: date, days: int) -> list[tuple[date, Tally | None]]:
    """The last `days` days, oldest first, today included; None for a day that nobody observed."""
    return [(day, tallies.get(day)) for day in (today - timedelta(days=back) for back in range(days - 1, -1, -1))]
