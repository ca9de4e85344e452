"""The demo's past is on the books like any other use, and the same whenever it is made on the same day."""

from datetime import UTC, datetime, timedelta

import pytest
from django.db import connection
from django.utils import timezone

from accounts.models import ApiKey, Organization
from billing import ledger, rates, reconciliation, reports
from billing.models import UsageRecord
from billing.reports import Span, Which
from gallery.models import Image
from proxy.models import Conversation, Model
from sandbox import demo, past
from status import snapshot


@pytest.fixture
def catalogue(transactional_db):
    for habit in past.HABITS:
        Model.objects.get_or_create(name=habit.model, defaults={"endpoints": [habit.endpoint]})
        prices = {"input": 400_000_000, "output": 1_600_000_000, "image_output": 30_000_000_000}
        rates.set_price(model=habit.model, **prices)


def load(tmp_path):
    path = tmp_path / "secrets.json"
    path.write_text("{}")
    options = {"password": "a-long-password", "provider_url": "http://127.0.0.1:9/v1", "provider_key": "k"}
    demo.load(**options, secrets_path=path, has_past=True)
    return Organization.objects.get(slug="demo")


def test_the_past_is_on_the_books_and_the_books_are_right(catalogue, tmp_path):
    organization = load(tmp_path)
    records = list(UsageRecord.objects.order_by("request_id"))
    first, now = past.span(timezone.now())[0], timezone.now()
    assert len(records) > 200
    assert all(record.settled_at for record in records)
    assert all(first <= record.started_at <= record.created_at < now for record in records)
    assert {record.outcome for record in records} >= {"completed", "upstream_error"}
    assert all(record.cost_nanos == 0 for record in records if record.status_code != 200)
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM billing_usagerecord_default")
        assert cursor.fetchone() == (0,)
        cursor.execute("SHOW search_path")
        assert "pg_catalog" not in cursor.fetchone()[0]
        cursor.execute("SELECT count(*) FROM pg_proc WHERE proname = 'clock_timestamp'")
        assert cursor.fetchone() == (1,)
    left = ledger.balance_of(organization).available - demo.CREDITS * 10_000_000
    assert 0 <= left < 10_000_000  # what the past cost was given for it, in whole credits
    assert reconciliation.check() == []

    days = [first.date() + timedelta(days=back) for back in range(20)]
    totals = [reports.total(organization, Span(day, day, UTC), Which()) for day in days]
    assert all(total.requests and total.cost_nanos for total in totals)
    keys = ApiKey.objects.filter(organization=organization)
    assert len(keys) == 3
    assert all(first <= key.created_at < key.last_used_at < now for key in keys)
    assert Image.objects.count() == 4
    assert Conversation.objects.filter(organization=organization).count() == 2
    told = snapshot.build(timezone.now())
    assert all(service["days"][-2]["state"] == "operational" for service in told["services"])
    assert [incident["status"] for incident in told["incidents"]] == ["resolved"]

    load(tmp_path)
    assert UsageRecord.objects.count() == len(records)


def test_it_reaches_back_to_last_month_at_most():
    start, end = past.span(datetime(2026, 3, 1, 12, tzinfo=UTC))
    assert start == datetime(2026, 2, 1, tzinfo=UTC)
    assert end < datetime(2026, 3, 1, 12, tzinfo=UTC)
    assert past.span(datetime(2026, 11, 21, 12, tzinfo=UTC))[0] == datetime(2026, 10, 23, tzinfo=UTC)
