"""Receipts that a customer can check without us: what a request used, the price row, the charge; signed with Ed25519.

The signature is over the document's JSON with sorted keys and no spaces (RFC 8032; keys as JWK, RFC 8037). `verify`
checks it and reckons the cost anew from the document alone.
"""

import base64
import hashlib
from dataclasses import dataclass
from functools import cache
from typing import Any

import orjson
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from django.conf import settings

from billing import pricing, rate_json, rates, receipts
from billing.models import UsageRecord
from billing.price_models import Price

VERSION = 1
_COUNTS = (
    "input_tokens",
    "cached_tokens",
    "cache_write_tokens",
    "output_tokens",
    "reasoning_tokens",
    "audio_input_tokens",
    "audio_output_tokens",
    "image_input_tokens",
    "image_output_tokens",
)


class BadReceipt(ValueError):
    """The receipt is not what was signed, or does not add up; the message says which."""


@dataclass(frozen=True, slots=True)
class Verified:
    """What a good receipt says: `computed_nanos` by its own lines, and what was charged, never more."""

    computed_nanos: int
    charged_nanos: int


def of(record: UsageRecord) -> dict[str, Any]:
    """The signed receipt of a request: {"document", "signature", "key_id"}. Raises `rates.NoSuchPrice`."""
    return sign(document_of(record))


def document_of(record: UsageRecord) -> dict[str, Any]:
    """What is signed. Amounts are nano-dollars, prices dollars as the price book has them."""
    row = Price.objects.filter(pk=record.price_version).first()
    if row is None:
        raise rates.NoSuchPrice(record.price_version)
    usage = receipts.usage_of(record)
    lines = _lines(usage, rate_json.parse(row.model, row.rates, version=row.pk), record.service_tier)
    return {
        "version": VERSION,
        "request_id": f"req_{record.request_id.hex}",
        "created_at": record.created_at.isoformat(),
        "model": record.model,
        "endpoint": record.endpoint,
        "outcome": record.outcome,
        "is_estimated": record.estimated,
        "service_tier": record.service_tier,
        "upstream_request_id": record.upstream_request_id,
        "counts": {name: getattr(record, name) for name in _COUNTS},
        "usage": {
            **{name: value for name in pricing.COMPONENTS if (value := getattr(usage, name))},
            "units": dict(usage.units),
        },
        "price": {
            "version": row.pk,
            "model": row.model,
            "effective_at": row.effective_at.isoformat(),
            "rates_usd": row.rates,
        },
        "lines": lines,
        "rounding": "up to the next nano-dollar, once, on the total",
        "held_nanos": record.hold_nanos,
        "charged_nanos": record.cost_nanos,
    }


def sign(document: dict[str, Any]) -> dict[str, Any]:
    """The document with our signature."""
    signature = _private_key(settings.RECEIPT_SIGNING_KEY).sign(canonical(document))
    return {"document": document, "signature": base64.b64encode(signature).decode(), "key_id": jwk()["kid"]}


def jwk() -> dict[str, str]:
    """The public key, as `/.well-known/receipt-keys.json` lists it."""
    raw = _private_key(settings.RECEIPT_SIGNING_KEY).public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    x = base64.urlsafe_b64encode(raw).rstrip(b"=").decode()
    thumbprint = hashlib.sha256(orjson.dumps({"crv": "Ed25519", "kty": "OKP", "x": x})).digest()  # RFC 7638
    kid = base64.urlsafe_b64encode(thumbprint).rstrip(b"=").decode()
    return {"kty": "OKP", "crv": "Ed25519", "alg": "EdDSA", "use": "sig", "kid": kid, "x": x}


def verify(receipt: dict[str, Any], key: dict[str, str]) -> Verified:
    """Check a receipt against a public key of ours and reckon it anew. Raises `BadReceipt`. Needs no database."""
    try:
        raw = base64.urlsafe_b64decode(key["x"] + "=" * (-len(key["x"]) % 4))
        signature = base64.b64decode(receipt["signature"], validate=True)
        document = receipt["document"]
        Ed25519PublicKey.from_public_bytes(raw).verify(signature, canonical(document))
    except InvalidSignature:
        raise BadReceipt("The signature does not belong to this receipt.") from None
    except (KeyError, TypeError, ValueError):
        raise BadReceipt("This is not a signed receipt.") from None
    try:
        used = dict(document["usage"])
        usage = pricing.Usage(units=used.pop("units"), **used)
        rate = rate_json.parse(document["price"]["model"], document["price"]["rates_usd"])
        computed = pricing.cost(usage, rate, document["service_tier"])
        charged = document["charged_nanos"]
    except (KeyError, TypeError, ValueError, LookupError) as error:
        raise BadReceipt(f"The receipt cannot be reckoned: {error}") from None
    if charged > computed:
        raise BadReceipt(f"The receipt charges {charged} n$, its usage costs {computed} n$.")
    return Verified(computed, charged)


def canonical(document: dict[str, Any]) -> bytes:
    """The bytes that are signed."""
    return orjson.dumps(document, option=orjson.OPT_SORT_KEYS)


def _lines(usage: pricing.Usage, rate: pricing.Rate, tier: str) -> list[dict[str, Any]]:
    try:
        lines = pricing.breakdown(usage, rate, tier)
    except pricing.Unpriced:
        return []
    return [
        {
            "unit": line.component,
            "quantity": line.quantity,
            "nanos_per_million": line.nanos_per_million,
            "per": line.size,
        }
        for line in lines
    ]


@cache
def _private_key(seed: bytes) -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(seed)
