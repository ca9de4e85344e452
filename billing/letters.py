"""Letters to the people who pay for an organization."""

import structlog
from django.conf import settings
from django.core.mail import EmailMessage

from accounts.models import Organization, Role
from accounts.subjects import one_line

log = structlog.get_logger(__name__)

PAYERS = [Role.OWNER, Role.ADMIN, Role.BILLING]


def send(organization: Organization, subject: str, text: str) -> bool:
    """Mail its owners, admins and bookkeepers, with the way to its billing page; False if it could not be sent."""
    members = organization.memberships.filter(role__in=PAYERS, user__is_active=True)
    recipients = list(members.values_list("user__email", flat=True))
    if not recipients:
        return False
    page = f"{settings.SITE_URL}/o/{organization.slug}/billing/"
    try:
        EmailMessage(one_line(subject), f"{text}\n\n{page}\n", bcc=recipients).send()
    except OSError as error:  # SMTP errors are OSErrors; what happened is told by an event too
        log.warning("letter_not_sent", organization_id=organization.pk, error=type(error).__name__)
        return False
    return True
