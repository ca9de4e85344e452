"""allauth's hooks: whoever signs up gets an organization of their own in the same transaction."""

from typing import Any

from allauth.account.adapter import DefaultAccountAdapter
from allauth.socialaccount.adapter import DefaultSocialAccountAdapter
from allauth.socialaccount.models import SocialLogin
from django.db import transaction
from django.http import HttpRequest

from accounts import organizations
from accounts.models import User


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
