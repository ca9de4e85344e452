"""Reading the audit log: who did what, page by page or as CSV."""

import csv
import io
import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from django.db.models import QuerySet

from accounts import spreadsheets
from accounts.models import AuditEntry, Organization

NOBODY = "none"  # what no person did: keys, the operator's token, the workers
MAX_CSV_ROWS = 50_000
_MAX_CHOICES = 300


@dataclass(frozen=True, slots=True)
class Filter:
    """Which entries. `actor` is a user's primary key, or `NOBODY`; days are those of the organization's time zone."""

    actor: str = ""
    action: str = ""
    first_day: date | None = None
    last_day: date | None = None


def entries(organization: Organization, which: Filter) -> QuerySet[AuditEntry]:
    """The newest first."""
    rows = organization.audit_entries.select_related("actor").order_by("-pk")
    if which.actor == NOBODY:
        rows = rows.filter(actor=None)
    elif which.actor:
        rows = rows.filter(actor=int(which.actor))
    if which.action:
        rows = rows.filter(action=which.action)
    if which.first_day:
        rows = rows.filter(created_at__gte=_start(organization, which.first_day))
    if which.last_day:
        rows = rows.filter(created_at__lt=_start(organization, which.last_day + timedelta(days=1)))
    return rows


def actors(organization: Organization) -> list[tuple[str, str]]:
    """Everybody who did something here: (value, email)."""
    rows = organization.audit_entries.exclude(actor=None).order_by("actor__email")
    people = rows.values_list("actor", "actor__email").distinct()[:_MAX_CHOICES]
    return [*((str(pk), email) for pk, email in people), (NOBODY, "No person")]


def actions(organization: Organization) -> list[str]:
    """Everything that was done here."""
    return list(
        organization.audit_entries.order_by("action").values_list("action", flat=True).distinct()[:_MAX_CHOICES]
    )


def as_csv(rows: Iterable[AuditEntry]) -> str:
    """Times in UTC; texts so that no spreadsheet takes them for formulas."""
    out = io.StringIO()
    fields = ["id", "time", "actor", "via", "action", "target_type", "target_id", "data", "ip", "user_agent"]
    writer = csv.DictWriter(out, fields)
    writer.writeheader()
    for row in rows:
        told = {
            "id": row.pk,
            "time": row.created_at.isoformat(),
            "actor": row.actor.email if row.actor else "",
            "via": row.via,
            "action": row.action,
            "target_type": row.target_type,
            "target_id": row.target_id,
            "data": json.dumps(row.data, ensure_ascii=False),
            "ip": row.ip or "",
            "user_agent": row.user_agent,
        }
        writer.writerow(spreadsheets.plain_row(told))
    return out.getvalue()


def _start(organization: Organization, day: date) -> datetime:
    return datetime.combine(day, time(), ZoneInfo(organization.timezone))
