"""Transcripts: what requests asked and were answered, kept encrypted and redacted for as long as their tenant wants.

Off unless an organization's admin switches it on. Reading one is written into the audit log.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

import structlog
from django.db import models, transaction
from django.db.models import F
from django.db.models.functions import Least, Now
from django.utils import timezone

from accounts import audit, secrets
from accounts.models import Organization, User
from billing.models import Transcript, TranscriptSettings, UsageRecord
from billing.redaction import redact

log = structlog.get_logger(__name__)

MAX_CHARACTERS = 100_000
BATCH = 1_000


@dataclass(frozen=True, slots=True)
class Words:
    """What one request asked and was answered. `is_cut`: there was more than is kept."""

    request: str
    answer: str
    is_cut: bool = False


@dataclass(frozen=True, slots=True)
class Taken:
    """Words of one request as the gateway heard them."""

    request_id: UUID
    organization_id: int
    days: int
    request: str
    answer: str


def settings_of(organization: Organization) -> TranscriptSettings:
    """What the organization wants; the defaults where it said nothing."""
    try:
        return organization.transcript_settings
    except TranscriptSettings.DoesNotExist:
        return TranscriptSettings(organization=organization)


def days_of(organization: Organization) -> int:
    """For how many days transcripts are kept; 0: none are made."""
    wanted = settings_of(organization)
    return wanted.retention_days if wanted.is_on else 0


def configure(
    *,
    organization: Organization,
    is_on: bool,
    retention_days: int,
    redacts_personal: bool,
    by: User | None,
    origin: audit.Origin | None = None,
) -> None:
    """What shall be kept from now on. What is kept already goes no later than the new retention says."""
    wanted = {"is_on": is_on, "retention_days": retention_days, "redacts_personal": redacts_personal}
    with transaction.atomic():
        TranscriptSettings.objects.update_or_create(organization=organization, defaults=wanted)
        Transcript.objects.filter(organization=organization).update(
            expires_at=Least(F("expires_at"), F("created_at") + timedelta(days=retention_days))
        )
        audit.record(
            action="transcripts.configure",
            target=organization,
            organization=organization,
            by=by,
            origin=origin,
            **wanted,
        )


def keep(taken: Iterable[Taken]) -> None:
    """Redact, encrypt and write, unless it has been switched off since. May run twice: what is there stays as it is."""
    every = list(taken)
    organizations = {one.organization_id for one in every}
    wanted = {
        settings.organization_id: settings
        for settings in TranscriptSettings.objects.filter(organization__in=organizations, is_on=True)
    }
    now = timezone.now()
    rows = []
    for one in every:
        settings = wanted.get(one.organization_id)
        if settings is None:
            continue
        parts = [redact(text, personal=settings.redacts_personal) for text in (one.request, one.answer)]
        words = {
            "request": parts[0][:MAX_CHARACTERS],
            "answer": parts[1][:MAX_CHARACTERS],
            "is_cut": max(map(len, parts)) > MAX_CHARACTERS,
        }
        rows.append(
            Transcript(
                request_id=one.request_id,
                organization_id=one.organization_id,
                words_encrypted=secrets.encrypt(json.dumps(words)),
                created_at=now,
                expires_at=now + timedelta(days=min(one.days, settings.retention_days)),
            )
        )
    Transcript.objects.bulk_create(rows, ignore_conflicts=True)


def has(record: UsageRecord) -> bool:
    """Whether the request's words are kept."""
    return _live().filter(request_id=record.request_id, organization=record.organization_id).exists()


def read(record: UsageRecord, *, by: User, origin: audit.Origin | None = None) -> Words | None:
    """The words of a request; None if they are not kept, or cannot be read any more. Whoever reads is written down."""
    row = _live().filter(request_id=record.request_id, organization=record.organization_id).first()
    if row is None:
        return None
    audit.record(
        action="transcript.read",
        target=row,
        organization=row.organization,
        by=by,
        origin=origin,
        request_id=str(row.request_id),
    )
    try:
        return Words(**json.loads(secrets.decrypt(row.words_encrypted)))
    except secrets.Undecryptable:
        log.error("transcript_undecryptable", request_id=str(row.request_id))
        return None


def delete_all(*, organization: Organization, by: User | None, origin: audit.Origin | None = None) -> int:
    """Forget everything that is kept; returns how much."""
    with transaction.atomic():
        count, _ = Transcript.objects.filter(organization=organization).delete()
        audit.record(
            action="transcripts.delete",
            target=organization,
            organization=organization,
            by=by,
            origin=origin,
            count=count,
        )
    return count


def count_of(organization: Organization) -> int:
    """How many requests' words are kept."""
    return _live().filter(organization=organization).count()


def forget_expired() -> int:
    """Delete what has expired; returns how many."""
    deleted = 0
    while True:
        ids = list(Transcript.objects.filter(expires_at__lte=Now()).values_list("pk", flat=True)[:BATCH])
        if not ids:
            return deleted
        deleted += Transcript.objects.filter(pk__in=ids).delete()[0]


def _live() -> models.QuerySet[Transcript]:
    return Transcript.objects.filter(expires_at__gt=Now())
