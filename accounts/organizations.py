"""Creating organizations and changing who belongs to them."""

from django.db import IntegrityError, transaction
from django.utils.crypto import get_random_string
from django.utils.text import slugify

from accounts import audit, keys
from accounts.errors import AccountsError
from accounts.models import Membership, Organization, Role, User

RESERVED_SLUGS = frozenset({"new", "admin", "api", "settings"})
MAX_SLUG = 50
# Those that may be joined and changed; one that is being deleted may only be looked at and restored.
USABLE = frozenset({Organization.Status.ACTIVE, Organization.Status.FROZEN})


class SlugTaken(AccountsError):
    """Another organization has this slug."""


class LastOwner(AccountsError):
    """An organization keeps its owner: transfer the ownership first."""


class NotOwner(AccountsError):
    """Only the owner can give the ownership away, and only to another member."""


def create(
    *,
    name: str,
    owner: User | None = None,
    is_personal: bool = False,
    slug: str | None = None,
    timezone: str = "UTC",
    origin: audit.Origin | None = None,
) -> Organization:
    """Make an organization, with `owner` as its first member. Without a `slug` a free one is made from the name.

    Raises `SlugTaken` for a given slug that is taken.
    """
    wanted = slug or slugify(name)[:MAX_SLUG] or "organization"
    while True:
        candidate = wanted if slug or wanted not in RESERVED_SLUGS else _with_suffix(wanted)
        try:
            with transaction.atomic():
                organization = Organization.objects.create(
                    name=name, slug=candidate, is_personal=is_personal, timezone=timezone
                )
                if owner is not None:
                    Membership.objects.create(organization=organization, user=owner, role=Role.OWNER)
                audit.record(
                    action="organization.create",
                    target=organization,
                    organization=organization,
                    by=owner,
                    origin=origin,
                    name=name,
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


def change(
    *, organization: Organization, name: str, timezone: str, by: User | None, origin: audit.Origin | None = None
) -> None:
    """Give an organization another name or time zone, an IANA name; its slug stays.

    The days and months of budgets are those of the new zone from their next beginning on.
    """
    with transaction.atomic():
        before = {"name": organization.name, "timezone": organization.timezone}
        organization.name, organization.timezone = name, timezone
        organization.save(update_fields=["name", "timezone"])
        changed = {field: value for field, value in before.items() if getattr(organization, field) != value}
        if changed:
            audit.record(
                action="organization.change",
                target=organization,
                organization=organization,
                by=by,
                origin=origin,
                before=changed,
                after={field: getattr(organization, field) for field in changed},
            )


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


def freeze(*, organization: Organization, by: User | None, origin: audit.Origin | None = None) -> bool:
    """Refuse its keys until it is unfrozen; False unless it is active."""
    return _set_status(organization, Organization.Status.ACTIVE, Organization.Status.FROZEN, by, origin)


def unfreeze(*, organization: Organization, by: User | None, origin: audit.Origin | None = None) -> bool:
    """Let its keys work again; False unless it is frozen."""
    return _set_status(organization, Organization.Status.FROZEN, Organization.Status.ACTIVE, by, origin)


def add_member(
    *, organization: Organization, user: User, role: Role, by: User | None, origin: audit.Origin | None = None
) -> Membership:
    """Make `user` a member; for one who is already, the membership as it is. Raises `LastOwner` for a second owner."""
    if role == Role.OWNER:
        raise LastOwner
    with transaction.atomic():
        membership, is_new = Membership.objects.get_or_create(
            organization=organization, user=user, defaults={"role": role}
        )
        if is_new:
            _record("member.add", membership, by, origin, role=role)
        return membership


def change_role(*, membership: Membership, role: Role, by: User | None, origin: audit.Origin | None = None) -> None:
    """Give a member another role. Raises `LastOwner`: ownership is transferred, not given or taken here."""
    if Role.OWNER in {membership.role, role}:
        raise LastOwner
    if membership.role == role:
        return
    with transaction.atomic():
        before, membership.role = membership.role, role
        membership.save(update_fields=["role"])
        _record("member.change_role", membership, by, origin, role=role, before=before)


def transfer_ownership(*, to: Membership, by: User, origin: audit.Origin | None = None) -> None:
    """Make another member the owner; who was it becomes an admin. Raises `NotOwner`.

    What was somebody's personal organization is not personal any more: they get a new one.
    """
    with transaction.atomic():
        organization = Organization.objects.select_for_update().get(pk=to.organization_id)
        owner = organization.memberships.select_for_update().filter(user=by, role=Role.OWNER).first()
        heir = organization.memberships.select_for_update().filter(pk=to.pk).first()
        if owner is None or heir is None or heir == owner:
            raise NotOwner
        owner.role = Role.ADMIN
        owner.save(update_fields=["role"])
        heir.role = Role.OWNER
        heir.save(update_fields=["role"])
        Organization.objects.filter(pk=organization.pk).update(is_personal=False)
        _record("organization.transfer", heir, by, origin, role=Role.OWNER)


def remove_member(
    *, membership: Membership, by: User | None, revoke_keys: bool = False, origin: audit.Origin | None = None
) -> int:
    """End a membership, one's own too; with `revoke_keys` the keys that the member made here end with it. Returns how
    many did. Raises `LastOwner` for the owner.
    """
    with transaction.atomic():
        found = Membership.objects.select_for_update().filter(pk=membership.pk).first()
        if found is None:
            return 0
        if found.role == Role.OWNER:
            raise LastOwner
        ended = 0
        if revoke_keys:
            made = membership.organization.keys.live().filter(created_by=membership.user_id)
            for key in made.select_related("organization"):
                ended += keys.revoke(key=key, by=by, origin=origin)
        is_own = by is not None and by.pk == membership.user_id
        _record("member.leave" if is_own else "member.remove", membership, by, origin, keys_revoked=ended)
        found.delete()
    return ended


def _set_status(
    organization: Organization, before: str, after: str, by: User | None, origin: audit.Origin | None
) -> bool:
    with transaction.atomic():
        changed = Organization.objects.filter(pk=organization.pk, status=before).update(status=after)
        if changed:
            action = "organization.freeze" if after == Organization.Status.FROZEN else "organization.unfreeze"
            audit.record(action=action, target=organization, organization=organization, by=by, origin=origin)
    return bool(changed)


def _record(action: str, membership: Membership, by: User | None, origin: audit.Origin | None, **data: object) -> None:
    audit.record(
        action=action,
        target=membership,
        organization=membership.organization,
        by=by,
        origin=origin,
        member=membership.user.email,
        **data,
    )


def _with_suffix(slug: str) -> str:
    return f"{slug}-{get_random_string(5, 'abcdefghijkmnpqrstuvwxyz23456789')}"
