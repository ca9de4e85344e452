"""The keys that open `/v1`, read from the tables once and kept until PostgreSQL says that they changed."""

import time
from collections import OrderedDict
from dataclasses import replace
from ipaddress import ip_network

import structlog
from asgiref.sync import sync_to_async
from django.conf import settings
from django.db import DatabaseError, close_old_connections

from accounts import key_format, keys
from accounts.models import ApiKey, Organization
from billing import ledger, price_lists, transcripts
from gallery import keeping
from proxy import own_models, passes, upstream_keys
from proxy.gateway.errors import Unavailable
from proxy.gateway.snapshots import Key
from proxy.in_thread import in_thread

log = structlog.get_logger(__name__)

RELOAD_S = 30.0
# While notifications do not arrive (PostgreSQL restarts), a key is asked for again this often.
RELOAD_DEAF_S = 1.0
MAX_KEYS = 50_000
MAX_UNKNOWN = 10_000
UNKNOWN_S = 5.0
# After a gap in the notifications this many keys, the last used, are asked for again at once.
RECHECKED = 1_000


class Keyring:
    """A cache of live keys by digest. `hear()` and `go_deaf()` are told by the listener whether changes arrive."""

    def __init__(self, *, pepper: str) -> None:
        self._pepper = pepper
        self._keys: OrderedDict[str, tuple[Key, float]] = OrderedDict()
        self._unknown: OrderedDict[str, float] = OrderedDict()
        self._revoked: OrderedDict[int, None] = OrderedDict()
        self._used: set[int] = set()
        self._reload_s = RELOAD_DEAF_S

    async def find(self, secret: str) -> Key | None:
        """See `proxy.gateway.keys.Keyring`."""
        if secret.startswith(passes.PREFIX):
            return await self._find_by_pass(secret)
        if not key_format.is_well_formed(secret):
            return None
        return await self.find_digest(key_format.digest_of(secret, self._pepper))

    async def find_digest(self, digest: str) -> Key | None:
        """See `proxy.gateway.keys.Keyring`."""
        now = time.monotonic()
        cached = self._keys.get(digest)
        if cached is None or now - cached[1] > self._reload_s:
            if self._unknown.get(digest, 0.0) > now:
                return None
            key = await self._load(digest, cached[0] if cached else None)
            if key is None:
                self._remember_unknown(digest, now)
                return None
        else:
            key = cached[0]
        wall = time.time()
        if (key.revoked_at is not None and key.revoked_at <= wall) or (key.expires_at and key.expires_at <= wall):
            return None
        self._used.add(key.id)
        return key

    def is_revoked(self, key_id: int) -> bool:
        """See `proxy.gateway.keys.Keyring`."""
        return key_id in self._revoked

    def forget(self, digest: str) -> str | None:
        """A key changed: drop it; gives the digest back if the key was in use here and must be looked at again."""
        self._unknown.pop(digest, None)
        return digest if self._keys.pop(digest, None) else None

    def forget_organization(self, organization_id: int) -> list[str]:
        """An organization changed: drop its keys and give their digests."""
        digests = [digest for digest, (key, _) in self._keys.items() if key.organization_id == organization_id]
        for digest in digests:
            del self._keys[digest]
        return digests

    async def recheck(self, digests: list[str]) -> None:
        """Load changed keys again, so that the requests they have in flight learn of a revocation."""
        for digest in digests:
            await self._load(digest, None)

    def hear(self) -> list[str]:
        """Notifications arrive from now on; what was loaded before may be stale. Gives the digests to look at again."""
        digests = list(self._keys)[-RECHECKED:]
        self._keys.clear()
        self._unknown.clear()
        self._reload_s = RELOAD_S
        return digests

    def go_deaf(self) -> None:
        """Notifications no longer arrive."""
        self._reload_s = RELOAD_DEAF_S

    def take_used(self) -> list[int]:
        """The ids of the keys used since the last call, for `last_used_at`."""
        used, self._used = sorted(self._used), set()
        return used

    async def _find_by_pass(self, secret: str) -> Key | None:
        """The key that a pass of the playground stands for, as the pass opens it."""
        try:
            found: passes.Found | None = await in_thread(lambda: passes.find(secret))
        except DatabaseError:
            raise Unavailable from None
        key = await self.find_digest(found.key_digest) if found is not None else None
        return None if key is None or found is None else found.narrowed(key)

    async def _load(self, digest: str, stale: Key | None) -> Key | None:
        try:
            key = await sync_to_async(_read, thread_sensitive=False)(digest)
        except DatabaseError:
            # The hold asks PostgreSQL again: a stale key opens only what costs nothing.
            if stale is not None:
                return stale
            raise Unavailable from None
        if key is None:
            self._keys.pop(digest, None)
            return None
        self._keys[digest] = (key, time.monotonic())
        if len(self._keys) > MAX_KEYS:
            self._keys.popitem(last=False)
        self._note_state(key)
        return key

    def _note_state(self, key: Key) -> None:
        if (key.revoked_at is not None and key.revoked_at <= time.time()) or not key.is_active:
            self._revoked[key.id] = None
            if len(self._revoked) > MAX_KEYS:
                self._revoked.popitem(last=False)
        else:
            self._revoked.pop(key.id, None)

    def _remember_unknown(self, digest: str, now: float) -> None:
        self._unknown[digest] = now + UNKNOWN_S
        if len(self._unknown) > MAX_UNKNOWN:
            self._unknown.popitem(last=False)


def _read(digest: str) -> Key | None:
    """The key with this digest as a snapshot. Runs in a thread."""
    close_old_connections()
    try:
        row = ApiKey.objects.select_related("organization__transcript_settings").filter(digest=digest).first()
        return None if row is None else snapshot_of(row)
    finally:
        close_old_connections()


def snapshot_of(row: ApiKey) -> Key:
    """What the gateway knows of a key; its organization is read with it."""
    organization = row.organization
    return replace(
        snapshot_of_organization(organization, key_id=row.pk),
        scopes=frozenset(row.scopes),
        allowed_models=frozenset(row.allowed_models),
        allowed_endpoints=frozenset(row.allowed_endpoints),
        allowed_networks=tuple(ip_network(network, strict=False) for network in row.allowed_ips),
        rpm=organization.default_rpm if row.rpm is None else row.rpm,
        tpm=organization.default_tpm if row.tpm is None else row.tpm,
        max_concurrent=row.max_concurrent or 0,
        expires_at=row.expires_at.timestamp() if row.expires_at else None,
        revoked_at=row.revoked_at.timestamp() if row.revoked_at else None,
        transcript_days=transcripts.days_of(organization),
        upstream_keys=upstream_keys.secrets_of(organization) if settings.IS_SELF_HOSTED else {},
    )


def snapshot_of_organization(organization: Organization, *, key_id: int) -> Key:
    """A key with no limits but the organization's own, and none of its secrets."""
    return Key(
        id=key_id,
        organization_id=organization.pk,
        organization_slug=organization.slug,
        account_id=ledger.account_of(organization).pk,
        rpm=organization.default_rpm,
        tpm=organization.default_tpm,
        organization_rpm=organization.max_rpm or 0,
        organization_tpm=organization.max_tpm or 0,
        organization_max_concurrent=organization.max_concurrent or 0,
        is_active=organization.status == Organization.Status.ACTIVE,
        aliases=own_models.aliases_of(organization),
        fallback_model=organization.fallback_model,
        price_list=price_lists.slug_of(organization),
        image_visibility=_image_visibility(organization),
    )


def _image_visibility(organization: Organization) -> str:
    wanted = keeping.settings_of(organization)
    return wanted.visibility if wanted.is_kept else ""


def record_use(key_ids: list[int]) -> None:
    """Write `last_used_at` of these keys. Runs in a thread."""
    close_old_connections()
    try:
        keys.record_use(key_ids)
    finally:
        close_old_connections()
