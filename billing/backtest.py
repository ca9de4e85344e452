"""What a proposed limit would have done in the last 30 days: the requests of then, replayed against it."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from django.db.models import F
from django.utils import timezone

from accounts.models import Organization
from billing.models import Budget, UsageRecord
from billing.usage import first_id_at

LOOKED_BACK = timedelta(days=30)
MAX_RECORDS = 200_000
# By what requests of one period are counted together: the field of a usage record.
_SUBJECTS = {"organization": None, "key": "key_id", "end_user": "end_user", "run": "run_id"}


@dataclass(slots=True)
class BackTest:
    """`refused` of `requests` would have been refused; `saved_nanos` is what those had cost.

    `periods` and `subjects` count those in which at least one was. `is_complete` is False where there were more
    requests than are replayed: then the newest were.
    """

    requests: int = 0
    refused: int = 0
    saved_nanos: int = 0
    periods: int = 0
    subjects: int = 0
    first_refused_at: datetime | None = None
    is_complete: bool = True

    @property
    def percent(self) -> int:
        """Refused requests in per cent, rounded up: one in a thousand is not none."""
        return -(-self.refused * 100 // self.requests) if self.requests else 0


@dataclass(slots=True)
class _Tally:
    """What one subject has used in one period."""

    cost: int = 0
    tokens: int = 0
    has_refused: bool = False


@dataclass(slots=True)
class _Replay:
    cost_cap: int | None
    token_cap: int | None
    result: BackTest = field(default_factory=BackTest)
    tallies: dict[tuple[Any, Any], _Tally] = field(default_factory=dict)

    def take(self, subject: Any, period: Any, *, cost: int, held: int, tokens: int, at: datetime) -> None:
        """One request: refused if what it held would not have fitted, else its cost counts."""
        tally = self.tallies.setdefault((subject, period), _Tally())
        self.result.requests += 1
        needed = max(cost, held)
        is_over = self.cost_cap is not None and tally.cost + needed > self.cost_cap
        is_over = is_over or (self.token_cap is not None and tally.tokens + tokens > self.token_cap)
        if not is_over:
            tally.cost += cost
            tally.tokens += tokens
            return
        self.result.refused += 1
        self.result.saved_nanos += cost
        tally.has_refused = True
        if self.result.first_refused_at is None or at < self.result.first_refused_at:
            self.result.first_refused_at = at

    def end(self) -> BackTest:
        refused = [key for key, tally in self.tallies.items() if tally.has_refused]
        self.result.periods = len(refused)
        self.result.subjects = len({subject for subject, _ in refused})
        return self.result


def back_test(
    organization: Organization,
    *,
    scope: str,
    period: str,
    cost_cap_nanos: int | None,
    token_cap: int | None,
    subject: Any = None,
) -> BackTest:
    """Replay the last 30 days against a cap on each subject of `scope`, or on `subject` alone (a key id, an end user).

    As admission does it: a request is refused if what it held did not fit, and then counts nothing. The tokens that it
    used stand for those that it would have held.
    """
    replay = _Replay(cost_cap_nanos, token_cap)
    zone = ZoneInfo(organization.timezone)
    records, is_complete = _records(organization, scope, subject)
    for who, cost, held, tokens, at in records:
        replay.take(who, _period(at, period, zone), cost=cost, held=held, tokens=tokens, at=at)
    replay.result.is_complete = is_complete
    return replay.end()


def _records(organization: Organization, scope: str, subject: Any) -> tuple[Iterator[tuple[Any, ...]], bool]:
    """(subject, cost, held, tokens, time) of each request, oldest first, and whether that is all of them."""
    name = _SUBJECTS[scope]
    rows = UsageRecord.objects.filter(
        organization=organization, request_id__gte=first_id_at(timezone.now() - LOOKED_BACK)
    )
    if name and subject is not None:
        rows = rows.filter(**{name: subject})
    elif name and name != "key_id":
        rows = rows.exclude(**{name: ""})
    figures = ("cost_nanos", "hold_nanos", F("input_tokens") + F("output_tokens"), "created_at")
    newest = list(rows.order_by("-request_id").values_list(name or "organization_id", *figures)[: MAX_RECORDS + 1])
    return reversed(newest[:MAX_RECORDS]), len(newest) <= MAX_RECORDS


def _period(at: datetime, period: str, zone: ZoneInfo) -> Any:
    if period == Budget.Period.TOTAL:
        return None
    day = at.astimezone(zone).date()
    return day if period == Budget.Period.DAY else (day.year, day.month)
