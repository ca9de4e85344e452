"""`GET /v1/events`: the feed of an organization, page by page, and what settlement tells in it."""

from typing import Any

import pytest

from accounts import events
from billing import settlement
from billing.models import Account, UsageRecord
from billing.money import NANOS_PER_CREDIT
from config.tests import pages_kit
from proxy.tests.api_kit import ApiClient, assert_error, customer

pytestmark = pytest.mark.django_db(transaction=True)


def _all(caller: ApiClient, after: str = "", limit: int = 2) -> list[dict[str, Any]]:
    seen: list[dict[str, Any]] = []
    while True:
        page = caller.get(f"/v1/events?limit={limit}&after={after}").json()
        seen += page["data"]
        after = page["next"]
        if not page["has_more"]:
            return seen


def test_the_feed_pages_without_gap_or_repeat() -> None:
    caller, other = customer(), customer()
    for number in range(5):
        for each in (caller, other):
            events.record(organization=each.organization, kind="credits.low", data={"number": number})
    told = _all(caller)
    assert [event["data"].get("number") for event in told] == [None, 0, 1, 2, 3, 4]
    assert told[0]["type"] == "key.created"
    assert {event["organization"] for event in told} == {caller.organization.slug}
    last = told[-1]["cursor"]
    empty = caller.get(f"/v1/events?after={last}").json()
    assert (empty["data"], empty["has_more"], empty["next"]) == ([], False, last)
    events.record(organization=caller.organization, kind="credits.low", data={"number": 5})
    assert [event["data"]["number"] for event in _all(caller, last)] == [5]


def test_what_is_no_cursor_is_refused() -> None:
    caller = customer()
    for after in ("x", "1", "1-", "-1-2", "1-2-3", "9" * 30 + "-1"):
        assert_error(caller.get(f"/v1/events?after={after}"), 400, "invalid_value")
    for limit in ("0", "1001", "x"):
        assert_error(caller.get(f"/v1/events?limit={limit}"), 400, "invalid_value")
    assert_error(customer(scopes=["chat"]).get("/v1/events"), 403, "scope_missing")


def test_settled_usage_is_told_once_for_all_of_it() -> None:
    caller = customer(100 * NANOS_PER_CREDIT)
    for cost, model in ((2, "a"), (3, "b"), (4, "b")):
        pages_kit.request_of(caller.key, cost_nanos=cost * NANOS_PER_CREDIT, model=model)
    Account.objects.filter(pk=caller.account.pk).update(unsettled=9 * NANOS_PER_CREDIT)
    assert settlement.settle_all() == 3
    assert settlement.settle_all() == 0
    (event,) = [each for each in _all(caller) if each["type"] == "usage.recorded"]
    data = event["data"]
    assert (data["requests"], data["credits"], data["input_tokens"], data["output_tokens"]) == (
        3,
        "9.0000",
        3_600,
        102,
    )
    assert [(each["model"], each["requests"], each["credits"]) for each in data["models"]] == [
        ("b", 2, "7.0000"),
        ("a", 1, "2.0000"),
    ]
    assert data["from"] <= data["until"]
    assert UsageRecord.objects.filter(settled_at=None).count() == 0
