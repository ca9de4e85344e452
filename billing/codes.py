"""Redeem codes: credit for whoever has the code, so many times in all and once for each organization."""

import hashlib
import hmac
import secrets
from datetime import datetime, timedelta

from django.conf import settings
from django.db import models, transaction
from django.utils import timezone

from accounts import audit
from accounts.models import Organization, User
from billing import ledger, lots
from billing.models import AccountKind, Lot, RedeemCode, Transfer
from billing.money import NANOS_PER_CREDIT

_ALPHABET = "23456789ABCDEFGHJKLMNPQRSTUVWXYZ"
_GROUPS, _GROUP = 4, 4


class CodeRefused(ValueError):
    """The code gives nothing; the message says why, for whoever typed it."""


def create(
    *,
    credits: int,
    max_uses: int = 1,
    valid_until: datetime | None = None,
    credit_days: int | None = None,
    note: str = "",
    by: User | None = None,
) -> str:
    """A new code, shown this once. Its credit expires after `credit_days`, if given."""
    code = "-".join("".join(secrets.choice(_ALPHABET) for _ in range(_GROUP)) for _ in range(_GROUPS))
    with transaction.atomic():
        made = RedeemCode.objects.create(
            digest=_digest(code),
            hint=code[:_GROUP],
            credits=credits,
            max_uses=max_uses,
            valid_until=valid_until,
            credit_days=credit_days,
            note=note,
            created_by=by,
        )
        audit.record(action="code.create", target=made, organization=None, by=by, credits=credits, max_uses=max_uses)
    return code


def redeem(*, organization: Organization, code: str, by: User | None, origin: audit.Origin | None = None) -> Transfer:
    """The credit of a code. An organization that has it already gets nothing more. Raises `CodeRefused`."""
    with transaction.atomic():
        found = RedeemCode.objects.select_for_update().filter(digest=_digest(code)).first()
        if found is None:
            raise CodeRefused("This code does not exist. Check it for typing errors.")
        key = f"code:{found.pk}:{organization.pk}"
        if Transfer.objects.filter(idempotency_key=key).exists():
            raise CodeRefused("Your organization has used this code already.")
        if found.valid_until is not None and found.valid_until <= timezone.now():
            raise CodeRefused("This code has expired.")
        if found.uses >= found.max_uses:
            raise CodeRefused("This code has been used up.")
        RedeemCode.objects.filter(pk=found.pk).update(uses=models.F("uses") + 1)
        given = ledger.transfer(
            debit=ledger.house(AccountKind.PROMOTIONS),
            credit=ledger.account_of(organization),
            amount=found.credits * NANOS_PER_CREDIT,
            kind=Transfer.Kind.PROMOTION,
            idempotency_key=key,
            memo=f"Code {found.hint}…",
            by=by,
        )
        days = found.credit_days
        lots.add(given, Lot.Kind.PROMOTIONAL, expires_at=timezone.now() + timedelta(days=days) if days else None)
        audit.record(
            action="credits.redeem",
            target=organization,
            organization=organization,
            by=by,
            origin=origin,
            code=found.hint,
            credits=found.credits,
        )
    return given


def _digest(code: str) -> str:
    plain = "".join(character for character in code.upper() if character.isalnum())
    return hmac.digest(settings.API_KEY_PEPPER.encode(), f"code:{plain}".encode(), hashlib.sha256).hex()
