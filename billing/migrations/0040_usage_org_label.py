from django.db import migrations, models


class Migration(migrations.Migration):
    """The tenant's own label of a request, by `x-org-id`. Only the catalogue changes: no row is written."""

    dependencies = [("billing", "0039_ask_one_partition")]

    operations = [
        migrations.RunSQL("SET LOCAL lock_timeout = '5s'", migrations.RunSQL.noop),
        migrations.AddField("usagerecord", "org_label", models.TextField(db_default="")),
    ]
