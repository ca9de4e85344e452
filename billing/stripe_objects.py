"""Reading Stripe's objects: plain dictionaries whose shape we do not trust."""

from datetime import UTC, datetime
from typing import Any

from billing.purchases import PaymentMismatch


def cents(found: dict[str, Any], name: str) -> int:
    """An amount. Raises `PaymentMismatch` where there is none."""
    value = found.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise PaymentMismatch(f"{name} is {value!r}")
    return value


def mapping(found: dict[str, Any], *path: str) -> dict[str, Any]:
    """What lies at a path, if it is a mapping; else an empty one."""
    for name in path:
        inner = found.get(name)
        found = inner if isinstance(inner, dict) else {}
    return found


def first(found: dict[str, Any], name: str) -> dict[str, Any]:
    """The first object of a list of Stripe's."""
    rows = mapping(found, name).get("data")
    return rows[0] if isinstance(rows, list) and rows and isinstance(rows[0], dict) else {}


def moment(value: object) -> datetime | None:
    """A Unix time."""
    return datetime.fromtimestamp(value, UTC) if isinstance(value, int) and not isinstance(value, bool) else None


def subjects_of(found: dict[str, Any]) -> list[str]:
    """The payment and the invoice that an object is about, or is: the locks for all that concerns them, in order."""
    named = {found.get("payment_intent") or mapping(found, "payment").get("payment_intent"), found.get("invoice")}
    if not any(named):
        named = {found.get("id")}
    return sorted(one for one in named if isinstance(one, str))
