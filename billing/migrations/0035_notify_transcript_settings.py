from django.db import migrations

NOTIFY = """
CREATE FUNCTION billing_notify_organization() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('tuppence_organizations', coalesce(NEW.organization_id, OLD.organization_id)::text);
    RETURN NULL;
END $$;
CREATE TRIGGER billing_transcript_settings_changed AFTER INSERT OR UPDATE OR DELETE ON billing_transcriptsettings
    FOR EACH ROW EXECUTE FUNCTION billing_notify_organization();
"""
SILENCE = """
DROP TRIGGER billing_transcript_settings_changed ON billing_transcriptsettings;
DROP FUNCTION billing_notify_organization();
"""


class Migration(migrations.Migration):
    """The gateway learns at once whether it shall keep what is said."""

    dependencies = [("billing", "0034_transcript")]

    operations = [migrations.RunSQL(NOTIFY, SILENCE)]
