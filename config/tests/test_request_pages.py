"""The request log: its filters, its file, saved views, and pages that look at a bounded number of rows."""

import csv
import io
from datetime import UTC, datetime, timedelta
from html import unescape
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from accounts.models import Membership
from billing import request_log, saved_views
from billing.models import SavedView, UsageRecord
from billing.usage_forms import member_id
from config.tests import pages_kit
from config.tests.pages_kit import Cast, key_of, request_of, settle, view_of

pytestmark = pytest.mark.django_db

NOON = datetime(2026, 11, 18, 12, tzinfo=UTC)


@pytest.fixture
def cast() -> Cast:
    return pages_kit.cast()


@pytest.fixture
def client(cast: Cast) -> Client:
    return cast.client("developer")


def address(name: str, cast: Cast, *rest: object) -> str:
    return reverse(f"billing:{name}", args=[cast.organization.slug, *rest])


def ids(records: list[UsageRecord]) -> list[str]:
    return [str(record.request_id) for record in records]


def test_every_filter_narrows_the_log_and_its_file(cast: Cast, client: Client) -> None:
    owner = cast.users["owner"]
    mine, other = key_of(cast.organization, "mine", by=owner), key_of(cast.organization, "other")
    first = request_of(mine, NOON, endpoint="/v1/embeddings", cost_nanos=20_000_000, org_label="team <blue>")
    second = request_of(other, NOON - timedelta(minutes=1), outcome="timeout", status_code=504, cost_nanos=0)
    third = request_of(other, NOON - timedelta(minutes=2), status_code=429, outcome="refused", cost_nanos=0)
    request_of(key_of(pages_kit.cast().organization), NOON)

    def found(**query: str) -> list[str]:
        records = client.get(address("request-list", cast), query).context["page"].records
        rows = list(csv.DictReader(io.StringIO(client.get(address("request-file", cast), query).content.decode())))
        assert [row["id"] for row in rows] == [f"req_{record.request_id.hex}" for record in records]
        return ids(records)

    assert found() == ids([first, second, third])
    assert found(endpoint="/v1/embeddings") == ids([first])
    assert found(status="504") == ids([second])
    assert found(status="4") == ids([third])
    assert found(min_cost="2") == ids([first])
    assert found(min_cost="2.1") == []
    assert found(org_label="team <blue>") == ids([first])
    detail = client.get(address("request-detail", cast, first.request_id)).content.decode()
    assert "<dt>Label</dt><dd>team &lt;blue&gt;</dd>" in detail
    assert found(outcome="errors") == ids([second, third])
    assert found(member=member_id(owner.pk)) == ids([first])
    assert found(member=member_id(owner.pk), key=str(other.public_id)) == []
    assert found(member="none") == ids([first, second, third])  # a wrong value shows an error and filters nothing


def test_the_file_has_exact_credits_and_no_formulas(cast: Cast, client: Client) -> None:
    request_of(key_of(cast.organization, "=key"), NOON, end_user="@user", cost_nanos=1)
    answer = client.get(address("request-file", cast))
    assert "attachment" in answer["content-disposition"]
    row = next(csv.DictReader(io.StringIO(answer.content.decode())))
    assert (row["key"], row["end_user"], row["credits"]) == ("'=key", "'@user", "0.0000001")


def test_a_page_looks_at_few_rows_and_goes_on_from_there(
    cast: Cast, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(request_log, "LOOKED_AT", 10)
    key = key_of(cast.organization)
    rare = request_of(key, NOON - timedelta(hours=2), status_code=418)
    for number in range(50):
        request_of(key, NOON - timedelta(minutes=number))
    settle(cast.organization)
    page = client.get(address("request-list", cast), {"status": "400"})
    assert page.context["page"].records == []
    assert page.context["page"].older is not None
    assert "No request matches so far" in unescape(page.content.decode())
    assert "Looked back to" in unescape(page.content.decode())
    found, before, pages = [], "", 0
    while pages < 20:
        got = client.get(address("request-list", cast), {"status": "4", "before": before}).context["page"]
        found += ids(got.records)
        pages += 1
        if got.older is None:
            break
        before = str(got.older)
    assert found == ids([rare])
    newer = client.get(address("request-list", cast), {"status": "2", "after": str(rare.request_id)}).context["page"]
    assert len(newer.records) == 11  # ten, and the one at which the look ends
    assert newer.newer is not None


def test_a_view_is_saved_shown_and_deleted_by_its_member_alone(cast: Cast, client: Client) -> None:
    key = key_of(cast.organization)
    query = {"model": "a", "key": str(key.public_id), "outcome": "errors", "before": "x", "nonsense": "1", "status": ""}
    log = client.get(address("request-list", cast), query)
    assert "Save view" in log.content.decode()
    create = f"{address('view-create', cast)}?{log.context['query']}"
    answer = client.post(create, {"name": "  Failed   in production "})
    view = SavedView.objects.get()
    assert (view.name, view.query) == ("Failed in production", f"key={key.public_id}&model=a&outcome=errors")
    assert answer["location"] == f"{address('request-list', cast)}?{view.query}"
    shown = unescape(client.get(answer["location"]).content.decode())
    assert "Failed in production" in shown
    assert 'aria-current="true"' in shown
    assert "Failed in production" not in cast.client("owner").get(address("request-list", cast)).content.decode()
    delete = address("view-delete", cast, view.public_id)
    assert "Failed in production" in unescape(client.get(delete, headers={"HX-Request": "true"}).content.decode())
    assert cast.client("owner").post(delete).status_code == 404
    assert client.post(delete).status_code == 302
    assert not SavedView.objects.exists()


def test_a_view_of_the_same_name_is_replaced_and_there_are_not_too_many(
    cast: Cast, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(saved_views, "MAX_VIEWS", 2)
    for query in ("model=a", "model=b"):
        client.post(f"{address('view-create', cast)}?{query}", {"name": "one"})
    assert SavedView.objects.get().query == "model=b"
    client.post(address("view-create", cast), {"name": "two"})
    answer = client.post(address("view-create", cast), {"name": "three"})
    assert answer.status_code == 422
    assert "You have 2 views" in unescape(answer.content.decode())
    assert client.post(address("view-create", cast), {"name": "two"}).status_code == 302


def test_views_go_with_their_member(cast: Cast) -> None:
    view_of(cast.users["viewer"], cast.organization)
    Membership.objects.get(user=cast.users["viewer"], organization=cast.organization).delete()
    assert not SavedView.objects.exists()


def test_the_file_needs_few_queries(cast: Cast, client: Client, django_assert_max_num_queries: Any) -> None:
    for number in range(5):
        pages_kit.many_requests(key_of(cast.organization, f"k{number}"), 10)
    with django_assert_max_num_queries(6):
        client.get(address("request-file", cast))
