"""Ephemeral keys in the database, by digest. Those that have expired are forgotten."""

import secrets
from datetime import UTC, datetime, timedelta

from django.conf import settings
from django.db import DatabaseError
from django.db.models import Exists, OuterRef, Q
from django.utils import timezone

from accounts import key_format
from accounts.access import who_may
from accounts.models import User
from proxy.gateway.errors import Unavailable
from proxy.gateway.realtime.secrets import PREFIX, Bound, Wanted
from proxy.in_thread import in_thread
from proxy.models import ClientSecret

KEPT_AFTER = timedelta(days=1)


class Secrets:
    """See `proxy.gateway.realtime.secrets.ClientSecrets`."""

    async def mint(self, key_id: int, wanted: Wanted, *, end_user: str) -> str:
        try:
            minted: str = await in_thread(lambda: mint(key_id, wanted, end_user=end_user))
        except DatabaseError:
            raise Unavailable from None
        return minted

    async def find(self, secret: str) -> Bound | None:
        try:
            found: Bound | None = await in_thread(lambda: find(secret))
        except DatabaseError:
            raise Unavailable from None
        return found


def find(secret: str) -> Bound | None:
    """What `secret` stands for; None if it is unknown or over. One query; raises `DatabaseError`."""
    still_may = who_may("keys.manage").filter(organization=OuterRef("key__organization"), user=OuterRef("member"))
    rows = ClientSecret.objects.filter(
        Q(member=None) | Exists(still_may), digest=_digest(secret), expires_at__gt=timezone.now()
    )
    row = rows.values_list("key__digest", "model", "session", "end_user").first()
    return None if row is None else Bound(*row)


def mint(key_id: int, wanted: Wanted, *, end_user: str = "", member: User | None = None) -> str:
    """A new ephemeral key of the API key `key_id`, shown this once; one for a `member` ends with their membership."""
    secret = PREFIX + secrets.token_urlsafe(32)
    ClientSecret.objects.create(
        digest=_digest(secret),
        key_id=key_id,
        model=wanted.model,
        session=wanted.session,
        end_user=end_user,
        member=member,
        expires_at=datetime.fromtimestamp(wanted.expires_at, UTC),
    )
    return secret


def forget_expired() -> int:
    """Drop those that opened nothing for a day; how many."""
    deleted, _ = ClientSecret.objects.filter(expires_at__lt=timezone.now() - KEPT_AFTER).delete()
    return deleted


def _digest(secret: str) -> str:
    return key_format.digest_of(secret, settings.API_KEY_PEPPER)
