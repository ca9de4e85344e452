"""The services that come and go with the set-up."""

import pytest

from status import services
from status.models import Service

pytestmark = pytest.mark.django_db


def test_payments_are_a_service_where_credit_is_sold() -> None:
    services.keep_payments("")
    assert not Service.objects.filter(slug="payments").exists()
    services.keep_payments("https://stripe.example/v1/balance")
    services.keep_payments("https://stripe.example/v1/balance")
    made = Service.objects.get(slug="payments")
    assert (made.name, made.is_public) == ("Payments", True)
    assert made.checks.get().target == "https://stripe.example/v1/balance"
    services.keep_payments("")
    made.refresh_from_db()
    assert not made.is_public


def test_realtime_is_a_service_of_every_installation() -> None:
    check = Service.objects.get(slug="realtime").checks.get()
    assert (check.kind, check.target) == ("websocket", "/v1/realtime")
