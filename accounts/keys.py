"""Issuing, revoking and rotating API keys."""

import uuid
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from ipaddress import ip_network
from itertools import batched
from typing import Any

from django.conf import settings
from django.db import IntegrityError, transaction
from django.db.models import Q
from django.db.models.functions import Now
from django.dispatch import Signal
from django.utils import timezone

from accounts import audit, events, key_format
from accounts.errors import AccountsError
from accounts.models import ApiKey, Organization, User
from accounts.scopes import ADMIN, ENDPOINTS, SCOPES

MAX_GRACE = timedelta(days=30)
# A busy key is written this often, whichever and however many workers serve it; so many keys in one statement.
USE_NOTED_EVERY = timedelta(minutes=1)
NOTED_AT_ONCE = 1_000
# What of a key may be changed. Its scopes may not: whoever holds it could do what its maker may, and they may not.
CHANGEABLE = frozenset(
    {"name", "allowed_models", "allowed_endpoints", "allowed_ips", "rpm", "tpm", "max_concurrent", "expires_at"}
)
# Sent in the transaction that issues `new` in place of `old`; `by` and `origin` are whose doing it is.
rotated = Signal()


class InvalidKey(AccountsError):
    """A field of a key breaks a rule: `field` names it, `value` is what was given."""

    def __init__(self, field: str, value: object) -> None:
        super().__init__(f"{field}: {value!r}")
        self.field = field
        self.value = value


class AlreadyIssued(AccountsError):
    """The form was sent twice: `key` was issued the first time."""

    def __init__(self, key: ApiKey) -> None:
        super().__init__(str(key.public_id))
        self.key = key


@dataclass(frozen=True, slots=True)
class Issued:
    """A new key with its secret, which exists nowhere else: show it once and forget it."""

    key: ApiKey
    secret: str = field(repr=False)


def issue(
    *,
    organization: Organization,
    name: str,
    by: User | None = None,
    scopes: Collection[str] = (),
    allowed_models: Collection[str] = (),
    allowed_endpoints: Collection[str] = (),
    allowed_ips: Collection[str] = (),
    rpm: int | None = None,
    tpm: int | None = None,
    max_concurrent: int | None = None,
    expires_at: datetime | None = None,
    public_id: uuid.UUID | None = None,
    origin: audit.Origin | None = None,
) -> Issued:
    """Make a key. Empty collections allow everything. Raises `InvalidKey`; with a `public_id` used before,
    `AlreadyIssued`.
    """
    _check_admin(scopes, by)
    _check(name, scopes, allowed_endpoints, rpm=rpm, tpm=tpm, expires_at=expires_at)
    return _store(
        ApiKey(
            public_id=public_id or uuid.uuid4(),
            organization=organization,
            name=name,
            scopes=sorted(set(scopes)),
            rpm=rpm,
            tpm=tpm,
            max_concurrent=max_concurrent,
            expires_at=expires_at,
            created_by=by,
            **_lists(allowed_models, allowed_endpoints, allowed_ips),
        ),
        action="key.issue",
        by=by,
        origin=origin,
    )


def revoke(*, key: ApiKey, by: User | None, origin: audit.Origin | None = None) -> bool:
    """End `key` now; a second time changes nothing. Returns whether it was live. Every worker hears of it at once."""
    with transaction.atomic():
        ended = ApiKey.objects.filter(Q(revoked_at=None) | Q(revoked_at__gt=Now()), pk=key.pk).update(revoked_at=Now())
        key.refresh_from_db(fields=["revoked_at"])
        if ended:
            audit.record(
                action="key.revoke", target=key, organization=key.organization, by=by, origin=origin, name=key.name
            )
            _tell("key.revoked", key)
    return bool(ended)


def change(*, key: ApiKey, by: User | None, origin: audit.Origin | None = None, **fields: Any) -> ApiKey:
    """Set some of `CHANGEABLE`, checked as for a new key; every worker hears of it within a second.

    Raises `InvalidKey`, also for a key that has ended. The same again changes nothing.
    """
    with transaction.atomic():
        row = ApiKey.objects.select_for_update(of=("self",), no_key=True).select_related("organization").get(pk=key.pk)
        if not row.is_live:
            raise InvalidKey("key", row.masked)
        before = {name: getattr(row, name) for name in sorted(CHANGEABLE)}
        wanted = before | {name: fields[name] for name in CHANGEABLE & set(fields)}
        expires_at = wanted["expires_at"] if wanted["expires_at"] != before["expires_at"] else None
        _check(
            wanted["name"], (), wanted["allowed_endpoints"], rpm=wanted["rpm"], tpm=wanted["tpm"], expires_at=expires_at
        )
        wanted |= _lists(wanted["allowed_models"], wanted["allowed_endpoints"], wanted["allowed_ips"])
        changed = {name: value for name, value in wanted.items() if value != before[name]}
        for name, value in changed.items():
            setattr(row, name, value)
        if changed:
            row.save(update_fields=list(changed))
            told = {name: str(value) if isinstance(value, datetime) else value for name, value in changed.items()}
            audit.record(
                action="key.change",
                target=row,
                organization=row.organization,
                by=by,
                origin=origin,
                **({"name": row.name} | told),
            )
    return row


def rotate(
    *, key: ApiKey, by: User | None, grace: timedelta, public_id: uuid.UUID | None = None,
    origin: audit.Origin | None = None,
) -> Issued:  # fmt: skip
    """Issue a successor with the same limits and budgets; `key` works for `grace` longer.

    Raises `InvalidKey` for a dead key, and where `by` could not make a key of its scopes.
    """
    if not timedelta(0) <= grace <= MAX_GRACE:
        raise InvalidKey("grace", grace)
    with transaction.atomic():
        old = ApiKey.objects.select_for_update(of=("self",), no_key=True).select_related("organization").get(pk=key.pk)
        if not old.is_live:
            raise InvalidKey("key", old.masked)
        _check_admin(old.scopes, by)
        issued = _store(
            ApiKey(
                public_id=public_id or uuid.uuid4(),
                organization=old.organization,
                scopes=old.scopes,
                rotated_from=old,
                created_by=by,
                **{name: getattr(old, name) for name in CHANGEABLE},
            ),
            action="key.rotate",
            by=by,
            origin=origin,
        )
        ends_at = timezone.now() + grace
        old.revoked_at = min(ends_at, old.revoked_at) if old.revoked_at else ends_at
        old.save(update_fields=["revoked_at"])
        _tell("key.revoked", old)
        rotated.send(sender=ApiKey, old=old, new=issued.key, by=by, origin=origin)
    return issued


def record_use(key_ids: Iterable[int]) -> None:
    """Note that these keys were used just now, to the minute."""
    is_due = Q(last_used_at=None) | Q(last_used_at__lt=Now() - USE_NOTED_EVERY)
    for some in batched(sorted(key_ids), NOTED_AT_ONCE, strict=False):
        ApiKey.objects.filter(is_due, pk__in=some).update(last_used_at=Now())


def _store(key: ApiKey, *, action: str, by: User | None, origin: audit.Origin | None) -> Issued:
    secret = key_format.generate()
    key.prefix = key_format.public_prefix(secret)
    key.last_four = secret[-4:]
    key.digest = key_format.digest_of(secret, settings.API_KEY_PEPPER)
    try:
        with transaction.atomic():
            key.save(force_insert=True)
            audit.record(action=action, target=key, organization=key.organization, by=by, origin=origin, name=key.name)
            _tell("key.created", key)
    except IntegrityError:
        earlier = ApiKey.objects.filter(organization=key.organization, public_id=key.public_id).first()
        if earlier is None:
            raise
        raise AlreadyIssued(earlier) from None
    return Issued(key, secret)


def _tell(kind: str, key: ApiKey) -> None:
    """Write the event. `ends_at` is when the key stops, at once or after the grace of a rotation."""
    ends_at = key.revoked_at or key.expires_at
    data = {
        "id": str(key.public_id),
        "name": key.name,
        "key": key.masked,
        "scopes": key.scopes,
        "ends_at": ends_at.isoformat() if ends_at else None,
        "rotated_from": str(key.rotated_from.public_id) if key.rotated_from else None,
    }
    events.record(organization=key.organization, kind=kind, data=data)


def _check_admin(scopes: Collection[str], by: User | None) -> None:
    if ADMIN in scopes and not (by is not None and by.is_staff):
        raise InvalidKey("scopes", ADMIN)


def _check(
    name: str,
    scopes: Collection[str],
    endpoints: Collection[str],
    *,
    rpm: int | None,
    tpm: int | None,
    expires_at: datetime | None,
) -> None:
    if not name.strip() or len(name) > 80:
        raise InvalidKey("name", name)
    for scope in scopes:
        if scope not in SCOPES:
            raise InvalidKey("scopes", scope)
    for endpoint in endpoints:
        if endpoint not in ENDPOINTS:
            raise InvalidKey("allowed_endpoints", endpoint)
    for label, limit in (("rpm", rpm), ("tpm", tpm)):
        if limit is not None and limit < 1:
            raise InvalidKey(label, limit)
    if expires_at is not None and expires_at <= timezone.now():
        raise InvalidKey("expires_at", expires_at)


def _lists(models: Collection[str], endpoints: Collection[str], addresses: Collection[str]) -> dict[str, list[str]]:
    """The lists of a key as they are kept. Raises `InvalidKey`."""
    return {
        "allowed_models": list(dict.fromkeys(models)),
        "allowed_endpoints": sorted(set(endpoints)),
        "allowed_ips": _networks(addresses),
    }


def _networks(addresses: Collection[str]) -> list[str]:
    networks = []
    for address in addresses:
        try:
            networks.append(str(ip_network(address, strict=False)))
        except ValueError:
            raise InvalidKey("allowed_ips", address) from None
    return list(dict.fromkeys(networks))
