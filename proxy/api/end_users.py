"""A tenant's end users as the API tells them, in the camel case that the clients of `/v1/sdk` know."""

from collections.abc import Sequence
from typing import Any

from accounts.models import Organization
from billing import end_users, standings
from billing.end_user_usage import EndUserUsage
from billing.models import EndUserBlock
from billing.money import format_usd
from proxy.api.answers import moment

Threshold = dict[str, Any]


def usage_of(used: EndUserUsage) -> dict[str, Any]:
    """The month of one end user."""
    return {
        "inputTokens": used.input_tokens,
        "outputTokens": used.output_tokens,
        "totalTokens": used.tokens,
        "costUsd": format_usd(used.cost_nanos, 9),
        "lastUpdated": moment(used.last_at),
    }


def thresholds_of(organization: Organization, names: Sequence[str]) -> dict[str, Threshold]:
    """The caps of the month of each: its own, or the default's that it will follow; 0: none. Two queries."""
    default = end_users.defaults_of(organization).get("month")
    fallback = {"cost": default.cost_cap_nanos or 0, "tokens": default.token_cap or 0} if default else {}
    caps = standings.caps_of_end_users(organization, names)
    found = {}
    for name in names:
        own = {cap.unit: cap.cap for cap in caps.get(name, ()) if cap.period == "month"} or fallback
        found[name] = {"maxCostUsd": format_usd(own.get("cost", 0), 4), "maxTotalTokens": own.get("tokens", 0)}
    return found


def block_entry(block: EndUserBlock | None) -> dict[str, Any] | None:
    """Why, since when and until when."""
    if block is None:
        return None
    return {
        "userId": block.end_user,
        "reason": block.reason,
        "blockedAt": moment(block.created_at),
        "expiresAt": moment(block.expires_at),
    }
