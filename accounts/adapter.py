"""allauth's hooks: whoever signs up gets an organization of their own in the same transaction."""

from typing import Any

from allauth.account.adapter import DefaultAccountAdapter
from allauth.core import context
from allauth.socialaccount.adapter import DefaultSocialAccountAdapter
from allauth.socialaccount.models import SocialLogin
from django.contrib import messages
from django.db import transaction
from django.http import HttpRequest

from accounts import eviction, organizations
from accounts.models import User

NOT_CONFIRMED = (
    "This account was made with your address, which nobody had confirmed. Every other way into it has ended. Look at "
    "its team and its keys, and end what is not yours."
)


class AccountAdapter(DefaultAccountAdapter):
    """Used by signup with a password."""

    def add_message(self, request: HttpRequest, *args: Any, **kwargs: Any) -> None:
        """For pages only: what a program asks for shall not greet its user on the next page."""
        if not request.path.startswith("/v1/"):
            super().add_message(request, *args, **kwargs)

    def save_user(self, request: HttpRequest, user: User, form: Any, commit: bool = True) -> User:
        with transaction.atomic():
            user = super().save_user(request, user, form, commit=commit)
            if commit:
                organizations.personal_of(user)
        return user


class SocialAccountAdapter(DefaultSocialAccountAdapter):
    """Used by signup with a provider, whether or not it takes a form."""

    def authenticate_by_email(self, sociallogin: SocialLogin) -> tuple[User, str] | None:
        """Who comes first with a provider's word has the account alone, whoever made it."""
        found: tuple[User, str] | None = super().authenticate_by_email(sociallogin)
        if found is not None and eviction.evict(user=found[0], email=found[1]):
            messages.warning(context.request, NOT_CONFIRMED)
        return found

    def populate_user(self, request: HttpRequest, sociallogin: SocialLogin, data: dict[str, Any]) -> User:
        """Takes the person's name as well, which we keep in one field."""
        user: User = super().populate_user(request, sociallogin, data)
        parts = (data.get("first_name"), data.get("last_name"))
        user.name = (data.get("name") or " ".join(part for part in parts if part))[:120]
        return user

    def save_user(self, request: HttpRequest, sociallogin: SocialLogin, form: Any = None) -> User:
        with transaction.atomic():
            user: User = super().save_user(request, sociallogin, form)
            organizations.personal_of(user)
        return user
