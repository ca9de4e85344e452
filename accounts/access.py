"""Who may do what: the one table of roles, and finding the organization of a request."""

from typing import Any

from allauth.account.adapter import get_adapter
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import Http404, HttpRequest

from accounts import audit
from accounts.models import ApiKey, Membership, Organization, Role, User
from accounts.scopes import ADMIN

# From the least to the most; a page that asks for a role admits those above it too, but see PERMISSIONS for billing.
_RANK = {Role.VIEWER: 0, Role.BILLING: 1, Role.DEVELOPER: 2, Role.ADMIN: 3, Role.OWNER: 4}

SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
_EVERYBODY = frozenset(Role)
PERMISSIONS: dict[str, frozenset[Role]] = {
    "usage.view": _EVERYBODY,
    "keys.view": _EVERYBODY,
    "keys.manage": frozenset({Role.DEVELOPER, Role.ADMIN, Role.OWNER}),
    "keys.change_all": frozenset({Role.ADMIN, Role.OWNER}),
    "budgets.manage": frozenset({Role.ADMIN, Role.OWNER}),
    "requests.read": frozenset({Role.DEVELOPER, Role.ADMIN, Role.OWNER}),
    "billing.view": frozenset({Role.BILLING, Role.ADMIN, Role.OWNER}),
    "billing.manage": frozenset({Role.BILLING, Role.ADMIN, Role.OWNER}),
    "images.manage": frozenset({Role.DEVELOPER, Role.ADMIN, Role.OWNER}),
    "members.view": _EVERYBODY,
    "members.manage": frozenset({Role.ADMIN, Role.OWNER}),
    "webhooks.manage": frozenset({Role.DEVELOPER, Role.ADMIN, Role.OWNER}),
    "audit.view": frozenset({Role.ADMIN, Role.OWNER}),
    "organization.manage": frozenset({Role.ADMIN, Role.OWNER}),
    "organization.export": frozenset({Role.ADMIN, Role.OWNER}),
    "organization.transfer": frozenset({Role.OWNER}),
    "organization.delete": frozenset({Role.OWNER}),
}


class MemberRequest(HttpRequest):
    """A request after `organization_for`: its user is a member of `organization`, as `membership` says."""

    user: User
    organization: Organization
    membership: Membership
    htmx: Any


def who_may(permission: str) -> QuerySet[Membership]:
    """The memberships that give a permission now: of people who are active, in a role that has it."""
    return Membership.objects.filter(user__is_active=True, role__in=PERMISSIONS[permission])


def can(membership: Membership, permission: str) -> bool:
    """Whether the member's role has `permission`, a name of `PERMISSIONS`."""
    return Role(membership.role) in PERMISSIONS[permission]


def may_change(membership: Membership, key: ApiKey) -> bool:
    """Whether the member may give a key of the organization other limits: their own, or with `keys.change_all` any.

    Nobody gives by it what a key of their own could not have: one with the scope `admin` is for staff alone.
    """
    is_theirs = key.created_by_id == membership.user_id and can(membership, "keys.manage")
    is_like_theirs = ADMIN not in key.scopes or membership.user.is_staff
    return is_like_theirs and (is_theirs or can(membership, "keys.change_all"))


def organization_for(request: Any, slug: str, role: Role, *, while_closing: bool = False) -> Organization:
    """The organization `slug` if the request's user is a member of at least `role`.

    Outsiders get 404, so that names cannot be guessed; members without the role 403, and so does whoever would change
    an organization that is being deleted, but for what may be done `while_closing`. Sets `request.organization` and
    `request.membership`.
    """
    membership = (
        Membership.objects.select_related("organization").filter(organization__slug=slug, user=request.user).first()
    )
    if membership is None:
        raise Http404
    if _RANK[Role(membership.role)] < _RANK[role]:
        raise PermissionDenied
    is_closing = membership.organization.status == Organization.Status.CLOSING
    if is_closing and request.method not in SAFE and not while_closing:
        raise PermissionDenied("This organization is about to be deleted. Restore it first, in its settings.")
    membership.user = request.user
    request.organization = membership.organization
    request.membership = membership
    return membership.organization


def origin_of(request: HttpRequest, *, via: str = "") -> audit.Origin:
    """Where a change comes from, for the audit log; `via` names what made it in nobody's name."""
    return audit.Origin(
        ip=get_adapter(request).get_client_ip(request), user_agent=request.headers.get("user-agent", ""), via=via
    )
