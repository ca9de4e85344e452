"""Passes of the playground: short-lived keys for a member's browser, so that it calls `/v1` as any other client does.

A pass stands for the organization's key "Playground", with the member as end user. It opens what the playground needs
and nothing that the key itself may not open, and it ends with the key, or when its holder is no developer any more.
"""

import secrets
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from django.conf import settings
from django.db.models import Exists, OuterRef
from django.utils import timezone

from accounts import key_format
from accounts.access import who_may
from accounts.models import ApiKey, User
from proxy.gateway.snapshots import Key
from proxy.models import ClientSecret

PREFIX = "play_"
LIFE = timedelta(minutes=10)
SCOPES = frozenset({"chat", "images", "audio", "models"})
# A key's empty set of scopes allows everything: where nothing is left, a name that no endpoint has.
_NOTHING = frozenset({"nothing"})


@dataclass(frozen=True, slots=True)
class Found:
    """What a pass stands for."""

    key_digest: str
    end_user: str

    def narrowed(self, key: Key) -> Key:
        """`key` as the pass opens it."""
        scopes = key.scopes & SCOPES if key.scopes else SCOPES
        return replace(key, scopes=scopes or _NOTHING, end_user=self.end_user)


def mint(*, key: ApiKey, member: User) -> tuple[str, datetime]:
    """A new pass, shown this once, and when it ends."""
    secret = PREFIX + secrets.token_urlsafe(32)
    expires_at = timezone.now() + LIFE
    ClientSecret.objects.create(digest=_digest(secret), key=key, end_user=member.email, expires_at=expires_at)
    return secret, expires_at


def find(secret: str) -> Found | None:
    """What `secret` stands for; None if it is unknown or over. One query; raises `DatabaseError`."""
    still_may = who_may("keys.manage").filter(
        organization=OuterRef("key__organization"), user__email=OuterRef("end_user")
    )
    rows = ClientSecret.objects.filter(Exists(still_may), digest=_digest(secret), expires_at__gt=timezone.now())
    row = rows.values_list("key__digest", "end_user").first()
    return None if row is None else Found(*row)


def _digest(secret: str) -> str:
    return key_format.digest_of(secret, settings.API_KEY_PEPPER)
