"""The keys that open `/v1`, read from the tables once and kept until PostgreSQL says that they changed."""

import asyncio
import time
from collections import OrderedDict

import structlog
from django.db import DatabaseError, close_old_connections

from accounts import key_format, keys
from proxy import key_snapshots, passes
from proxy.gateway.errors import Unavailable
from proxy.gateway.snapshots import Key
from proxy.in_thread import in_thread
from proxy.key_loader import Loader

log = structlog.get_logger(__name__)

RELOAD_S = 30.0
# While notifications do not arrive (PostgreSQL restarts), a key is asked for again this often.
RELOAD_DEAF_S = 1.0
# The least lately loaded is dropped: some 80 MB when so many keys are used within `RELOAD_S`.
MAX_KEYS = 100_000
MAX_UNKNOWN = 10_000
UNKNOWN_S = 5.0
# After a gap in the notifications this many keys, the last used, are asked for again at once.
RECHECKED = 1_000


class Keyring:
    """A cache of live keys by digest. `hear()` and `go_deaf()` are told by the listener whether changes arrive."""

    def __init__(self, *, pepper: str) -> None:
        self._digest_of = key_format.digester(pepper)
        self._keys: OrderedDict[str, tuple[Key, float]] = OrderedDict()
        self._digests: dict[int, set[str]] = {}  # by organization
        self._loader = Loader(key_snapshots.read)
        self._unknown: OrderedDict[str, float] = OrderedDict()
        self._revoked: OrderedDict[int, None] = OrderedDict()
        self._left: OrderedDict[tuple[int | None, str], float] = OrderedDict()  # when holders of passes left
        self._used: set[int] = set()
        self._reload_s = RELOAD_DEAF_S

    async def find(self, secret: str) -> Key | None:
        """See `proxy.gateway.keys.Keyring`."""
        if secret.startswith(passes.PREFIX):
            return await self._find_by_pass(secret)
        digest = self._digest_of(secret)
        if digest not in self._keys and not key_format.is_well_formed(secret):
            return None
        return await self.find_digest(digest)

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

    def is_ended(self, key: Key, since: float) -> bool:
        """See `proxy.gateway.keys.Keyring`."""
        if key.id in self._revoked:
            return True
        return bool(key.end_user) and any(
            self._left.get((where, key.end_user), since) > since for where in (key.organization_id, None)
        )

    def let_go(self, organization_id: int | None, holder: str) -> None:
        """Whose passes these were may hold none any more, in one organization or in all: their requests end."""
        self._left[organization_id, holder] = time.perf_counter()
        self._left.move_to_end((organization_id, holder))
        if len(self._left) > MAX_UNKNOWN:
            self._left.popitem(last=False)

    def forget(self, digest: str) -> str | None:
        """A key changed: drop it; gives the digest back if the key was in use here and must be looked at again."""
        self._unknown.pop(digest, None)
        was_known = self._drop(digest)
        return digest if was_known or digest in self._loader.reading else None

    def forget_organization(self, organization_id: int) -> list[str]:
        """An organization changed: drop its keys and give their digests, and those that are being read just now."""
        digests = self._digests.get(organization_id, set()) | self._loader.reading
        for digest in self._digests.get(organization_id, set()).copy():
            self._drop(digest)
        return list(digests)

    async def recheck(self, digests: list[str]) -> None:
        """Load changed keys again, so that the requests they have in flight learn of a revocation."""
        found = await asyncio.gather(*(self._load(digest, None) for digest in digests), return_exceptions=True)
        if errors := [one for one in found if isinstance(one, BaseException)]:
            raise errors[0]

    def hear(self) -> list[str]:
        """Notifications arrive from now on; what was loaded before may be stale. Gives the digests to look at again."""
        digests = list(self._keys)[-RECHECKED:]
        self._keys.clear()
        self._digests.clear()
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
            key = await self._loader.load(digest)
        except DatabaseError:
            # The hold asks PostgreSQL again: a stale key opens only what costs nothing.
            if stale is not None:
                return stale
            raise Unavailable from None
        if key is None:
            self._drop(digest)
            return None
        self._store(digest, key)
        self._note_state(key)
        return key

    def _store(self, digest: str, key: Key) -> None:
        self._drop(digest)
        self._keys[digest] = (key, time.monotonic())
        self._digests.setdefault(key.organization_id, set()).add(digest)
        if len(self._keys) > MAX_KEYS:
            self._drop(next(iter(self._keys)))

    def _drop(self, digest: str) -> bool:
        """Forget a key; whether it was there."""
        entry = self._keys.pop(digest, None)
        if entry is None:
            return False
        siblings = self._digests[entry[0].organization_id]
        siblings.discard(digest)
        if not siblings:
            del self._digests[entry[0].organization_id]
        return True

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


def record_use(key_ids: list[int]) -> None:
    """Write `last_used_at` of these keys. Runs in a thread."""
    close_old_connections()
    try:
        keys.record_use(key_ids)
    finally:
        close_old_connections()
