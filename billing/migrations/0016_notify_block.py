from django.db import migrations

NOTIFY = """
CREATE FUNCTION billing_notify_block() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('tuppence_blocks', json_build_object(
        'organization_id', NEW.organization_id, 'end_user', NEW.end_user, 'reason', NEW.reason)::text);
    RETURN NULL;
END $$;
CREATE TRIGGER billing_enduserblock_notify AFTER INSERT OR UPDATE ON billing_enduserblock
    FOR EACH ROW EXECUTE FUNCTION billing_notify_block();
"""
SILENCE = """
DROP TRIGGER billing_enduserblock_notify ON billing_enduserblock;
DROP FUNCTION billing_notify_block();
"""


class Migration(migrations.Migration):
    """A block reaches sessions that are open already."""

    dependencies = [("billing", "0015_budget_warning")]

    operations = [migrations.RunSQL(NOTIFY, SILENCE)]
