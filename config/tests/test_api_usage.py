"""`/v1/usage`: sums worked out by hand, filters, cursor pages, CSV, and nothing of anybody else."""

import csv
import io
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest

from accounts import keys
from accounts.models import ApiKey
from billing import request_log
from billing.models import UsageRecord
from config.tests.pages_kit import request_of, settle
from proxy.tests.api_kit import ApiClient, assert_error, customer

pytestmark = pytest.mark.django_db

NOON = datetime(2026, 11, 18, 12, tzinfo=UTC)
DAYS = "start=2026-11-17&end=2026-11-19"


def used(key: ApiKey, at: datetime = NOON, **fields: Any) -> UsageRecord:
    return request_of(key, at, **{"model": "a", "latency_ms": 900} | fields)


def some_usage(caller: ApiClient) -> ApiKey:
    """Four requests of two keys on two days; three are settled. Gives the second key."""
    second = keys.issue(organization=caller.organization, name="=second").key
    used(caller.key, input_tokens=100, output_tokens=10, cost_nanos=30_000_000, cached_tokens=40, end_user="ann")
    used(caller.key, input_tokens=1, output_tokens=2, cost_nanos=0, outcome="timeout", status_code=504, model="b")
    used(second, NOON - timedelta(days=1), input_tokens=7, output_tokens=3, cost_nanos=10_000_000, end_user="=bob")
    settle(caller.organization)
    used(second, input_tokens=5, output_tokens=5, cost_nanos=5_000_000, endpoint="/v1/embeddings")
    return second


def test_stats_sum_what_is_settled_and_what_is_not() -> None:
    caller, other = customer(10**10), customer(10**10)
    second = some_usage(caller)
    used(other.key)
    told = caller.get(f"/v1/usage/stats?{DAYS}").json()
    # 100 + 1 + 7 + 5 in, 10 + 2 + 3 + 5 out; 3 + 0 + 1 + 0.5 credits
    assert (told["requests"], told["errors"]) == (4, 1)
    assert (told["input_tokens"], told["output_tokens"], told["total_tokens"]) == (113, 20, 133)
    assert (told["cached_tokens"], told["credits"], told["usd"]) == (40, "4.5000", "0.045000000")
    assert 794 <= told["latency_p50_ms"] <= told["latency_p95_ms"] <= 1_000
    assert [(row["model"], row["requests"], row["credits"]) for row in told["by_model"]] == [
        ("a", 3, "4.5000"),
        ("b", 1, "0.0000"),
    ]
    assert [(row["key"], row["key_name"], row["credits"]) for row in told["by_key"]] == [
        (str(caller.key.public_id), "server", "3.0000"),
        (str(second.public_id), "=second", "1.5000"),
    ]
    assert {row["endpoint"]: row["requests"] for row in told["by_endpoint"]} == {
        "/v1/chat/completions": 3,
        "/v1/embeddings": 1,
    }
    assert {row["end_user"]: row["credits"] for row in told["by_end_user"]} == {
        "ann": "3.0000",
        "=bob": "1.0000",
        None: "0.5000",
    }
    assert other.get(f"/v1/usage/stats?{DAYS}").json()["requests"] == 1


@pytest.mark.parametrize(
    ("query", "requests", "credits_"),
    [
        ("model=a", 3, "4.5000"),
        ("model=b", 1, "0.0000"),
        ("endpoint=/v1/embeddings", 1, "0.5000"),
        ("model=a&endpoint=/v1/chat/completions", 2, "4.0000"),
        ("end_user=ann", 1, "3.0000"),
        ("end_user=ann&model=b", 0, "0.0000"),
        ("start=2026-11-17&end=2026-11-17", 1, "1.0000"),
        ("key=second", 2, "1.5000"),
        ("key=second&model=a&endpoint=/v1/embeddings", 1, "0.5000"),
        ("end_user=%3Dbob&key=second", 1, "1.0000"),
    ],
)
@pytest.mark.parametrize("is_settled", [True, False])
def test_filters_narrow_everything(query: str, requests: int, credits_: str, is_settled: bool) -> None:
    caller = customer(10**10)
    second = some_usage(caller)
    if is_settled:
        settle(caller.organization)
    query = query.replace("key=second", f"key={second.public_id}")
    told = caller.get(f"/v1/usage/stats?{DAYS}&{query}").json()
    assert (told["requests"], told["credits"]) == (requests, credits_)
    for group in ("by_model", "by_key", "by_endpoint", "by_end_user"):
        assert sum(row["requests"] for row in told[group]) == requests
    days = caller.get(f"/v1/usage/daily?{DAYS}&{query}").json()["data"]
    assert sum(day["requests"] for day in days) == requests
    rows = caller.get(f"/v1/usage/logs?{DAYS}&{query}").json()["data"]
    assert len(rows) == requests


def test_days_have_zeros_and_come_as_csv() -> None:
    caller = customer(10**10)
    some_usage(caller)
    told = caller.get(f"/v1/usage/daily?{DAYS}").json()
    assert [(day["date"], day["requests"], day["credits"]) for day in told["data"]] == [
        ("2026-11-17", 1, "1.0000"),
        ("2026-11-18", 3, "3.5000"),
        ("2026-11-19", 0, "0.0000"),
    ]
    assert told["data"][2]["latency_p50_ms"] is None
    lines = caller.get(f"/v1/usage/daily?{DAYS}&format=csv").content.decode().splitlines()
    assert lines[0].startswith("date,requests,errors,input_tokens")
    assert lines[2].startswith("2026-11-18,3,1,106,40,17,0,123,3.5000,0.035000000,")


def test_a_text_of_a_csv_is_never_a_formula() -> None:
    caller = customer(10**10)
    some_usage(caller)
    used(caller.key, end_user="@cmd", model="+1")
    for path in ("stats", "logs"):
        text = caller.get(f"/v1/usage/{path}?{DAYS}&format=csv").content.decode()
        cells = [cell for row in csv.reader(io.StringIO(text)) for cell in row]
        assert {"'=bob", "'=second", "'@cmd", "'+1"} <= set(cells)
        assert not [cell for cell in cells if cell[:1] in {"=", "+", "@"}]


def test_logs_page_by_cursor_without_gap_or_repeat() -> None:
    caller = customer()
    made = [used(caller.key, NOON + timedelta(seconds=number)).request_id for number in range(7)]
    seen, after = [], ""
    while True:
        page = caller.get(f"/v1/usage/logs?limit=3{after}").json()
        seen += [row["id"] for row in page["data"]]
        if not page["has_more"]:
            break
        after = f"&after={page['next']}"
    assert seen == [f"req_{request_id.hex}" for request_id in reversed(made)]
    first = caller.get("/v1/usage/logs?limit=3&format=csv")
    assert first["x-next"] == seen[2]
    assert len(first.content.decode().splitlines()) == 4


def test_logs_tell_what_the_filters_ask() -> None:
    caller = customer(10**10)
    some_usage(caller)
    assert [row["model"] for row in caller.get("/v1/usage/logs?status=5").json()["data"]] == ["b"]
    assert [row["model"] for row in caller.get("/v1/usage/logs?status=504").json()["data"]] == ["b"]
    assert [row["model"] for row in caller.get("/v1/usage/logs?outcome=errors").json()["data"]] == ["b"]
    used(caller.key, NOON - timedelta(days=2), org_label="team", model="c")
    labelled = caller.get("/v1/usage/logs?org_label=team").json()["data"]
    assert [(row["model"], row["org_label"]) for row in labelled] == [("c", "team")]
    dear = caller.get("/v1/usage/logs?min_credits=1").json()["data"]
    assert [row["credits"] for row in dear] == ["3.0000", "1.0000"]
    assert dear[0] | {"id": ""} == {
        "id": "", "object": "usage_log", "created_at": "2026-11-18T12:00:00Z", "model": "a",
        "endpoint": "/v1/chat/completions", "outcome": "completed", "status_code": 200, "error_code": None,
        "key": str(caller.key.public_id), "key_name": "server", "end_user": "ann", "run_id": None, "stream": False,
        "input_tokens": 100, "cached_tokens": 40, "output_tokens": 10, "reasoning_tokens": 0, "total_tokens": 110,
        "credits": "3.0000", "usd": "0.030000000", "latency_ms": 900, "ttft_ms": 120, "estimated": False,
        "service_tier": "default", "upstream": "sandbox/gpt-fast", "org_label": None,
    }  # fmt: skip


def test_a_rare_request_is_found_though_a_page_looks_at_few_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(request_log, "LOOKED_AT", 5)
    caller = customer(10**10)
    rare = [used(caller.key, NOON - timedelta(hours=hours), model="rare", outcome="timeout") for hours in (50, 20)]
    for number in range(60):
        used(caller.key, NOON - timedelta(hours=number))
    settle(caller.organization)
    for query in (
        "model=rare",
        "outcome=errors",
        f"key={caller.key.public_id}&model=rare&endpoint=/v1/chat/completions",
    ):
        seen, after, pages = [], "", 0
        while pages < 40:
            page = caller.get(f"/v1/usage/logs?{query}{after}").json()
            pages += 1
            seen += [row["id"] for row in page["data"]]
            if not page["has_more"]:
                break
            after = f"&after={page['next']}"
        assert seen == [f"req_{record.request_id.hex}" for record in reversed(rare)]
        assert pages <= 4  # the sums of usage say where to go on
    assert caller.get("/v1/usage/logs?model=none").json() == {
        "object": "list", "data": [], "has_more": False, "next": None,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("query", "param"),
    [
        ("start=yesterday", "start"), ("end=2026-13-01", "end"), ("start=2026-11-20&end=2026-11-19", "start"),
        ("start=2025-01-01&end=2026-11-19", "start"), ("start=0001-01-01", "start"), ("model=" + "x" * 300, "model"),
        ("format=xml", "format"), ("model=%00", "model"),
    ],
)  # fmt: skip
def test_nonsense_is_refused(query: str, param: str) -> None:
    caller = customer()
    for path in ("stats", "daily"):
        assert assert_error(caller.get(f"/v1/usage/{path}?{query}"), 400, "invalid_value")["param"] == param


@pytest.mark.parametrize(
    "query", ["limit=0", "limit=1001", "limit=x", "after=x", "outcome=x", "status=x", "min_credits=x", "format=xml"]
)
def test_nonsense_about_logs_is_refused(query: str) -> None:
    assert_error(customer().get(f"/v1/usage/logs?{query}"), 400, "invalid_value")


def test_a_key_of_another_organization_is_no_filter() -> None:
    caller, other = customer(), customer()
    for path in ("stats", "daily", "logs"):
        assert_error(caller.get(f"/v1/usage/{path}?key={other.key.public_id}"), 404, "not_found")
        assert_error(caller.get(f"/v1/usage/{path}?key={uuid4()}"), 404, "not_found")
        assert_error(caller.get(f"/v1/usage/{path}?key=x"), 404, "not_found")


def test_only_a_key_that_may_manage_reads_usage() -> None:
    chatty, manager = customer(scopes=["chat"]), customer(scopes=["management"])
    for path in ("stats", "daily", "logs"):
        assert_error(chatty.get(f"/v1/usage/{path}"), 403, "scope_missing")
        assert manager.get(f"/v1/usage/{path}").status_code == 200


def test_the_api_needs_few_queries(django_assert_max_num_queries: Any) -> None:
    caller = customer(10**10)
    for number in range(5):
        used(keys.issue(organization=caller.organization, name=f"k{number}").key, end_user=f"u{number}")
    for path, most in (("stats", 16), ("daily", 10), ("logs", 10)):
        with django_assert_max_num_queries(most):
            caller.get(f"/v1/usage/{path}?{DAYS}")
