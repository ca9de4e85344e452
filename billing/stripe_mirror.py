"""Stripe's objects as signed events showed them, for staff to look at (docs/adr/0005)."""

from datetime import datetime
from typing import Any

from django.db import connection

from billing.models import StripeObject


def keep(found: dict[str, Any], told_at: datetime) -> None:
    """Write an object as it stood at `told_at`, unless something newer is known. May run twice."""
    stripe_id, kind = found.get("id"), found.get("object")
    if not isinstance(stripe_id, str) or not isinstance(kind, str) or len(stripe_id) > 255:
        return
    row = StripeObject(stripe_id=stripe_id, kind=kind[:60], data=found, told_at=told_at)
    fields = [StripeObject._meta.get_field(name) for name in ("stripe_id", "kind", "data", "told_at")]
    values = [field.get_db_prep_save(getattr(row, field.attname), connection) for field in fields]
    with connection.cursor() as cursor:
        cursor.execute(
            """INSERT INTO billing_stripeobject (stripe_id, kind, data, told_at) VALUES (%s, %s, %s, %s)
               ON CONFLICT (stripe_id) DO UPDATE SET data = excluded.data, told_at = excluded.told_at
               WHERE billing_stripeobject.told_at <= excluded.told_at""",
            values,
        )
