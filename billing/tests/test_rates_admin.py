"""Prices in the admin: read and added, never changed."""

from datetime import timedelta

import pytest
from django.urls import reverse
from django.utils import timezone

from billing import rates
from billing.price_models import Price

pytestmark = pytest.mark.django_db


def _form(**fields: str) -> dict[str, str]:
    blank = {"effective_at_0": "", "effective_at_1": "", "provider": "", "source": ""}
    return {"model": "m", "side": "sell", "rates": '{"input": "2", "output": "4"}', **blank, **fields}


def test_staff_set_a_price_from_now_on(admin_client, admin_user):
    rates.set_price(model="m", rates={"input": "1"})
    assert admin_client.post(reverse("admin:billing_price_add"), _form()).status_code == 302
    assert rates.current_rates()["m"].base.output == 4_000_000_000
    newest = Price.objects.order_by("-pk").first()
    assert (newest.origin, newest.source) == ("staff", f"set by {admin_user}")


def test_staff_set_a_price_for_tomorrow(admin_client):
    day = timezone.now() + timedelta(days=1)
    form = _form(effective_at_0=f"{day:%Y-%m-%d}", effective_at_1="00:00:00")
    assert admin_client.post(reverse("admin:billing_price_add"), form).status_code == 302
    assert rates.current_rates() == {}
    assert Price.objects.get().effective_at.date() == day.date()


@pytest.mark.parametrize(
    "wrong",
    [
        {"rates": "{"},
        {"rates": '{"input": 0.5}'},
        {"rates": '{"inptu": "1"}'},
        {"model": ""},
        {"side": "cost"},
        {"provider": "openai"},
        {"effective_at_0": "2020-01-01", "effective_at_1": "00:00:00"},
    ],
)
def test_a_wrong_price_is_shown_again_with_what_is_wrong(admin_client, wrong):
    page = admin_client.post(reverse("admin:billing_price_add"), _form(**wrong))
    assert page.status_code == 200
    assert "errorlist" in page.content.decode()
    assert not Price.objects.exists()


def test_nobody_changes_or_deletes_a_price(admin_client):
    row = rates.set_price(model="m", rates={"input": "1"})
    assert admin_client.get(reverse("admin:billing_price_changelist")).status_code == 200
    assert admin_client.get(reverse("admin:billing_price_change", args=[row.pk])).status_code == 200  # to read
    assert admin_client.post(reverse("admin:billing_price_change", args=[row.pk]), _form()).status_code == 403
    assert admin_client.post(reverse("admin:billing_price_delete", args=[row.pk]), {"post": "yes"}).status_code == 403
