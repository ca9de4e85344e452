"""A usage record's label of the tenant's own (`x-org-id`) is not changed afterwards, as the rest of it is not."""

from importlib import import_module
from typing import Any

from django.db import migrations

before: Any = import_module("billing.migrations.0010_books")


def refusing(columns: list[str]) -> str:
    """The trigger that lets a record see its settlement, once, and no change of these columns.

    Replaced in place, with all partitions' own: that stops writers for a moment, and no reader.
    """
    old, new = (f"ROW({', '.join(f'{alias}.{name}' for name in columns)})" for alias in ("OLD", "NEW"))
    return f"""
SET LOCAL lock_timeout = '5s';
CREATE OR REPLACE TRIGGER billing_refuse_change BEFORE UPDATE ON billing_usagerecord FOR EACH ROW
    WHEN (OLD.settled_at IS NOT NULL OR OLD.transfer_id IS NOT NULL OR NEW.settled_at IS NULL
          OR {old} IS DISTINCT FROM {new})
    EXECUTE FUNCTION billing_refuse();
"""


KEPT = before._KEPT.split()


class Migration(migrations.Migration):
    dependencies = [("billing", "0045_settle_plainly")]

    operations = [migrations.RunSQL(refusing([*KEPT, "org_label"]), refusing(KEPT))]
