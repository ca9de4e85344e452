"""The usage page: sums worked out by hand, the organization's days, links to the requests behind every bar."""

import csv
import io
from datetime import UTC, date, datetime, timedelta
from html import unescape
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from accounts.models import ApiKey
from billing.charts import Chart
from billing.templatetags.money import compact
from billing.usage_views import Breakdown
from config.tests import pages_kit
from config.tests.pages_kit import Cast, key_of, request_of, settle

pytestmark = pytest.mark.django_db

NOON = datetime(2026, 11, 18, 12, tzinfo=UTC)
DAYS = {"first_day": "2026-11-16", "last_day": "2026-11-18"}


@pytest.fixture
def cast() -> Cast:
    return pages_kit.cast()


@pytest.fixture
def client(cast: Cast) -> Client:
    return cast.client("viewer")


def page_of(client: Client, cast: Cast, **query: str) -> dict[str, Any]:
    return client.get(reverse("billing:usage", args=[cast.organization.slug]), DAYS | query).context


def chart(page: dict[str, Any], name: str) -> Chart:
    return next(one for one in page["charts"] if one.id == name)


def series(page: dict[str, Any], name: str) -> dict[str, list[Any]]:
    return {one.label: list(one.values) for one in chart(page, name).series}


def shares(page: dict[str, Any], name: str) -> list[tuple[str, int, int]]:
    part: Breakdown = next(one for one in page["breakdowns"] if one.id == name)
    return [(share.name, share.sums.requests, share.percent) for share in part.shares]


def end_users(client: Client, cast: Cast, **query: str) -> Breakdown:
    address = reverse("billing:usage-end-users", args=[cast.organization.slug])
    found: Breakdown = client.get(address, DAYS | query).context["part"]
    return found


def some_usage(cast: Cast) -> tuple[ApiKey, ApiKey]:
    """Two keys, one made by the owner: 3 credits on the 16th, 1 on the 18th, 2 on the 13th, which is before."""
    mine = key_of(cast.organization, "mine", by=cast.users["owner"])
    other = key_of(cast.organization, "other")
    day = timedelta(days=1)
    request_of(
        mine, NOON - 2 * day, cost_nanos=30_000_000, input_tokens=100, output_tokens=20, model="a", latency_ms=90
    )
    request_of(other, NOON, cost_nanos=10_000_000, input_tokens=10, output_tokens=5, model="b", end_user="ann")
    request_of(other, NOON, cost_nanos=0, input_tokens=0, output_tokens=0, model="b", outcome="timeout", latency_ms=9)
    request_of(mine, NOON - 5 * day, cost_nanos=20_000_000, model="a")
    settle(cast.organization)
    return mine, other


def test_the_page_sums_the_days_and_compares_them(cast: Cast, client: Client) -> None:
    some_usage(cast)
    stranger = pages_kit.cast()
    request_of(key_of(stranger.organization), NOON, cost_nanos=99)
    page = page_of(client, cast)
    total = page["total"]
    assert (total.requests, total.errors, total.tokens, total.cost_nanos) == (3, 1, 135, 40_000_000)
    assert page["changes"]["cost"].text == "+100 %"  # 4 credits after 2
    assert page["changes"]["requests"].text == "+200 %"
    assert series(page, "cost") == {"a": [3, 0, 0], "b": [0, 0, 1], "Period before": [2, 0, 0]}
    assert series(page, "tokens") == {"Input": [100, 0, 10], "Output": [20, 0, 5]}
    assert series(page, "requests") == {"Answered": [1, 0, 1], "Without a whole answer": [0, 0, 1]}
    p50 = series(page, "latency")["p50"]
    assert 79 <= p50[0] <= 100
    assert p50[1] is None
    assert 794 <= p50[2] <= 1_000  # of what was answered: 812 ms; the one that timed out does not count


def test_it_divides_by_model_key_member_endpoint_and_end_user(cast: Cast, client: Client) -> None:
    some_usage(cast)
    page = page_of(client, cast)
    assert shares(page, "models") == [("a", 1, 75), ("b", 2, 25)]
    assert shares(page, "keys") == [("mine", 1, 75), ("other", 2, 25)]
    assert shares(page, "members") == [(cast.users["owner"].email, 1, 75), ("nobody", 2, 25)]
    assert shares(page, "endpoints") == [("/v1/chat/completions", 3, 100)]
    assert [(share.name, share.sums.requests, share.percent) for share in end_users(client, cast).shares] == [
        ("none named", 2, 75),
        ("ann", 1, 25),
    ]


def test_every_link_leads_to_just_its_requests(cast: Cast, client: Client) -> None:
    mine, _ = some_usage(cast)
    page = page_of(client, cast)

    def found(address: str) -> int:
        return len(client.get(address).context["page"].records)

    requests = chart(page, "requests")
    assert [found(link) for link in requests.links] == [1, 0, 2]
    assert found(f"{requests.links[2]}&{requests.series[1].query}") == 1
    cost = chart(page, "cost")
    assert found(f"{cost.links[2]}&{cost.series[0].query}") == 0
    assert found(f"{cost.links[2]}&{cost.series[1].query}") == 2
    for part in [*page["breakdowns"], end_users(client, cast)]:
        for share in part.shares:
            if share.log:
                assert found(share.log) == share.sums.requests
                assert (
                    page_of(client, cast, **dict(parse_qsl(share.query)))["total"].cost_nanos == share.sums.cost_nanos
                )
    narrowed = page_of(client, cast, key=str(mine.public_id))
    assert narrowed["total"].requests == 1
    assert dict(parse_qsl(urlsplit(chart(narrowed, "cost").links[0]).query))["key"] == str(mine.public_id)


@pytest.mark.parametrize("is_settled", [True, False])
def test_a_day_is_the_organizations(is_settled: bool, cast: Cast, client: Client) -> None:
    cast.organization.timezone = "Asia/Tokyo"
    cast.organization.save(update_fields=["timezone"])
    key = key_of(cast.organization)
    # Midnight of the 17th in Tokyo is 15:00 of the 16th in UTC.
    request_of(key, datetime(2026, 11, 16, 14, 59, tzinfo=UTC), cost_nanos=10_000_000, end_user="ann")
    request_of(key, datetime(2026, 11, 16, 15, 0, tzinfo=UTC), cost_nanos=20_000_000, end_user="ann")
    request_of(key, datetime(2026, 11, 18, 14, 59, tzinfo=UTC), cost_nanos=40_000_000, end_user="ann")
    request_of(key, datetime(2026, 11, 18, 15, 0, tzinfo=UTC), cost_nanos=80_000_000, end_user="ann")
    if is_settled:
        settle(cast.organization)
    page = page_of(client, cast)
    assert [row.cells[0][0] for row in chart(page, "cost").rows] == [1, 2, 4]
    for part in [*page["breakdowns"], end_users(client, cast)]:
        assert sum(share.sums.cost_nanos for share in part.shares) == 70_000_000
    one_day = page_of(client, cast, first_day="2026-11-17", last_day="2026-11-17")
    assert [shares(one_day, part.id)[0][1] for part in one_day["breakdowns"]] == [1] * 4
    assert end_users(client, cast, first_day="2026-11-17", last_day="2026-11-17").shares[0].sums.requests == 1
    assert page_of(client, cast, end_user="ann")["total"].cost_nanos == 70_000_000


def test_without_days_it_shows_the_last_thirty(cast: Cast, client: Client) -> None:
    request_of(key_of(cast.organization), timezone.now())
    page = client.get(reverse("billing:usage", args=[cast.organization.slug])).context
    assert (page["span"].last - page["span"].first).days == 29
    assert page["span"].last == datetime.now(UTC).date()
    assert page["total"].requests == 1  # not settled yet, and counted all the same
    assert [is_shown for _, _, is_shown in page["presets"]] == [False, True, False]


def test_long_spans_are_shown_by_weeks(cast: Cast, client: Client) -> None:
    key = key_of(cast.organization)
    for days in (0, 1, 8, 200):
        request_of(key, NOON - timedelta(days=days), cost_nanos=10_000_000, latency_ms=90)
    page = page_of(client, cast, first_day="2025-11-19", last_day="2026-11-18")
    shown = chart(page, "requests")
    assert shown.head == "Week"
    assert len(shown.labels) == 53
    assert sum(shown.series[0].values) == 4
    assert "first_day=2025-11-19&last_day=2025-11-25" in shown.links[0]


def test_the_days_come_as_a_file(cast: Cast, client: Client) -> None:
    some_usage(cast)
    answer = client.get(reverse("billing:usage-file", args=[cast.organization.slug]), DAYS)
    assert "attachment" in answer["content-disposition"]
    rows = list(csv.reader(io.StringIO(answer.content.decode())))
    assert rows[0][:6] == ["day", "requests", "errors", "input_tokens", "output_tokens", "credits"]
    assert rows[1][:6] == ["2026-11-16", "1", "0", "100", "20", "3.0000"]
    assert rows[2] == ["2026-11-17", "0", "0", "0", "0", "0.0000", "", ""]


def test_it_says_what_to_do_where_there_is_nothing(cast: Cast, client: Client) -> None:
    address = reverse("billing:usage", args=[cast.organization.slug])
    assert "Nothing was used in these days" in unescape(client.get(address).content.decode())
    assert "No request matches" in unescape(client.get(address, {"model": "x"}).content.decode())
    years = {"first_day": "2020-01-01", "last_day": "2026-01-01"}
    assert "At most 366 days" in unescape(client.get(address, years).content.decode())


@pytest.mark.parametrize(
    "query",
    [
        {"first_day": "x"}, {"last_day": "9999-12-31"}, {"first_day": "2026-11-19", "last_day": "2026-11-01"},
        {"key": "x"}, {"member": "x"}, {"model": "\x00"}, {"endpoint": "x"}, {"end_user": "x" * 999},
    ],
)  # fmt: skip
def test_nonsense_in_the_address_does_not_break_it(query: dict[str, str], cast: Cast, client: Client) -> None:
    some_usage(cast)
    for name in ("usage", "usage-file", "usage-end-users"):
        assert client.get(reverse(f"billing:{name}", args=[cast.organization.slug]), query).status_code == 200


def test_a_key_or_member_of_another_organization_is_no_filter(cast: Cast, client: Client) -> None:
    some_usage(cast)
    other = pages_kit.cast()
    key = key_of(other.organization, by=other.users["owner"])
    request_of(key, NOON)
    assert page_of(client, cast, key=str(key.public_id))["total"].requests == 3


def test_it_needs_few_queries(cast: Cast, client: Client, django_assert_max_num_queries: Any) -> None:
    for number in range(30):
        key = key_of(cast.organization, f"k{number}", by=cast.users["developer" if number % 2 else "owner"])
        request_of(key, NOON, model=f"m{number}", end_user=f"u{number}")
    with django_assert_max_num_queries(16):
        page_of(client, cast)
    with django_assert_max_num_queries(9):
        end_users(client, cast)
    with django_assert_max_num_queries(6):
        client.get(reverse("billing:usage-file", args=[cast.organization.slug]), DAYS)


def test_counts_are_short() -> None:
    shown = [compact(count) for count in (0, 9_999, 12_345, 999_999, 4_567_000, 123_456_789, 1_567_000_000)]
    assert shown == ["0", "9,999", "12.3 k", "1,000 k", "4.57 M", "123 M", "1.57 B"]


def test_the_span_before_is_as_long_and_right_before(cast: Cast, client: Client) -> None:
    previous = page_of(client, cast)["previous"]
    assert (previous.first, previous.last) == (date(2026, 11, 13), date(2026, 11, 15))


def test_the_page_shows_the_dearest_end_users_and_another_all(cast: Cast, client: Client) -> None:
    key = key_of(cast.organization)
    for number in range(12):
        request_of(key, NOON, end_user=f"u{number}", cost_nanos=10_000_000 * (number + 1))
    address = reverse("billing:usage-end-users", args=[cast.organization.slug])
    part = client.get(address, DAYS, headers={"HX-Request": "true"})
    assert "<html" not in part.content.decode()
    assert [share.name for share in part.context["part"].shares][:2] == ["u11", "u10"]
    assert len(part.context["part"].shares) == 10
    assert "The dearest 12" in part.content.decode()
    whole = client.get(address, DAYS)
    assert len(whole.context["part"].shares) == 12
    # 12 of 78 credits
    assert whole.context["part"].shares[0].percent == 15
    assert end_users(client, cast, model="gpt-fast").shares == []
    assert (
        "Show the end users"
        not in client.get(
            reverse("billing:usage", args=[cast.organization.slug]), DAYS | {"model": "gpt-fast"}
        ).content.decode()
    )
