"""Rates of an organization, and requests at once; workers hear of them as they hear of the others."""

from django.db import migrations, models

ORGANIZATION = """
DROP TRIGGER accounts_organization_changed ON accounts_organization;
CREATE TRIGGER accounts_organization_changed AFTER UPDATE OF {columns} ON accounts_organization
    FOR EACH ROW EXECUTE FUNCTION accounts_notify_organization();
"""
KEY = """
DROP TRIGGER accounts_key_changed ON accounts_apikey;
CREATE TRIGGER accounts_key_changed AFTER UPDATE OF digest, organization_id, scopes, allowed_models, allowed_endpoints,
    allowed_ips, rpm, tpm, {more} expires_at, revoked_at ON accounts_apikey
    FOR EACH ROW EXECUTE FUNCTION accounts_notify_key();
"""
BEFORE = "status, slug, default_rpm, default_tpm"


def _number() -> models.PositiveIntegerField:
    return models.PositiveIntegerField(blank=True, null=True)


class Migration(migrations.Migration):
    dependencies = [("accounts", "0005_event")]

    operations = [
        migrations.AddField("organization", "max_rpm", _number()),
        migrations.AddField("organization", "max_tpm", _number()),
        migrations.AddField("organization", "max_concurrent", _number()),
        migrations.AddField("apikey", "max_concurrent", _number()),
        migrations.RunSQL(
            ORGANIZATION.format(columns=f"{BEFORE}, max_rpm, max_tpm, max_concurrent"),
            ORGANIZATION.format(columns=BEFORE),
        ),
        migrations.RunSQL(KEY.format(more="max_concurrent,"), KEY.format(more="")),
    ]
