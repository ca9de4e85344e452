"""The gateway's errors for a hold that was refused, for what is held without an exchange."""

from django.conf import settings

from billing.money import format_credits
from billing.slips import Refused
from proxy.api.authentication import Caller
from proxy.gateway import ceilings
from proxy.gateway.errors import (
    Forbidden,
    GatewayError,
    InsufficientQuota,
    Unauthenticated,
    UserBlocked,
)


def of(caller: Caller, refused: Refused, needed: int, *, tokens: int) -> GatewayError:
    """The error that says why `needed` nano-dollars and `tokens` were not held."""
    console = f"{settings.SITE_URL}/o/{caller.organization.slug}/"
    match refused.reason:
        case "budget" if refused.rule:
            return ceilings.over_budget(refused.rule, console, nanos=needed, tokens=tokens)
        case "user_blocked":
            return UserBlocked((refused.rule or {}).get("reason", ""))
        case "key_revoked":
            return Unauthenticated("This API key has been revoked or has expired.")
        case "account_frozen":
            return Forbidden(f"This organization's account is frozen. See {console}", code="account_frozen")
    available = format_credits(max(0, refused.affordable))
    return InsufficientQuota(
        f"There is not enough credit: {available} credits are available, {format_credits(needed)} are needed. "
        f"Top up at {console}billing/",
        top_up_url=f"{console}billing/",
    )
