"""A proposed limit against the requests of the last 30 days."""

import secrets
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from django.utils import timezone

from accounts import keys, organizations
from billing import ledger
from billing.backtest import back_test
from billing.models import UsageRecord
from billing.usage import first_id_at

pytestmark = pytest.mark.django_db


@pytest.fixture
def key():
    return keys.issue(organization=organizations.create(name="org"), name="server").key


def request(key, at, cost, *, hold=0, tokens=0, end_user=""):
    UsageRecord.objects.create(
        request_id=UUID(int=first_id_at(at).int | secrets.randbits(62)),
        account=ledger.account_of(key.organization),
        organization=key.organization,
        key=key,
        created_at=at,
        cost_nanos=cost,
        hold_nanos=hold,
        input_tokens=tokens,
        model="m",
        endpoint="/v1/chat/completions",
        outcome="completed",
        end_user=end_user,
    )


def test_a_request_that_would_not_have_fitted_is_counted_and_uses_nothing(key):
    noon = timezone.now().replace(hour=12) - timedelta(days=3)
    for minute, cost in enumerate((40, 50, 20, 10, 1)):  # of 100: 40, 90, refused, 100, refused
        request(key, noon + timedelta(minutes=minute), cost)
    request(key, noon + timedelta(days=1), 100)
    request(key, noon - timedelta(days=40), 1000)
    found = back_test(key.organization, scope="organization", period="day", cost_cap_nanos=100, token_cap=None)
    assert (found.requests, found.refused, found.saved_nanos, found.periods) == (6, 2, 21, 1)
    assert found.first_refused_at == noon + timedelta(minutes=2)
    assert found.percent == 34  # 2 of 6, rounded up
    assert found.is_complete


def test_what_was_held_must_have_fitted_as_admission_has_it(key):
    noon = timezone.now().replace(hour=12) - timedelta(days=3)
    request(key, noon, 40, hold=90)
    request(key, noon + timedelta(minutes=1), 10, hold=61)  # 40 + 61 is over 100
    request(key, noon + timedelta(minutes=2), 10, hold=60)
    found = back_test(key.organization, scope="organization", period="month", cost_cap_nanos=100, token_cap=None)
    assert (found.refused, found.saved_nanos) == (1, 10)


def test_each_subject_has_its_own_period_and_one_may_be_asked_alone(key):
    noon = timezone.now().replace(hour=12) - timedelta(days=3)
    for who, tokens in (("a", 60), ("b", 60), ("a", 60), ("", 999)):
        request(key, noon, 1, tokens=tokens, end_user=who)
    caps = {"period": "day", "cost_cap_nanos": None, "token_cap": 100}
    every = back_test(key.organization, scope="end_user", **caps)
    assert (every.requests, every.refused, every.subjects) == (3, 1, 1)
    assert back_test(key.organization, scope="end_user", subject="b", **caps).refused == 0
    assert back_test(key.organization, scope="key", subject=key.pk, **caps).refused == 3
    assert back_test(key.organization, scope="key", subject=key.pk + 1, **caps).requests == 0


def test_a_day_is_a_day_of_the_organization(key):
    key.organization.timezone = "Asia/Tokyo"
    day = timezone.now().date() - timedelta(days=5)
    midnight_in_tokyo = datetime(day.year, day.month, day.day, 15, tzinfo=UTC)
    request(key, midnight_in_tokyo - timedelta(minutes=1), 60)
    request(key, midnight_in_tokyo + timedelta(minutes=1), 60)
    found = back_test(key.organization, scope="organization", period="day", cost_cap_nanos=100, token_cap=None)
    assert found.refused == 0


def test_too_many_requests_are_replayed_from_the_newest(key, monkeypatch):
    monkeypatch.setattr("billing.backtest.MAX_RECORDS", 2)
    noon = timezone.now().replace(hour=12) - timedelta(days=3)
    for minute in range(3):
        request(key, noon + timedelta(minutes=minute), 60)
    found = back_test(key.organization, scope="organization", period="day", cost_cap_nanos=100, token_cap=None)
    assert (found.requests, found.refused, found.is_complete) == (2, 1, False)


def test_without_requests_nothing_is_refused(key):
    found = back_test(key.organization, scope="organization", period="day", cost_cap_nanos=0, token_cap=0)
    assert (found.requests, found.refused, found.percent, found.first_refused_at) == (0, 0, 0, None)
