"""The gateway's errors for a hold that was refused, for what is held without an exchange."""

from typing import Any

from django.conf import settings

from billing.money import format_credits, format_usd
from billing.slips import Refused
from proxy.api.authentication import Caller
from proxy.gateway.errors import (
    BudgetExceeded,
    Forbidden,
    GatewayError,
    InsufficientQuota,
    Unauthenticated,
    UserBlocked,
)


def of(caller: Caller, refused: Refused, needed: int) -> GatewayError:
    """The error that says why `needed` nano-dollars were not held."""
    console = f"{settings.SITE_URL}/o/{caller.organization.slug}/"
    match refused.reason:
        case "budget" if refused.rule:
            return BudgetExceeded(_over(refused.rule, console), rule=refused.rule)
        case "user_blocked":
            return UserBlocked((refused.rule or {}).get("reason", ""))
        case "key_revoked":
            return Unauthenticated("This API key has been revoked or has expired.")
        case "account_frozen":
            return Forbidden(f"This organization's account is frozen. See {console}", code="account_frozen")
    available = format_credits(max(0, refused.affordable))
    return InsufficientQuota(
        f"You have not enough credit: {available} credits are available, {format_credits(needed)} are needed. "
        f"Top up at {console}billing/",
        top_up_url=f"{console}billing/",
    )


def _over(rule: dict[str, Any], console: str) -> str:
    def amount(value: int) -> str:
        return f"${format_usd(value, 4)}" if rule["unit"] == "cost" else f"{value} tokens"

    resets = f" It resets at {rule['resets_at']}." if rule.get("resets_at") else ""
    return (
        f"The {rule['period']} budget of this {rule['scope'].replace('_', ' ')} is {amount(rule['cap'])}; "
        f"{amount(rule['used'])} are used and {amount(rule['held'])} held.{resets} Change it at {console}limits/"
    )
