"""Signing up and in with a password outside of a browser, by the same rules and rate limits as the pages."""

from uuid import UUID

from allauth.account import app_settings as account_settings
from allauth.account import signals
from allauth.account.adapter import get_adapter
from allauth.account.forms import SignupForm
from allauth.account.internal import flows
from allauth.account.models import EmailAddress
from allauth.core import ratelimit
from allauth.socialaccount.adapter import get_adapter as get_social_adapter
from django.contrib.auth.models import update_last_login
from django.core.exceptions import ValidationError
from django.db import models, transaction
from django.http import HttpRequest

from accounts import organizations, second_factor
from accounts.errors import AccountsError
from accounts.models import Membership, Organization, User

MAX_PASSWORD = 1_024


class SignInRefused(AccountsError):
    """The base of every reason not to sign somebody in."""


class WrongCredentials(SignInRefused):
    """No such person, or not this password."""


class TooManyAttempts(SignInRefused):
    """Wait: allauth's rate limit of this address or this person."""


class EmailUnverified(SignInRefused):
    """The address must be confirmed first; a new mail is on its way."""


class CodeNeeded(SignInRefused):
    """A second factor is needed: `methods` are those that there are."""

    def __init__(self, methods: list[str]) -> None:
        super().__init__(",".join(methods))
        self.methods = methods


class WrongCode(SignInRefused):
    """The second factor's code is wrong or was used."""


class SignUpRefused(AccountsError):
    """A field breaks a rule: `field` names it, `problem` is a sentence for people, `code` for programs."""

    def __init__(self, field: str, problem: str, code: str = "invalid_value") -> None:
        super().__init__(f"{field}: {problem}")
        self.field = field
        self.problem = problem
        self.code = code


def with_password(request: HttpRequest, *, email: str, password: str, code: str = "") -> User:
    """Who signs in. Raises a `SignInRefused`."""
    if not email or not password or len(password) > MAX_PASSWORD:
        raise WrongCredentials
    try:
        user = get_adapter(request).authenticate(request, email=email, password=password)
    except ValidationError:
        raise TooManyAttempts from None
    if not isinstance(user, User) or not user.is_active:
        raise WrongCredentials
    if second_factor.has(user):
        if not code:
            raise CodeNeeded(second_factor.methods_of(user))
        try:
            second_factor.check(user, code)
        except second_factor.CodeRefused as refused:
            raise (TooManyAttempts if refused.is_limited else WrongCode) from None
    if is_verification_mandatory() and not is_verified(user):
        flows.email_verification.send_verification_email_for_user(request, user)
        raise EmailUnverified
    update_last_login(User, user)
    return user


def register(request: HttpRequest, *, email: str, password: str, name: str = "") -> User | None:
    """A new person with an organization of their own, who is mailed a link that confirms the address.

    None where addresses must be confirmed first and somebody has this one: only its owner is told, by mail.
    Raises `SignUpRefused`, `TooManyAttempts`.
    """
    if not get_adapter(request).is_open_for_signup(request):
        raise SignUpRefused("email", "This site takes no new accounts.", "signup_closed")
    if not ratelimit.consume(request, action="signup"):
        raise TooManyAttempts
    form = SignupForm(data={"email": email, "password1": password})
    if not form.is_valid():
        raise _refusal(form)
    if form.account_already_exists:
        address = EmailAddress(user=None, email=form.cleaned_data["email"])
        flows.email_verification.send_verification_email_to_address(request, address, signup=True)
        return None
    with transaction.atomic():
        user: User = form.save(request)
        if name:
            user.name = name
            user.save(update_fields=["name"])
    signals.user_signed_up.send(sender=User, request=request, user=user)
    if account_settings.EMAIL_VERIFICATION != account_settings.EmailVerificationMethod.NONE:
        flows.email_verification.send_verification_email_for_user(request, user)
    return user


def provider_address(request: HttpRequest, provider: str, then: str) -> str:
    """Where one signs in with an account at `provider` to come back to the path `then`; "" if that is not set up."""
    for each in get_social_adapter().list_providers(request):
        if provider and each.sub_id == provider:
            return str(each.get_login_url(request, process="login", next=then))
    return ""


def organization_of(user: User, wanted: str = "") -> Organization | None:
    """The organization that `user` is to act for: the one with this slug or public id, else the personal one.

    None if there is no such organization with `user` in it.
    """
    if not wanted:
        first = user.organizations.order_by("-is_personal", "pk").first()
        return first or organizations.personal_of(user)
    return user.organizations.filter(_is_called(wanted)).first()


def is_called(organization: Organization, name: str) -> bool:
    """Whether `name` is the slug or the public id of `organization`."""
    return name in {organization.slug, str(organization.public_id)}


def memberships_of(user: User) -> list[Membership]:
    """The memberships of a person with their organizations, the personal one first. One query."""
    rows = Membership.objects.filter(user=user).select_related("organization")
    return list(rows.order_by("-organization__is_personal", "organization__name"))


def is_verification_mandatory() -> bool:
    """Whether nobody signs in before their address is confirmed."""
    return bool(account_settings.EMAIL_VERIFICATION == account_settings.EmailVerificationMethod.MANDATORY)


def is_verified(user: User) -> bool:
    """Whether `user` has confirmed an address."""
    return EmailAddress.objects.filter(user=user, verified=True).exists()


def _is_called(name: str) -> models.Q:
    """Organizations whose slug or public id `name` is."""
    try:
        return models.Q(public_id=UUID(name))
    except ValueError:
        return models.Q(slug=name[:60])


def _refusal(form: SignupForm) -> SignUpRefused:
    field, problems = next(iter(form.errors.as_data().items()))
    (message,) = problems[0].messages[:1]
    name = {"password1": "password", "__all__": "email"}.get(field, field)
    return SignUpRefused(name, str(message), "email_taken" if problems[0].code == "email_taken" else "invalid_value")
