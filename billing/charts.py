"""Charts as pages have them: a table that anybody can read, from which a script draws."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import Any

from billing import money
from billing.reports import Sums
from billing.templatetags.money import credits_short, duration

# Longer spans are shown by weeks.
MAX_BARS = 92
WEEK = 7
COLORS = 8


@dataclass(frozen=True, slots=True)
class Point:
    """A day, or a week from `first` to `last`, and what was used in it."""

    first: date
    last: date
    sums: Sums

    @property
    def label(self) -> str:
        if self.first == self.last:
            return f"{self.first:%b} {self.first.day}"
        return f"{self.first:%b} {self.first.day} – {self.last:%b} {self.last.day}"


@dataclass(frozen=True, slots=True)
class Series:
    """One column: `values` as numbers to draw (None: a gap), `texts` as people read them.

    `query` narrows a bar's requests to this series. `color` is one of the page's colours; 0 is the muted one.
    """

    label: str
    values: Sequence[float | int | None]
    texts: Sequence[str]
    color: int
    kind: str = "bar"
    query: str = ""
    axis: str = "left"


@dataclass(frozen=True, slots=True)
class Row:
    label: str
    link: str
    cells: list[tuple[float | int | None, str]]


@dataclass(frozen=True, slots=True)
class Chart:
    """A figure: `labels` are the bars, `links` where each leads, all series as long as they."""

    id: str
    title: str
    labels: Sequence[str]
    links: Sequence[str]
    series: Sequence[Series]
    note: str = ""
    head: str = "Day"
    unit: str = ""
    is_slanted: bool = False
    empty: str = field(default="Nothing in these days.")

    @property
    def rows(self) -> list[Row]:
        columns = [list(zip(one.values, one.texts, strict=True)) for one in self.series]
        return [
            Row(label, link, [column[number] for column in columns])
            for number, (label, link) in enumerate(zip(self.labels, self.links, strict=True))
        ]

    @property
    def is_empty(self) -> bool:
        return not any(value for one in self.series for value in one.values)


def points_of(days: dict[date, Sums]) -> list[Point]:
    """Days as they are; more than `MAX_BARS` of them as weeks."""
    if len(days) <= MAX_BARS:
        return [Point(day, day, sums) for day, sums in days.items()]
    found: list[Point] = []
    every = list(days.items())
    for start in range(0, len(every), WEEK):
        week = every[start : start + WEEK]
        total = week[0][1]
        for _, sums in week[1:]:
            total += sums
        found.append(Point(week[0][0], week[-1][0], total))
    return found


def bucketed(points: Sequence[Point], amounts: dict[tuple[date, Any], int], name: object) -> list[int]:
    """The amounts of `name` in the days of each point."""
    found = []
    for point in points:
        days = (point.first + timedelta(days=number) for number in range((point.last - point.first).days + 1))
        found.append(sum(amounts.get((day, name), 0) for day in days))
    return found


def cost_series(label: str, nanos: Sequence[int], color: int, **options: Any) -> Series:
    """A series of nano-dollars, shown in credits."""
    values = [amount / money.NANOS_PER_CREDIT for amount in nanos]
    return Series(label, values, [credits_short(amount) for amount in nanos], color, **options)


def count_series(label: str, counts: Sequence[int], color: int, **options: Any) -> Series:
    return Series(label, counts, [f"{count:,}" for count in counts], color, **options)


def latency_series(label: str, points: Sequence[Point], of: Callable[[Sums], int | None], color: int) -> Series:
    """A line of milliseconds; days without an answer are gaps."""
    found = [of(point.sums) for point in points]
    return Series(label, found, [duration(value) for value in found], color, kind="line")
