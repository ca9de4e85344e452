"""Receipts: the second opinion on the server's sum, and signatures that do not let anything through."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from billing import pricing as server_pricing
from billing import rate_json
from pixie import pricing, receipts
from tests.conftest import Pixie, Server

CATALOGUE = Path(__file__).resolve().parents[2] / "billing" / "catalogue"
MODELS = [
    (model["name"], model["rates"])
    for path in sorted(CATALOGUE.glob("*.json"))
    for model in json.loads(path.read_text()).get("models", [])
    if model.get("rates")
]
COUNTS = st.dictionaries(st.sampled_from(pricing.COMPONENTS), st.integers(0, 2_000_000), max_size=6)


def test_the_catalogue_is_there() -> None:
    assert len(MODELS) > 60


@settings(max_examples=400, deadline=None)
@given(model=st.sampled_from(MODELS), counts=COUNTS, data=st.data())
def test_it_reckons_as_the_server_does(model: tuple[str, dict[str, Any]], counts: dict[str, int], data: Any) -> None:
    name, rates = model
    rate = rate_json.parse(name, rates)
    meters = sorted(rate.units) or ["images"]
    units = data.draw(st.dictionaries(st.sampled_from(meters), st.integers(0, 10_000_000), max_size=2))
    tier = data.draw(st.sampled_from(["default", "auto", "fast", "batch", "flex", "priority"]))
    try:
        wanted: int | None = server_pricing.cost(server_pricing.Usage(**counts, units=units), rate, tier)
    except server_pricing.Unpriced:
        wanted = None
    try:
        found: int | None = pricing.cost_nanos({**counts, "units": units}, rates, tier)
    except pricing.Unpriced:
        found = None
    assert found == wanted


@pytest.mark.parametrize(
    ("usage", "rates"),
    [
        ({"input": -1}, {"input": "1"}),
        ({"input": 1.5}, {"input": "1"}),
        ({"input": True}, {"input": "1"}),
        ({"input": 1}, {"input": 0.5}),
        ({"input": 1}, {"input": "-1"}),
        ({"input": 1}, {"input": "1e999999999"}),
        ({"units": {"images": 1}}, {"units": {"unheard": "1"}}),
        ({"output": 1}, {"input": "1"}),
    ],
)
def test_what_is_no_usage_or_price_is_refused(usage: dict[str, Any], rates: dict[str, Any]) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - whatever it says
        pricing.cost_nanos(usage, rates, "default")


# A receipt as the server signs it, with a key that nobody else uses.
@pytest.fixture(scope="module")
def signed() -> tuple[dict[str, Any], dict[str, Any]]:
    from billing import signed_receipts

    document = {
        "version": 1, "request_id": f"req_{'a' * 32}", "created_at": "2026-11-20T10:00:00+00:00", "model": "gpt-fast",
        "endpoint": "/v1/chat/completions", "outcome": "completed", "is_estimated": False, "service_tier": "default",
        "upstream_request_id": "chatcmpl-é", "counts": {}, "usage": {"input": 1000, "output": 7, "units": {}},
        "price": {"version": 3, "model": "gpt-fast", "effective_at": "2026-01-01T00:00:00+00:00",
                  "rates_usd": {"input": "0.25", "output": "0.50"}},
        "lines": [{"unit": "input", "quantity": 1000, "nanos_per_million": 250_000_000, "per": 1}],
        "rounding": "up", "held_nanos": 900_000, "charged_nanos": 253_500,
    }  # fmt: skip
    return signed_receipts.sign(document), {"keys": [signed_receipts.jwk()]}


def test_a_good_receipt(signed: tuple[dict[str, Any], dict[str, Any]]) -> None:
    good = receipts.verify(*signed)
    # 1000 tokens at 250 n$ and 7 at 500
    assert (good.computed_nanos, good.charged_nanos) == (253_500, 253_500)


def test_no_changed_receipt_passes(signed: tuple[dict[str, Any], dict[str, Any]]) -> None:
    receipt, keys = signed
    for name in receipt["document"]:
        changed = copy.deepcopy(receipt)
        changed["document"][name] = "other"
        with pytest.raises(receipts.BadReceipt, match="does not belong"):
            receipts.verify(changed, keys)
    for name in ("signature", "key_id", "document"):
        less = {key: value for key, value in receipt.items() if key != name}
        with pytest.raises(receipts.BadReceipt):
            receipts.verify(less, keys)
    with pytest.raises(receipts.BadReceipt, match="no key"):
        receipts.verify(receipt, {"keys": []})
    with pytest.raises(receipts.BadReceipt, match="no key"):
        receipts.verify(receipt, {"keys": [keys["keys"][0] | {"x": "A" * 43}]})


def test_a_receipt_that_charges_too_much_is_bad_though_it_is_signed(
    signed: tuple[dict[str, Any], dict[str, Any]],
) -> None:
    from billing import signed_receipts

    receipt, keys = signed
    dearer = signed_receipts.sign(receipt["document"] | {"charged_nanos": 253_501})
    with pytest.raises(receipts.BadReceipt, match="charges 253,501"):
        receipts.verify(dearer, keys)
    cheaper = signed_receipts.sign(receipt["document"] | {"charged_nanos": 0})
    assert receipts.verify(cheaper, keys).charged_nanos == 0
    unpriced = signed_receipts.sign(receipt["document"] | {"usage": {"audio_input": 5, "units": {}}})
    with pytest.raises(receipts.BadReceipt, match="no price for audio_input"):
        receipts.verify(unpriced, keys)


def test_it_is_shown_and_checked(pixie: Pixie, server: Server, signed: tuple[dict[str, Any], dict[str, Any]]) -> None:
    receipt, keys = signed
    server.on("GET", f"/v1/receipts/req_{'a' * 32}", {"object": "receipt", **receipt})
    server.on("GET", "/.well-known/receipt-keys.json", keys)
    shown = pixie("receipt", "show", f"req_{'a' * 32}").out
    assert all(word in shown for word in ("gpt-fast", "completed", "0.02535 credits", "1,000", "25.00 per 1,000,000"))
    assert pixie("receipt", "show", "a" * 32, "-q").out == "0.02535\n"
    done = pixie("receipt", "verify", f"req_{'a' * 32}")
    assert done.code == 0
    assert "Reckoned anew: 0.02535 credits; charged 0.02535" in done.err
    assert "authorization" not in server.asked[-1].headers
    (pixie.home / "r.json").write_text(json.dumps(receipt))
    (pixie.home / "keys.json").write_text(json.dumps(keys))
    before = len(server.asked)
    assert pixie("receipt", "verify", "r.json", "--keys", "keys.json", "--json").json["verified"] is True
    assert pixie("receipt", "verify", "-", "--keys", "keys.json", "-q", stdin=json.dumps(receipt)).out == "verified\n"
    assert len(server.asked) == before  # needs nobody
    (pixie.home / "r.json").write_text(json.dumps(receipt | {"signature": "AAAA"}))
    bad = pixie("receipt", "verify", "r.json", "--keys", "keys.json", "--json")
    assert (bad.code, bad.error["code"]) == (9, "bad_receipt")
    assert pixie("receipt", "verify", "nonsense").code == 2
