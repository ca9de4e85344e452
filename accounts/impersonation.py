"""Looking at the console as a customer does: staff see what a person sees, and can change nothing of it.

The session stays the staff member's own; only the request's user is another while it lasts. Every beginning and end is
in the audit log of each of the person's organizations.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.contrib.sessions.backends.base import SessionBase
from django.db import DatabaseError, transaction
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.utils import timezone
from django.utils.cache import add_never_cache_headers

from accounts import audit
from accounts.errors import AccountsError
from accounts.models import Organization, User

SESSION = "impersonation"
LONGEST = timedelta(hours=1)
MAX_REASON = 300
# A person's own doors (passwords, second factors, recovery codes), and the administration: closed even to looking.
CLOSED = ("/accounts/", "/admin/", "/device")
LOOKING = frozenset({"GET", "HEAD", "OPTIONS"})


class MayNotImpersonate(AccountsError):
    """Staff cannot be impersonated, nor who cannot sign in; and only staff can impersonate."""


@dataclass(frozen=True, slots=True)
class Impersonation:
    """`staff` looks as `person` until `ends_at`."""

    staff: User
    person: User
    ends_at: datetime


def begin(*, session: SessionBase, staff: User, person: User, reason: str, origin: audit.Origin | None = None) -> None:
    """Let `session`, which is `staff`'s, look as `person` for an hour. Raises `MayNotImpersonate`."""
    if not _may(staff, person):
        raise MayNotImpersonate(person.pk)
    with transaction.atomic():
        _record("impersonation.begin", staff, person, origin, reason=reason.strip()[:MAX_REASON])
    ends_at = timezone.now() + LONGEST
    session[SESSION] = {"staff": staff.pk, "person": person.pk, "ends_at": ends_at.isoformat()}


def end(*, session: SessionBase, staff: User, origin: audit.Origin | None = None) -> User | None:
    """Stop looking; the person who was looked at, None if nobody was. May run twice."""
    state = session.pop(SESSION, None)
    person = User.objects.filter(pk=state["person"]).first() if state else None
    if person is not None:
        with transaction.atomic():
            _record("impersonation.end", staff, person, origin)
    return person


def current(session: SessionBase, staff: User) -> Impersonation | None:
    """The impersonation under way, if it still may be."""
    state = session.get(SESSION)
    if not state or state["staff"] != staff.pk:
        return None
    person = User.objects.filter(pk=state["person"]).first()
    ends_at = datetime.fromisoformat(state["ends_at"])
    if person is None or ends_at <= timezone.now() or not _may(staff, person):
        return None
    return Impersonation(staff, person, ends_at)


def _may(staff: User, person: User) -> bool:
    return (
        staff.is_active
        and staff.is_staff
        and person.is_active
        and not (person.is_staff or person.is_superuser)
        and staff.pk != person.pk
    )


def _record(action: str, staff: User, person: User, origin: audit.Origin | None, **data: Any) -> None:
    """Where the customer reads it; once without an organization if the person has none."""
    organizations: list[Organization | None] = [*person.organizations.all()]
    for organization in organizations or [None]:
        audit.record(action=action, target=person, organization=organization, by=staff, origin=origin, **data)


def _may_be_looking(request: Any) -> bool:
    """Whether the session says so; while the database is away nobody looks, and pages that need none still stand."""
    try:
        return bool(request.session.session_key and request.session.get(SESSION))
    except DatabaseError:
        return False


class ImpersonationMiddleware:
    """Puts the person in the place of the staff member who looks, and refuses whatever is not looking.

    Stands after every middleware that keeps sessions, so that none of them takes the person for who is signed in.
    Sets `request.impersonation`.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: Any) -> HttpResponse:
        request.impersonation = None
        if request.path.startswith("/v1/") or not _may_be_looking(request):
            return self.get_response(request)
        found = current(request.session, request.user) if request.user.is_authenticated else None
        if found is None:
            request.session.pop(SESSION, None)
            return self.get_response(request)
        request.impersonation, request.user = found, found.person
        is_end = request.path == reverse("accounts:impersonation-end")
        if not is_end and (request.method not in LOOKING or request.path.startswith(CLOSED)):
            response = render(request, "accounts/impersonation_refused.html", status=403)
        else:
            response = self.get_response(request)
        add_never_cache_headers(response)
        return response
