"""Filters of the status pages: the snapshot has its times as text."""

from datetime import datetime
from typing import Any

from django import template

register = template.Library()

_UNITS = ((86_400, "day"), (3_600, "hour"), (60, "minute"))


@register.filter
def moment(text: str) -> datetime:
    """The aware datetime of an ISO 8601 text."""
    return datetime.fromisoformat(text)


@register.filter
def duration_words(seconds: int) -> str:
    """`2 hours 5 minutes`: the two largest units; below a minute `under a minute`."""
    parts = []
    rest = seconds
    for size, name in _UNITS:
        count, rest = divmod(rest, size)
        if count:
            parts.append(f"{count} {name}{'s' if count > 1 else ''}")
    return " ".join(parts[:2]) or "under a minute"


@register.filter
def lasted(incident: dict[str, Any]) -> str:
    """How long a resolved incident took."""
    took = datetime.fromisoformat(incident["resolved_at"]) - datetime.fromisoformat(incident["started_at"])
    return duration_words(max(0, int(took.total_seconds())))
