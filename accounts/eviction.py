"""An account that somebody made with an address of another, before its owner comes and proves that it is theirs.

Where addresses need not be confirmed first, whoever registers a stranger's address and waits would share the account
with its owner. allauth takes the password and the browsers' sessions; here goes every other way in.
"""

from allauth.account.models import EmailAddress
from allauth.mfa.models import Authenticator
from allauth.socialaccount.models import SocialAccount
from django.db import transaction

from accounts import api_sessions, audit
from accounts.models import User


def evict(*, user: User, email: str) -> bool:
    """End all that opened the account of `user` but `email`, unless that was confirmed; returns whether it did.

    Keys and members stay: they may be in use, and its owner sees them. May run twice.
    """
    if EmailAddress.objects.filter(user=user, email__iexact=email, verified=True).exists():
        return False
    with transaction.atomic():
        ended = api_sessions.end_all(user, reason="address confirmed by another")
        connections, _ = SocialAccount.objects.filter(user=user).delete()
        addresses, _ = EmailAddress.objects.filter(user=user).exclude(email__iexact=email).delete()
        Authenticator.objects.filter(user=user).delete()
        audit.record(
            action="user.evict", target=user, organization=None, by=None, sessions=ended, connections=connections,
            addresses=addresses,
        )  # fmt: skip
    return True
