"""A receipt says what a request cost, and can be checked by whoever has it and the public key."""

import copy
from typing import Any
from uuid import UUID

import pytest
from django.test import Client
from django.utils import timezone
from uuid_utils.compat import uuid7

from billing import rates, signed_receipts
from billing.models import UsageRecord
from proxy.tests.api_kit import ApiClient, assert_error, customer

pytestmark = pytest.mark.django_db


def request_of(caller: ApiClient, **fields: Any) -> UsageRecord:
    price = rates.set_price(model="m", input=1_000_000_000, cached_input=500_000_000, output=2_000_000_000)
    values: dict[str, Any] = {
        "request_id": UUID(int=uuid7().int),
        "account": caller.account,
        "organization": caller.organization,
        "key": caller.key,
        "cost_nanos": 10 * 1_000 + 5 * 500 + 7 * 2_000,
        "hold_nanos": 100_000,
        "input_tokens": 15,
        "cached_tokens": 5,
        "output_tokens": 7,
        "created_at": timezone.now(),
        "price_version": price.pk,
        "model": "m",
        "endpoint": "/v1/chat/completions",
        "outcome": "completed",
        "upstream_request_id": "up_1",
    }
    return UsageRecord.objects.create(**values | fields)


def public_key() -> dict[str, str]:
    key: dict[str, str] = Client().get("/.well-known/receipt-keys.json").json()["keys"][0]
    return key


def test_a_receipt_can_be_checked_by_anybody() -> None:
    caller = customer(10**9)
    record = request_of(caller)
    told = caller.get(f"/v1/receipts/req_{record.request_id.hex}").json()
    assert told["document"]["charged_nanos"] == record.cost_nanos
    assert [line["quantity"] for line in told["document"]["lines"]] == [10, 5, 7]
    key = public_key()
    assert told["key_id"] == key["kid"]
    assert signed_receipts.verify(told, key) == signed_receipts.Verified(record.cost_nanos, record.cost_nanos)


@pytest.mark.parametrize(
    "change",
    [
        lambda receipt: receipt["document"].update(charged_nanos=1),
        lambda receipt: receipt["document"]["usage"].update(input=1),
        lambda receipt: receipt.update(signature="AAAA"),
        lambda receipt: receipt.pop("document"),
    ],
    ids=["charge", "usage", "signature", "document"],
)
def test_a_changed_receipt_is_none(change: Any) -> None:
    caller = customer(10**9)
    told = caller.get(f"/v1/receipts/{request_of(caller).request_id}").json()
    changed = copy.deepcopy(told)
    change(changed)
    with pytest.raises(signed_receipts.BadReceipt):
        signed_receipts.verify(changed, public_key())


def test_a_receipt_that_charges_too_much_is_found_out() -> None:
    caller = customer(10**9)
    record = request_of(caller, cost_nanos=10**6)
    with pytest.raises(signed_receipts.BadReceipt, match="charges 1000000"):
        signed_receipts.verify(signed_receipts.of(record), public_key())


def test_only_for_whose_request_it_is() -> None:
    caller, other = customer(10**9), customer()
    record = request_of(caller)
    assert_error(other.get(f"/v1/receipts/{record.request_id}"), 404, "not_found")
    assert_error(caller.get("/v1/receipts/nothing"), 404, "not_found")
    assert_error(caller.get(f"/v1/receipts/{uuid7()}"), 404, "not_found")
