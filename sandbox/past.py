"""The demo's past: some weeks of simulated requests, so that charts, reports and the request log show something.

Made once, with the organization, and by the product itself: the price book prices each request, `billing_settle`
charges it and settlement posts it, so the books prove right. Only the clock is ours. Seeded: one day has one past.
"""

import math
import random
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from operator import itemgetter
from uuid import UUID

from django.db import connection, transaction

from accounts import keys
from accounts.models import ApiKey, Organization
from billing import ledger, partitions, pricing, rates, settlement, usage
from billing.lanes import encode
from billing.money import NANOS_PER_CREDIT
from billing.pricing import Rate, Usage
from billing.teller import Capture
from proxy.models import Deployment

# Before today: with today, the 30 days that the usage page begins with.
DAYS = 29
PER_DAY = 44
SEED = 1
# Nothing simulated is as young as what the visitor does.
ENDED_AGO = timedelta(minutes=5)
END_USERS = ("ada", "grace", "edsger", "barbara", "alan", "margaret")
# The share of requests at each hour of the day, and on each day of the week.
_HOURS = (1, 1, 1, 1, 1, 2, 4, 8, 14, 18, 20, 19, 15, 17, 20, 19, 17, 13, 9, 7, 6, 4, 3, 2)
_WEEKDAYS = (1.0, 1.15, 1.1, 1.05, 0.9, 0.35, 0.3)
_CHAT, _RESPONSES, _EMBEDDINGS = "/v1/chat/completions", "/v1/responses", "/v1/embeddings"
_IMAGES = "/v1/images/generations"


@dataclass(frozen=True, slots=True)
class Habit:
    """What a key does: how often, with how many tokens, and how long that takes."""

    key: str
    model: str
    endpoint: str
    weight: int
    input: tuple[int, int]
    output: tuple[int, int] = (0, 0)
    ms: tuple[int, int] = (400, 4_000)
    is_nightly: bool = False
    has_end_users: bool = False


@dataclass(frozen=True, slots=True)
class Ending:
    """A way in which requests end, as `docs/settlement.md` has it."""

    outcome: str
    weight: int
    status: int = 200
    error_code: str = ""


HABITS = (
    Habit("Website", "gpt-4o-mini", _CHAT, 34, (180, 2_600), (60, 700), has_end_users=True),
    Habit("Website", "gpt-4.1-mini", _CHAT, 16, (300, 4_800), (80, 900), has_end_users=True),
    Habit("Website", "text-embedding-3-small", _EMBEDDINGS, 14, (20, 900), ms=(60, 400)),
    Habit("Nightly jobs", "gpt-5.4-mini", _RESPONSES, 16, (2_000, 16_000), (300, 1_800), (2_000, 21_000), True),
    Habit("Demo", "gpt-4.1", _CHAT, 12, (400, 6_000), (120, 1_400), (900, 9_000)),
    Habit("Demo", "gpt-image-2", _IMAGES, 4, (12, 60), (1_056, 1_584), (9_000, 24_000)),
    Habit("Demo", "embed", _EMBEDDINGS, 4, (40, 2_000), ms=(60, 500)),
)
_DONE = Ending("completed", 965)
ENDINGS = (
    _DONE,
    Ending("client_closed", 12),
    Ending("rejected", 9, 400, "invalid_request_error"),
    Ending("upstream_error", 10, 502, "upstream_error"),
    Ending("timeout", 4, 504, "upstream_timeout"),
)
# Requests are charged at the moment that the setting says: `billing_settle` asks `clock_timestamp()`, and finds ours.
_OUR_CLOCK = """
    CREATE FUNCTION clock_timestamp() RETURNS timestamptz LANGUAGE sql AS
        $$ SELECT current_setting('sandbox.moment')::timestamptz $$;
    SELECT set_config('search_path', current_setting('search_path') || ', pg_catalog', true);
"""
_SETTLE_AT = """
    WITH told AS MATERIALIZED (SELECT set_config('sandbox.moment', %s, true) AS moment)
    SELECT billing_settle(%s::json) FROM told WHERE moment <> ''
"""


def make(*, organization: Organization, key: ApiKey, now: datetime) -> list[Capture]:
    """Give `organization`, which must be new, its past up to `now`; `key` is its own key. What was charged, by time.

    Credit for all of it comes first: what the organization has stays what it was.
    """
    with transaction.atomic():
        partitions.ensure()
        simulated = _Simulation(organization, key)
        requests = list(simulated.requests(*span(now)))
        cost = sum(capture.cost for _, capture in requests)
        if cost:
            ledger.grant(
                organization=organization,
                amount=-(-cost // NANOS_PER_CREDIT) * NANOS_PER_CREDIT,
                reason="Credit for the simulated past",
                idempotency_key=f"demo-past:{organization.public_id}",
            )
        _charge(requests)
        _note_use(requests)
        settlement.settle_account(ledger.account_of(organization))
    return [capture for _, capture in requests]


def span(now: datetime) -> tuple[datetime, datetime]:
    """When the past begins and ends. Usage records have a partition for the month before this one, none before it."""
    today = datetime.combine(now.astimezone(UTC), time(), UTC)
    last_month = (today.replace(day=1) - timedelta(days=1)).replace(day=1)
    return max(today - timedelta(days=DAYS), last_month), now - ENDED_AGO


class _Simulation:
    """The requests of one organization, priced."""

    def __init__(self, organization: Organization, key: ApiKey) -> None:
        self._random = random.Random(SEED)
        self._organization = organization
        self._account_id = ledger.account_of(organization).pk
        self._served = _served()
        self._rates = rates.current_rates()
        self._habits = [one for one in HABITS if one.model in self._served and one.model in self._rates]
        self._keys = {key.name: key.pk}
        for name in sorted({habit.key for habit in self._habits} - {key.name}):
            self._keys[name] = keys.issue(organization=organization, name=name).key.pk

    def requests(self, start: datetime, end: datetime) -> Iterator[tuple[datetime, Capture]]:
        """Each request with the moment of its charge, in the order of their beginnings."""
        if not self._habits:
            return
        day = start
        while day < end:
            growth = 0.7 + 0.6 * (day - start).days / DAYS
            count = round(PER_DAY * growth * _WEEKDAYS[day.weekday()] * self._random.uniform(0.8, 1.2))
            began = sorted((self._began(day) for _ in range(count)), key=itemgetter(0))
            yield from (self._request(at, habit) for at, habit in began if at < end)
            day += timedelta(days=1)

    def _began(self, day: datetime) -> tuple[datetime, Habit]:
        chosen = self._random.choices(self._habits, [habit.weight for habit in self._habits])[0]
        hour = 2 if chosen.is_nightly else self._random.choices(range(24), _HOURS)[0]
        return day + timedelta(hours=hour, milliseconds=self._random.randrange(3_600_000)), chosen

    def _request(self, at: datetime, habit: Habit) -> tuple[datetime, Capture]:
        ending = self._random.choices(ENDINGS, [one.weight for one in ENDINGS])[0]
        used = self._usage(habit) if ending.status == _DONE.status else None
        rate, deployment = self._rates[habit.model], self._served[habit.model]
        latency_ms = self._between(habit.ms)
        is_stream = bool(habit.output[1]) and habit.endpoint != _IMAGES and self._random.random() < 0.6
        capture = Capture(
            request_id=_request_id(at, self._random),
            account_id=self._account_id,
            organization_id=self._organization.pk,
            key_id=self._keys[habit.key],
            model=habit.model,
            endpoint=habit.endpoint,
            outcome=ending.outcome,
            status_code=ending.status,
            cost=_cost(used, rate),
            price_version=rate.version,
            provider=deployment.provider.slug,
            deployment=f"{deployment.provider.slug}/{deployment.upstream_name}",
            end_user=self._random.choice(END_USERS) if habit.has_end_users else "",
            stream=is_stream,
            **(used.columns() if used else {}),
            latency_ms=latency_ms,
            ttft_ms=latency_ms // 5 if is_stream and used else None,
            error_code=ending.error_code,
        )
        return at + timedelta(milliseconds=latency_ms), capture

    def _usage(self, habit: Habit) -> Usage:
        sent, made = self._between(habit.input), self._between(habit.output)
        if habit.endpoint == _IMAGES:
            return Usage(input=sent, image_output=made)
        cached = sent // 2 if habit.has_end_users and self._random.random() < 0.3 else 0
        return Usage(input=sent - cached, cached_input=cached, output=made)

    def _between(self, bounds: tuple[int, int]) -> int:
        """A number within `bounds`, as often small as large."""
        low, high = bounds
        return round(math.exp(self._random.uniform(math.log(low), math.log(high)))) if high else 0


def _note_use(requests: list[tuple[datetime, Capture]]) -> None:
    """Keys are as old as their first request, and say when their last one was."""
    used: dict[int | None, list[datetime]] = {}
    for moment, capture in requests:
        used.setdefault(capture.key_id, []).append(moment)
    for key_id, moments in used.items():
        ApiKey.objects.filter(pk=key_id).update(created_at=min(moments), last_used_at=max(moments))


def _cost(used: Usage | None, rate: Rate) -> int:
    return pricing.cost(used, rate) if used else 0


def _served() -> dict[str, Deployment]:
    """What serves each model, by its name."""
    rows = Deployment.objects.filter(is_enabled=True, provider__is_enabled=True).select_related("provider", "model")
    return {row.model.name: row for row in rows.order_by("-priority", "-pk")}


def _request_id(at: datetime, source: random.Random) -> UUID:
    return UUID(int=usage.first_id_at(at).int | source.getrandbits(12) << 64 | source.getrandbits(62))


def _charge(requests: list[tuple[datetime, Capture]]) -> None:
    """Charge each request at its moment. Nobody else sees our clock: it is gone before the transaction ends."""
    rows = [(moment.isoformat(), encode([capture]).decode()) for moment, capture in sorted(requests, key=itemgetter(0))]
    with connection.cursor() as cursor:
        cursor.execute("SELECT current_setting('search_path')")
        (search_path,) = cursor.fetchone()
        cursor.execute(_OUR_CLOCK)
        cursor.executemany(_SETTLE_AT, rows)
        cursor.execute("DROP FUNCTION clock_timestamp()")
        cursor.execute("SELECT set_config('search_path', %s, true)", [search_path])
