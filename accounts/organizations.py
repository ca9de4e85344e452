"""Creating organizations and changing who belongs to them."""

from django.db import IntegrityError, transaction
from django.utils.crypto import get_random_string
from django.utils.text import slugify

from accounts import audit
from accounts.errors import AccountsError
from accounts.models import Membership, Organization, Role, User

RESERVED_SLUGS = frozenset({"new", "admin", "api", "settings"})
MAX_SLUG = 50


class SlugTaken(AccountsError):
    """Another organization has this slug."""


class LastOwner(AccountsError):
    """An organization keeps its owner: transfer the ownership first."""


def create(*, name: str, owner: User | None = None, is_personal: bool = False, slug: str | None = None) -> Organization:
    """Make an organization, with `owner` as its first member. Without a `slug` a free one is made from the name.

    Raises `SlugTaken` for a given slug that is taken.
    """
    wanted = slug or slugify(name)[:MAX_SLUG] or "organization"
    while True:
        candidate = wanted if slug or wanted not in RESERVED_SLUGS else _with_suffix(wanted)
        try:
            with transaction.atomic():
                organization = Organization.objects.create(name=name, slug=candidate, is_personal=is_personal)
                if owner is not None:
                    Membership.objects.create(organization=organization, user=owner, role=Role.OWNER)
                audit.record(
                    action="organization.create", target=organization, organization=organization, by=owner, name=name
                )
                return organization
        except IntegrityError:
            if slug:
                raise SlugTaken(slug) from None
            wanted = _with_suffix(slugify(name)[:MAX_SLUG] or "organization")


def personal_of(user: User) -> Organization:
    """The organization that `user` alone owns since signup; made now for users that never signed up."""
    with transaction.atomic():
        User.objects.select_for_update().get(pk=user.pk)
        found = Organization.objects.filter(is_personal=True, memberships__user=user, memberships__role=Role.OWNER)
        return found.first() or create(name=f"{user.get_short_name()}'s organization", owner=user, is_personal=True)


def rename(*, organization: Organization, name: str, by: User | None) -> None:
    """Give an organization another name; its slug stays."""
    with transaction.atomic():
        organization.name = name
        organization.save(update_fields=["name"])
        audit.record(action="organization.rename", target=organization, organization=organization, by=by, name=name)


def set_rates(
    *,
    organization: Organization,
    rpm: int | None,
    tpm: int | None,
    max_rpm: int | None = None,
    max_tpm: int | None = None,
    max_concurrent: int | None = None,
    by: User | None,
    origin: audit.Origin | None = None,
) -> None:
    """Requests and tokens a minute of keys that name none of their own (None: the installation's default), and those
    and the requests at once of all keys together (None: no limit)."""
    with transaction.atomic():
        organization.default_rpm, organization.default_tpm = rpm, tpm
        organization.max_rpm, organization.max_tpm, organization.max_concurrent = max_rpm, max_tpm, max_concurrent
        fields = ["default_rpm", "default_tpm", "max_rpm", "max_tpm", "max_concurrent"]
        organization.save(update_fields=fields)
        audit.record(
            action="organization.set_rates",
            target=organization,
            organization=organization,
            by=by,
            origin=origin,
            **{name: getattr(organization, name) for name in fields},
        )


def add_member(*, organization: Organization, user: User, role: Role, by: User | None) -> Membership:
    """Make `user` a member; for one who is already, the membership as it is. Raises `LastOwner` for a second owner."""
    if role == Role.OWNER:
        raise LastOwner
    with transaction.atomic():
        membership, is_new = Membership.objects.get_or_create(
            organization=organization, user=user, defaults={"role": role}
        )
        if is_new:
            audit.record(action="member.add", target=user, organization=organization, by=by, role=role)
        return membership


def change_role(*, membership: Membership, role: Role, by: User | None) -> None:
    """Give a member another role. Raises `LastOwner`: ownership is transferred, not given or taken here."""
    if Role.OWNER in {membership.role, role}:
        raise LastOwner
    with transaction.atomic():
        membership.role = role
        membership.save(update_fields=["role"])
        audit.record(
            action="member.change_role", target=membership.user, organization=membership.organization, by=by, role=role
        )


def remove_member(*, membership: Membership, by: User | None) -> None:
    """End a membership. Raises `LastOwner` for the owner."""
    if membership.role == Role.OWNER:
        raise LastOwner
    with transaction.atomic():
        audit.record(action="member.remove", target=membership.user, organization=membership.organization, by=by)
        membership.delete()


def _with_suffix(slug: str) -> str:
    return f"{slug}-{get_random_string(5, 'abcdefghijkmnpqrstuvwxyz23456789')}"
