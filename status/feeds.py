"""The status for programs: JSON, RSS and badges, all from the snapshot."""

from datetime import datetime
from typing import Any

from django.conf import settings
from django.urls import reverse
from django.utils.feedgenerator import Rss201rev2Feed
from django.utils.html import escape

from status.states import State

BADGE_COLOURS = {"operational": "#1f7a4d", "degraded_performance": "#8a6100", "partial_outage": "#b45309"}
BAD, UNKNOWN = "#b42318", "#667085"
_CHARACTER, _PADDING = 6.6, 10


def document(snapshot: dict[str, Any]) -> dict[str, Any]:
    """`/status.json`: a stable shape, apart from what the page needs."""
    return {
        "page": {"name": settings.SITE_NAME, "url": settings.SITE_URL + reverse("status:page")},
        "updated_at": snapshot["at"],
        "is_stale": snapshot["is_stale"],
        "status": State(snapshot["state"]).slug,
        "services": [
            {name: service[name] for name in ("slug", "name", "group", "state", "in_maintenance", "uptime", "days")}
            for service in snapshot["services"]
        ],
        "incidents": [{**_public(incident), "url": _url(incident)} for incident in snapshot["incidents"]],
        "maintenances": snapshot["maintenances"],
    }


def rss(snapshot: dict[str, Any]) -> str:
    """`/status.rss`: one item an update, newest first (RSS 2.0.1)."""
    feed = Rss201rev2Feed(
        title=f"{settings.SITE_NAME} status",
        link=settings.SITE_URL + reverse("status:page"),
        description="Incidents and their updates",
        feed_url=settings.SITE_URL + reverse("status:rss"),
        language="en",
    )
    entries = [
        (update["at"], incident, update, number)
        for incident in snapshot["incidents"]
        for number, update in enumerate(reversed(incident["updates"]))
    ]
    for at, incident, update, number in sorted(entries, key=lambda entry: entry[0], reverse=True)[:50]:
        feed.add_item(
            title=f"{incident['title']} ({update['status']})",
            link=_url(incident),
            description=update["body"],
            unique_id=f"{_url(incident)}#{number}",
            pubdate=datetime.fromisoformat(at),
        )
    return feed.writeString("utf-8")


def badge(label: str, state: str, text: str) -> str:
    """An SVG badge: `label` on the left, the state in words on its colour on the right."""
    colour = BADGE_COLOURS.get(state, UNKNOWN if state == "unknown" else BAD)
    left, right = (round(len(part) * _CHARACTER + 2 * _PADDING) for part in (label, text))
    label, text = escape(label), escape(text)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{left + right}" height="20" role="img" '
        f'aria-label="{label}: {text}"><title>{label}: {text}</title>'
        f'<rect width="{left + right}" height="20" rx="4" fill="#344054"/>'
        f'<path d="M{left} 0h{right - 4}a4 4 0 0 1 4 4v12a4 4 0 0 1-4 4H{left}z" fill="{colour}"/>'
        f'<g fill="#fff" font-family="Verdana,DejaVu Sans,sans-serif" font-size="11" text-anchor="middle">'
        f'<text x="{left / 2:g}" y="14">{label}</text><text x="{left + right / 2:g}" y="14">{text}</text></g></svg>'
    )


def _public(incident: dict[str, Any]) -> dict[str, Any]:
    hidden = {"providers", "model_prefixes", "service_slugs"}
    return {name: value for name, value in incident.items() if name not in hidden}


def _url(incident: dict[str, Any]) -> str:
    return settings.SITE_URL + reverse("status:incident", args=[incident["id"]])
