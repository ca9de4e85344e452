"""Letters to members of an organization."""

from collections.abc import Collection

import structlog
from django.core.mail import EmailMessage

from accounts.models import Organization
from accounts.subjects import one_line

log = structlog.get_logger(__name__)


def send(organization: Organization, *, roles: Collection[str], subject: str, text: str, failure: str) -> bool:
    """Mail its active members in `roles`, unseen by each other; False if nobody is there or it could not be sent.

    `failure` is the event in the log then: what the letter tells is told elsewhere, too.
    """
    members = organization.memberships.filter(role__in=roles, user__is_active=True)
    recipients = list(members.values_list("user__email", flat=True))
    if not recipients:
        return False
    try:
        EmailMessage(one_line(subject), text, bcc=recipients).send()
    except OSError as error:  # SMTP errors are OSErrors
        log.warning(failure, organization_id=organization.pk, error=type(error).__name__)
        return False
    return True
