"""The slices of what was settled before there were any."""

from importlib import import_module

from django.db import migrations

slicing = import_module("billing.migrations.0031_slice_usage")
SETTLED = "(SELECT * FROM billing_usagerecord WHERE settled_at IS NOT NULL) settled"
# Settlement waits at its rollups meanwhile; the requests of clients do not.
CATCH_UP = f"""
LOCK TABLE billing_usagerollup IN EXCLUSIVE MODE;
DELETE FROM billing_usageslice;
INSERT INTO billing_usageslice ({slicing.COLUMNS}) {slicing.sliced(SETTLED)};
"""  # noqa: S608 - built from names of our own


class Migration(migrations.Migration):
    dependencies = [("billing", "0031_slice_usage")]

    operations = [migrations.RunSQL(CATCH_UP, migrations.RunSQL.noop)]
