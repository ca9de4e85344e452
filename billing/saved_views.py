"""Saved views of the request log: each member has their own."""

from django.db import transaction

from accounts.models import Membership
from billing.models import SavedView

MAX_VIEWS = 30


class TooManyViews(ValueError):
    """The member has `MAX_VIEWS` already."""


def of(membership: Membership) -> list[SavedView]:
    """The member's views by name."""
    return list(membership.saved_views.order_by("name"))


def save(*, membership: Membership, name: str, query: str) -> SavedView:
    """Keep `query` as `name`; a view of that name is replaced. Raises `TooManyViews`."""
    with transaction.atomic():
        Membership.objects.select_for_update().get(pk=membership.pk)
        others = membership.saved_views.exclude(name=name).count()
        if others >= MAX_VIEWS:
            raise TooManyViews(name)
        view, _ = SavedView.objects.update_or_create(membership=membership, name=name, defaults={"query": query})
    return view
