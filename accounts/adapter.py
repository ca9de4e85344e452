"""allauth's hooks: whoever signs up gets an organization of their own in the same transaction."""

from typing import Any

from allauth.account.adapter import DefaultAccountAdapter
from django.db import transaction
from django.http import HttpRequest

from accounts import organizations
from accounts.models import User


class AccountAdapter(DefaultAccountAdapter):
    """Used by signup with a password and, through allauth's social adapter, by every other way in."""

    def save_user(self, request: HttpRequest, user: User, form: Any, commit: bool = True) -> User:
        with transaction.atomic():
            user = super().save_user(request, user, form, commit=commit)
            if commit:
                organizations.personal_of(user)
        return user
