"""Checking a receipt without trusting the server: its Ed25519 signature (RFC 8032), and the sum reckoned anew."""

import base64
import hashlib
import json
from dataclasses import dataclass
from typing import Any

from pixie import pricing
from pixie.errors import ExitCode, PixieError

KEYS_PATH = "/.well-known/receipt-keys.json"


class BadReceipt(PixieError):
    """The receipt is not what was signed, or does not add up."""

    def __init__(self, what: str, do: str = "Keep it and ask the operator: it was changed, or they are wrong.") -> None:
        super().__init__(what, do, exit_code=ExitCode.CHECK_FAILED, code="bad_receipt")


@dataclass(frozen=True, slots=True)
class Verified:
    """A good receipt: what its lines cost, and what was charged, which is never more."""

    key_id: str
    computed_nanos: int
    charged_nanos: int


def verify(receipt: dict[str, Any], keys: dict[str, Any]) -> Verified:
    """Check a receipt against a JWK Set of the server's. Raises `BadReceipt`."""
    key_id = _check_signature(receipt, keys)
    document = receipt["document"]
    try:
        computed = pricing.cost_nanos(document["usage"], document["price"]["rates_usd"], document["service_tier"] or "")
        charged = document["charged_nanos"]
        if isinstance(charged, bool) or not isinstance(charged, int) or charged < 0:
            raise ValueError("the charge is no amount")
    except (KeyError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
        raise BadReceipt(f"The receipt cannot be reckoned: {error}.") from None
    if charged > computed:
        raise BadReceipt(f"The receipt charges {charged:,} n$, but its usage costs {computed:,} n$.")
    return Verified(key_id, computed, charged)


def canonical(document: Any) -> bytes:
    """The bytes that are signed: JSON with sorted keys and no spaces, in UTF-8."""
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def format_credits(nanos: int) -> str:
    """Credits, exact: 123456000 -> `12.3456`."""
    sign = "-" if nanos < 0 else ""
    whole, fraction = divmod(abs(nanos), pricing.NANOS_PER_CREDIT)
    digits = f"{fraction:07d}".rstrip("0")
    return f"{sign}{whole}.{digits:0<4}"


def _check_signature(receipt: dict[str, Any], keys: dict[str, Any]) -> str:
    from cryptography.exceptions import InvalidSignature  # noqa: PLC0415 - slow to import, needed here alone
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey  # noqa: PLC0415

    try:
        signature = base64.b64decode(receipt["signature"], validate=True)
        signed, key_id = canonical(receipt["document"]), str(receipt["key_id"])
    except (KeyError, TypeError, ValueError):
        raise BadReceipt("This is no signed receipt.") from None
    try:
        Ed25519PublicKey.from_public_bytes(_public_key(keys, key_id)).verify(signature, signed)
    except InvalidSignature:
        raise BadReceipt("The signature does not belong to this receipt.") from None
    return key_id


def _public_key(keys: dict[str, Any], key_id: str) -> bytes:
    """The key with this id, whose id must be its own thumbprint (RFC 7638)."""
    for key in keys.get("keys") or []:
        if not isinstance(key, dict) or key.get("kid") != key_id:
            continue
        try:
            x = str(key["x"])
            raw = base64.urlsafe_b64decode(x + "=" * (-len(x) % 4))
        except (KeyError, ValueError):
            break
        told = json.dumps({"crv": "Ed25519", "kty": "OKP", "x": x}, separators=(",", ":")).encode()
        thumbprint = base64.urlsafe_b64encode(hashlib.sha256(told).digest()).rstrip(b"=").decode()
        if thumbprint != key_id or len(raw) != 32:
            break
        return raw
    raise BadReceipt(
        f"The server has no key {key_id[:60]!r}.", "The receipt is another server's, or older than its key."
    )
