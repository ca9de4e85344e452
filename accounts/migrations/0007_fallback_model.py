"""The model that an organization falls back to; workers hear of it."""

from django.db import migrations, models

ORGANIZATION = """
DROP TRIGGER accounts_organization_changed ON accounts_organization;
CREATE TRIGGER accounts_organization_changed AFTER UPDATE OF status, slug, default_rpm, default_tpm, max_rpm, max_tpm,
    max_concurrent {more} ON accounts_organization FOR EACH ROW EXECUTE FUNCTION accounts_notify_organization();
"""


class Migration(migrations.Migration):
    dependencies = [("accounts", "0006_rates")]

    operations = [
        migrations.AddField("organization", "fallback_model", models.CharField(blank=True, default="", max_length=200)),
        migrations.RunSQL(ORGANIZATION.format(more=", fallback_model"), ORGANIZATION.format(more="")),
    ]
