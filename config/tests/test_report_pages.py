"""`/reports`: cost by user and by day, worked out by hand, and who may see whose."""

from datetime import UTC, datetime, timedelta
from html import unescape
from typing import Any

import pytest
from django.test import Client

from accounts.models import Membership
from billing import cost_reports
from config.tests import pages_kit
from config.tests.pages_kit import OUTSIDER, STAFF, Cast, key_of, request_of, settle

pytestmark = pytest.mark.django_db

NOON = datetime(2026, 11, 18, 12, tzinfo=UTC)
DAYS = {"start": "2026-11-16", "end": "2026-11-18"}
CREDIT = 10_000_000


@pytest.fixture
def cast() -> Cast:
    return pages_kit.cast()


def data(client: Client, **query: str) -> Any:
    return client.get("/reports/data", DAYS | query).json()


def some_usage(cast: Cast) -> None:
    """The owner's two keys: 3 and 1 credits; a key that nobody made: 2."""
    first = key_of(cast.organization, "first", by=cast.users["owner"])
    second = key_of(cast.organization, "second", by=cast.users["owner"])
    own = key_of(cast.organization, "cron")
    request_of(first, NOON - timedelta(days=2), cost_nanos=3 * CREDIT, input_tokens=10, output_tokens=5)
    request_of(second, NOON, cost_nanos=CREDIT, input_tokens=1, output_tokens=1)
    request_of(own, NOON, cost_nanos=2 * CREDIT)
    request_of(first, NOON - timedelta(days=3), cost_nanos=99 * CREDIT)  # before the first day
    settle(cast.organization)


def test_the_data_has_cost_by_user_by_day_and_by_both(cast: Cast) -> None:
    some_usage(cast)
    told = data(cast.client("owner"))
    owner, cron = cast.users["owner"].email, f"cron ({cast.organization.slug})"
    assert (told["start"], told["end"]) == ("2026-11-16", "2026-11-18")
    assert told["total"] == {"credits": "6.0000", "usd": "0.060000000"}
    assert [(row["user"], row["credits"], row["requests"]) for row in told["by_user"]] == [
        (owner, "4.0000", 2),
        (cron, "2.0000", 1),
    ]
    assert told["by_user"][0]["total_tokens"] == 17
    assert [(row["date"], row["usd"], row["cumulative_credits"]) for row in told["daily"]] == [
        ("2026-11-16", "0.030000000", "3.0000"),
        ("2026-11-17", "0.000000000", "3.0000"),
        ("2026-11-18", "0.030000000", "6.0000"),
    ]
    assert [{user["user"]: user["credits"] for user in row["users"]} for row in told["daily_by_user"]] == [
        {owner: "3.0000"},
        {},
        {owner: "1.0000", cron: "2.0000"},
    ]


def test_what_is_not_settled_yet_counts(cast: Cast) -> None:
    request_of(key_of(cast.organization), NOON, cost_nanos=CREDIT)
    assert data(cast.client("owner"))["total"]["credits"] == "1.0000"


def test_more_users_than_are_shown_are_the_others(cast: Cast, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cost_reports, "TOP", 1)
    monkeypatch.setattr(cost_reports, "BARS", 1)
    some_usage(cast)
    told = data(cast.client("owner"))
    assert [row["others"]["credits"] for row in told["daily_by_user"]] == ["0.0000", "0.0000", "2.0000"]
    page = cast.client("owner").get("/reports", DAYS)
    assert "The 1 dearest of 2." in unescape(page.content.decode())


def test_an_admin_sees_what_they_run_and_staff_everything(cast: Cast) -> None:
    other = pages_kit.cast()
    some_usage(cast)
    request_of(key_of(other.organization), NOON, cost_nanos=5 * CREDIT)
    settle(other.organization)
    assert data(cast.client("admin"))["total"]["credits"] == "6.0000"
    assert data(other.client("admin"))["total"]["credits"] == "5.0000"
    assert data(cast.client(STAFF))["total"]["credits"] == "11.0000"
    assert data(cast.client(STAFF), organization=other.organization.slug)["total"]["credits"] == "5.0000"
    Membership.objects.create(organization=other.organization, user=cast.users["admin"], role="admin")
    assert data(cast.client("admin"))["total"]["credits"] == "11.0000"
    assert data(cast.client("admin"), organization=other.organization.slug)["total"]["credits"] == "5.0000"


def test_nobody_sees_an_organization_that_they_do_not_run(cast: Cast) -> None:
    other = pages_kit.cast()
    Membership.objects.create(organization=other.organization, user=cast.users["admin"], role="developer")
    for path in ("/reports", "/reports/data"):
        for slug in (other.organization.slug, "none", "\x00", "ü"):
            assert cast.client("admin").get(path, {"organization": slug}).status_code == 404
        assert cast.client(OUTSIDER).get(path).status_code == 403
        assert cast.client("developer").get(path).status_code == 403


def test_wrong_days_are_said(cast: Cast) -> None:
    client = cast.client("owner")
    for query in ({"start": "x"}, {"start": "2026-11-19", "end": "2026-11-18"}, {"start": "2020-01-01"}):
        answer = client.get("/reports/data", query)
        assert answer.status_code == 400
        assert answer.json()["error"]["message"]
        assert client.get("/reports", query).status_code == 200


def test_the_page_defaults_to_thirty_days_and_leads_to_requests(cast: Cast) -> None:
    some_usage(cast)
    client = cast.client("owner")
    span = client.get("/reports").context["report"].span
    assert (span.last - span.first).days == 29
    page = client.get("/reports", DAYS | {"organization": cast.organization.slug})
    daily = next(chart for chart in page.context["charts"] if chart.id == "daily")
    assert [len(client.get(link).context["page"].records) for link in daily.links] == [1, 0, 2]
    assert "script-src 'self';" in page["content-security-policy"]
    assert " style=" not in page.content.decode()


def test_it_needs_few_queries(cast: Cast, django_assert_max_num_queries: Any) -> None:
    for number in range(20):
        request_of(key_of(cast.organization, f"k{number}", by=cast.users["owner"]), NOON)
    client = cast.client("owner")
    with django_assert_max_num_queries(8):
        client.get("/reports", DAYS)
    with django_assert_max_num_queries(7):
        client.get("/reports/data", DAYS)
