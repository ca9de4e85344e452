"""Finding images: cursor pages that cost the same however many there are."""

from dataclasses import dataclass

from django.contrib.postgres.search import SearchQuery, SearchVector
from django.db import models

from accounts.models import Organization
from gallery.models import Image, ImageQuerySet, Visibility

PAGE_SIZE = 40
MAX_PAGE_SIZE = 100


@dataclass(frozen=True, slots=True)
class Filter:
    """What to show. Empty fields show everything; `search` is words of the prompt."""

    model: str = ""
    size: str = ""
    search: str = ""
    visibility: str = ""


@dataclass(frozen=True, slots=True)
class ImagePage:
    """One page, newest first; `next` is the cursor of the following one, None at the end."""

    images: list[Image]
    next: int | None


def public(which: Filter, *, after: int | None = None, size: int = PAGE_SIZE) -> ImagePage:
    """A page of what everybody sees. One query."""
    return _page(_matching(Image.objects.public().filter(is_nsfw=False), which), after, size)


def own(organization: Organization, which: Filter, *, after: int | None = None, size: int = PAGE_SIZE) -> ImagePage:
    """A page of an organization's images. One query."""
    rows = Image.objects.filter(organization=organization)
    if which.visibility in Visibility.values:
        rows = rows.filter(visibility=which.visibility)
    return _page(_matching(rows, which), after, size)


def bytes_of(organization: Organization) -> int:
    """What an organization's images take of the storage, thumbnails left out."""
    total: int | None = Image.objects.filter(organization=organization).aggregate(n=models.Sum("byte_size"))["n"]
    return total or 0


def _matching(rows: ImageQuerySet, which: Filter) -> ImageQuerySet:
    if which.model:
        rows = rows.filter(model=which.model)
    if which.size:
        rows = rows.filter(size=which.size)
    if which.search:
        query = SearchQuery(which.search, config="simple", search_type="websearch")
        rows = rows.annotate(words=SearchVector("prompt", config="simple")).filter(words=query)
    return rows


def _page(rows: ImageQuerySet, after: int | None, size: int) -> ImagePage:
    size = max(1, min(MAX_PAGE_SIZE, size))
    if after is not None:
        rows = rows.filter(pk__lt=after)
    found = list(rows.order_by("-pk")[: size + 1])
    more = len(found) > size
    return ImagePage(found[:size], found[size - 1].pk if more else None)
