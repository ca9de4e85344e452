"""Keys for whoever asks, on an intranet: no account, a name that nobody checks. Off unless SELF_SERVICE_KEYS is set.

All of them belong to one organization, which staff give credit and limits. None may manage it.
"""

import re
from uuid import UUID

from django.conf import settings
from django.db import transaction

from accounts import audit, keys, organizations
from accounts.errors import AccountsError
from accounts.models import ApiKey, Organization, RequestedKey
from accounts.scopes import ADMIN, SCOPES

MAX_KEYS = 20
MAX_NOTE = 200
ALLOWED = sorted(set(SCOPES) - {"management", ADMIN})
_USERNAME = re.compile(r"[a-z0-9][a-z0-9._@-]{0,63}")


class InvalidName(AccountsError):
    """The name has other characters than letters, digits, dots, dashes, underscores and @, or too many."""


class TooManyKeys(AccountsError):
    """This name has as many live keys as one may."""


def request(
    *, username: str, note: str = "", public_id: UUID | None = None, origin: audit.Origin | None = None
) -> keys.Issued:
    """A key for `username`. Raises `InvalidName`, `TooManyKeys`; with a `public_id` used before, `AlreadyIssued`."""
    name = normalized(username)
    organization = home()
    with transaction.atomic():
        Organization.objects.select_for_update().get(pk=organization.pk)
        if ApiKey.objects.live().filter(requested__username=name).count() >= MAX_KEYS:
            raise TooManyKeys(name)
        issued = keys.issue(
            organization=organization, name=name, scopes=ALLOWED, public_id=public_id, origin=origin
        )  # fmt: skip
        RequestedKey.objects.create(key=issued.key, username=name, note=" ".join(note.split())[:MAX_NOTE])
    return issued


def keys_of(username: str) -> list[ApiKey]:
    """The live keys of a name, the newest first, each with what was asked. Raises `InvalidName`."""
    rows = ApiKey.objects.live().filter(requested__username=normalized(username))
    return list(rows.select_related("requested").order_by("-pk")[:MAX_KEYS])


def normalized(username: str) -> str:
    """The name as it is kept. Raises `InvalidName`."""
    name = username.strip().lower()
    if not _USERNAME.fullmatch(name):
        raise InvalidName(username)
    return name


def home() -> Organization:
    """The organization of these keys; made with the first of them."""
    slug = settings.SELF_SERVICE_ORGANIZATION
    found = Organization.objects.filter(slug=slug).first()
    if found is None:
        try:
            found = organizations.create(name="Self-service", slug=slug)
        except organizations.SlugTaken:
            found = Organization.objects.get(slug=slug)
    return found
