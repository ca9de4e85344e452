"""The audit log: who did what to which object, from where. Append-only, kept so by a trigger."""

from dataclasses import dataclass
from typing import Any

from django.db import models

from accounts.models import AuditEntry, Organization, User


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a change came from; `via` names the key, or the operator's token, that made it in nobody's name."""

    ip: str | None = None
    user_agent: str = ""
    via: str = ""


def record(
    *,
    action: str,
    target: models.Model,
    organization: Organization | None,
    by: User | None,
    origin: Origin | None = None,
    **data: Any,
) -> AuditEntry:
    """Write one entry; `action` is `noun.verb`, `data` is JSON without secrets. Call it in the change's transaction."""
    return AuditEntry.objects.create(
        organization=organization,
        actor=by,
        action=action,
        target_type=target._meta.label_lower,
        target_id=str(getattr(target, "public_id", target.pk)),
        data=data,
        ip=origin.ip if origin else None,
        user_agent=origin.user_agent[:300] if origin else "",
        via=origin.via[:80] if origin else "",
    )
