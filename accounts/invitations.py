"""Inviting people by mail: whoever holds the mailbox and its link joins. The link is in the mail and nowhere else."""

import hashlib
import secrets
from datetime import timedelta

import structlog
from allauth.account.models import EmailAddress
from django.conf import settings
from django.core.mail import EmailMessage
from django.db import IntegrityError, transaction
from django.db.models import Q, Sum
from django.template.loader import render_to_string
from django.urls import reverse
from django.utils import timezone

from accounts import audit, organizations
from accounts.errors import AccountsError
from accounts.models import Invitation, Membership, Organization, Role, User
from accounts.subjects import one_line

log = structlog.get_logger(__name__)

VALID_FOR = timedelta(days=7)
RESEND_AFTER = timedelta(minutes=1)
# Mail goes to addresses that have asked for nothing: so many and no more.
MAX_OPEN = 50
MAX_SENT = 10
DAY = timedelta(days=1)


class InvitationError(AccountsError):
    """Base of what this module raises."""


class AlreadyMember(InvitationError):
    """The address is a member's."""


class AlreadyInvited(InvitationError):
    """An open invitation for the address: it can be sent again."""


class TooMany(InvitationError):
    """More mails than we send for one organization or to one address, or too soon after the last."""


class NotOpen(InvitationError):
    """The invitation was accepted or revoked, has expired, or its organization is being deleted."""


class WrongPerson(InvitationError):
    """The invitation is for another address than those of the user."""


def invite(
    *, organization: Organization, email: str, role: Role, by: User, origin: audit.Origin | None = None
) -> Invitation:
    """Mail an invitation to `email`. Its `sent_at` is empty where the mail could not be sent.

    Raises `LastOwner` for an owner, `AlreadyMember`, `AlreadyInvited` or `TooMany`.
    """
    if role == Role.OWNER:
        raise organizations.LastOwner
    email = email.lower()
    if organization.memberships.filter(user__email=email).exists():
        raise AlreadyMember
    token = secrets.token_urlsafe(32)
    try:
        with transaction.atomic():
            Organization.objects.select_for_update().get(pk=organization.pk)
            if organization.invitations.open().count() >= MAX_OPEN or _sent_lately(organization, email, by) >= MAX_SENT:
                raise TooMany
            made = Invitation.objects.create(
                organization=organization,
                email=email,
                role=role,
                digest=_digest(token),
                invited_by=by,
                expires_at=timezone.now() + VALID_FOR,
            )
            audit.record(
                action="invitation.send", target=made, organization=organization, by=by, origin=origin, email=email,
                role=role,
            )  # fmt: skip
    except IntegrityError:
        raise AlreadyInvited from None
    _send(made, token)
    return made


def resend(*, invitation: Invitation, by: User, origin: audit.Origin | None = None) -> Invitation:
    """Mail it again with a new link and a new end; the old link stops working. Raises `NotOpen` or `TooMany`."""
    token = secrets.token_urlsafe(32)
    with transaction.atomic():
        found = Invitation.objects.select_for_update(of=("self",)).select_related("organization").get(pk=invitation.pk)
        if found.accepted_at or found.revoked_at:
            raise NotOpen
        if found.sent_count >= MAX_SENT or (found.sent_at and timezone.now() - found.sent_at < RESEND_AFTER):
            raise TooMany
        found.digest, found.invited_by, found.expires_at = _digest(token), by, timezone.now() + VALID_FOR
        found.save(update_fields=["digest", "invited_by", "expires_at"])
        audit.record(
            action="invitation.resend", target=found, organization=found.organization, by=by, origin=origin,
            email=found.email,
        )  # fmt: skip
    _send(found, token)
    return found


def revoke(*, invitation: Invitation, by: User, origin: audit.Origin | None = None) -> bool:
    """End an invitation; False if it was over."""
    with transaction.atomic():
        ended = Invitation.objects.open().filter(pk=invitation.pk).update(revoked_at=timezone.now())
        if ended:
            audit.record(
                action="invitation.revoke", target=invitation, organization=invitation.organization, by=by,
                origin=origin, email=invitation.email,
            )  # fmt: skip
    return bool(ended)


def find(token: str) -> Invitation | None:
    """The invitation whose mail has this token, in whatever state."""
    found = Invitation.objects.select_related("organization", "invited_by").filter(digest=_digest(token[:200]))
    return found.first()


def is_for(invitation: Invitation, user: User) -> bool:
    """Whether the invited address is one of the user's: that of the account, or another that was verified."""
    if user.email.lower() == invitation.email:
        return True
    return EmailAddress.objects.filter(user=user, email__iexact=invitation.email, verified=True).exists()


def accept(*, invitation: Invitation, user: User, origin: audit.Origin | None = None) -> Membership:
    """Join. One who is a member already keeps the role. Raises `NotOpen` or `WrongPerson`."""
    with transaction.atomic():
        found = Invitation.objects.select_for_update(of=("self",)).select_related("organization").get(pk=invitation.pk)
        if not found.is_open or found.organization.status not in organizations.USABLE:
            raise NotOpen
        if not is_for(found, user):
            raise WrongPerson
        found.accepted_at, found.accepted_by = timezone.now(), user
        found.save(update_fields=["accepted_at", "accepted_by"])
        audit.record(
            action="invitation.accept", target=found, organization=found.organization, by=user, origin=origin,
            email=found.email,
        )  # fmt: skip
        return organizations.add_member(
            organization=found.organization, user=user, role=Role(found.role), by=user, origin=origin
        )


def _sent_lately(organization: Organization, email: str, by: User) -> int:
    """How many mails of this organization, or of this person for any of theirs, the address got in a day. Those of
    revoked invitations count: whoever invites, revokes and invites again bothers a stranger all the same."""
    theirs = Invitation.objects.filter(Q(organization=organization) | Q(invited_by=by), email=email)
    lately = theirs.filter(created_at__gt=timezone.now() - DAY)
    return lately.aggregate(sent=Sum("sent_count"))["sent"] or 0


def _send(invitation: Invitation, token: str) -> None:
    """Mail the link and note that it went out. What the mail server refuses is seen in the empty `sent_at`."""
    who = invitation.invited_by
    context = {
        "site_name": settings.SITE_NAME,
        "organization": invitation.organization,
        "who": (who.name or who.email) if who else "",
        "role": invitation.get_role_display().lower(),
        "url": settings.SITE_URL + reverse("accounts:invitation", args=[token]),
        "days": VALID_FOR.days,
    }
    message = EmailMessage(
        one_line(f"Join {invitation.organization.name} at {settings.SITE_NAME}"),
        render_to_string("accounts/email/invitation.txt", context),
        to=[invitation.email],
    )
    sent_at = timezone.now()
    try:
        message.send()
    except OSError as error:  # SMTP errors are OSErrors
        log.warning("invitation_not_sent", invitation=str(invitation.public_id), error=type(error).__name__)
        invitation.sent_at = None
    else:
        invitation.sent_at = sent_at
        invitation.sent_count += 1
    invitation.save(update_fields=["sent_at", "sent_count"])


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
