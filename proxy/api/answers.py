"""Amounts, times, budgets and keys as the management API tells them."""

from datetime import UTC, datetime
from typing import Any

from accounts.models import ApiKey
from billing.money import format_credits, format_usd
from billing.standings import Cap


def money(nanos: int) -> dict[str, Any]:
    """An amount in credits and in dollars, both exact."""
    return {"credits": format_credits(nanos), "usd": format_usd(nanos, 9)}


def cap_as_dict(cap: Cap) -> dict[str, Any]:
    """A budget's cap as the API tells it: cost in credits and dollars, tokens as numbers."""
    told: dict[str, Any] = {
        "id": cap.budget_id,
        "scope": cap.scope,
        "subject": cap.subject or None,
        "period": cap.period,
        "unit": "credits" if cap.unit == "cost" else "tokens",
        "mode": "observe" if cap.observes else "enforce",
    }
    figures = {"cap": cap.cap, "used": cap.used, "held": cap.held, "left": cap.left}
    if cap.unit == "cost":
        told |= {name: format_credits(value) for name, value in figures.items()}
        told["cap_usd"] = format_usd(cap.cap, 4)
    else:
        told |= figures
    return told | {"resets_at": moment(cap.resets_at)}


def key_as_dict(key: ApiKey) -> dict[str, Any]:
    """A key as lists of keys tell it: never the secret."""
    return {
        "object": "api_key",
        "id": str(key.public_id),
        "name": key.name,
        "is_live": key.is_live,
        "scopes": key.scopes,
        "allowed_models": key.allowed_models,
        "allowed_endpoints": key.allowed_endpoints,
        "allowed_ips": key.allowed_ips,
        "rpm": key.rpm,
        "tpm": key.tpm,
        "max_concurrent": key.max_concurrent,
        "created_at": moment(key.created_at),
        "expires_at": moment(key.expires_at),
        "revoked_at": moment(key.revoked_at),
        "last_used_at": moment(key.last_used_at),
    }


def moment(at: datetime | None) -> str | None:
    """A time as the API tells it: UTC, `2026-11-20T12:00:00Z`."""
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ") if at else None
