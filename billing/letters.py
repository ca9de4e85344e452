"""Letters to the people who pay for an organization."""

from django.conf import settings

from accounts import letters
from accounts.models import Organization, Role

PAYERS = [Role.OWNER, Role.ADMIN, Role.BILLING]


def send(organization: Organization, subject: str, text: str) -> bool:
    """Mail its owners, admins and bookkeepers, with the way to its billing page; False if it could not be sent."""
    page = f"{settings.SITE_URL}/o/{organization.slug}/billing/"
    return letters.send(
        organization, roles=PAYERS, subject=subject, text=f"{text}\n\n{page}\n", failure="letter_not_sent"
    )
