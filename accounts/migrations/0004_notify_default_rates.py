"""Workers hear of an organization's new default rates as they hear of its status."""

from django.db import migrations

NOTIFY = """
DROP TRIGGER accounts_organization_changed ON accounts_organization;
CREATE TRIGGER accounts_organization_changed AFTER UPDATE OF {columns} ON accounts_organization
    FOR EACH ROW EXECUTE FUNCTION accounts_notify_organization();
"""


class Migration(migrations.Migration):
    dependencies = [("accounts", "0003_default_rates")]

    operations = [
        migrations.RunSQL(
            NOTIFY.format(columns="status, slug, default_rpm, default_tpm"), NOTIFY.format(columns="status, slug")
        ),
    ]
