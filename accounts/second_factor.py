"""The second factor: whether somebody has one, must have one, and a code checked outside of a browser."""

from allauth.core.exceptions import RateLimited
from allauth.mfa.base.forms import AuthenticateForm
from allauth.mfa.models import Authenticator
from django.conf import settings
from django.core.exceptions import ValidationError

from accounts.errors import AccountsError
from accounts.models import User

# What is typed; a passkey needs a browser.
TYPED = (Authenticator.Type.TOTP, Authenticator.Type.RECOVERY_CODES)


class CodeRefused(AccountsError):
    """The code is wrong or was used; `is_limited`: too many were tried, wait."""

    def __init__(self, *, is_limited: bool = False) -> None:
        super().__init__("limited" if is_limited else "wrong")
        self.is_limited = is_limited


def methods_of(user: User) -> list[str]:
    """The kinds of second factor that `user` has: `totp`, `webauthn`, `recovery_codes`. One query."""
    return sorted(Authenticator.objects.filter(user=user).values_list("type", flat=True).distinct())


def has(user: User) -> bool:
    """Whether signing in asks `user` for more than a password. Recovery codes alone do not count."""
    return Authenticator.objects.filter(user=user).exclude(type=Authenticator.Type.RECOVERY_CODES).exists()


def is_missing(user: User) -> bool:
    """Whether `user` is staff who may not act as such before they have a second factor."""
    return settings.STAFF_NEEDS_MFA and user.is_staff and not has(user)


def check(user: User, code: str) -> None:
    """Accept a code of an authenticator app, or a recovery code, once. Raises `CodeRefused`.

    Needs the request that allauth keeps in its context, for its rate limit.
    """
    form = AuthenticateForm(data={"code": code}, user=user)
    try:
        is_right = form.is_valid()
    except RateLimited:
        raise CodeRefused(is_limited=True) from None
    if not is_right:
        problems: list[ValidationError] = form.errors.as_data().get("code", [])
        raise CodeRefused(is_limited=any(problem.code == "too_many_login_attempts" for problem in problems))
    form.authenticator.record_usage()
