from django.db import migrations

# Every worker caches keys: whatever changes one, by whatever way, is told at commit.
NOTIFY_KEY = """
CREATE FUNCTION accounts_notify_key() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'DELETE' THEN
        PERFORM pg_notify('tuppence_keys', OLD.digest);
    ELSE
        PERFORM pg_notify('tuppence_keys', NEW.digest);
    END IF;
    RETURN NULL;
END $$;
-- `last_used_at` changes all the time and concerns nobody.
CREATE TRIGGER accounts_key_changed AFTER UPDATE OF digest, organization_id, scopes, allowed_models, allowed_endpoints,
    allowed_ips, rpm, tpm, expires_at, revoked_at ON accounts_apikey
    FOR EACH ROW EXECUTE FUNCTION accounts_notify_key();
CREATE TRIGGER accounts_key_made_or_gone AFTER INSERT OR DELETE ON accounts_apikey
    FOR EACH ROW EXECUTE FUNCTION accounts_notify_key();
"""
NO_NOTIFY_KEY = """
DROP TRIGGER accounts_key_made_or_gone ON accounts_apikey;
DROP TRIGGER accounts_key_changed ON accounts_apikey;
DROP FUNCTION accounts_notify_key();
"""

NOTIFY_ORGANIZATION = """
CREATE FUNCTION accounts_notify_organization() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('tuppence_organizations', NEW.id::text);
    RETURN NULL;
END $$;
CREATE TRIGGER accounts_organization_changed AFTER UPDATE OF status, slug ON accounts_organization
    FOR EACH ROW EXECUTE FUNCTION accounts_notify_organization();
"""
NO_NOTIFY_ORGANIZATION = """
DROP TRIGGER accounts_organization_changed ON accounts_organization;
DROP FUNCTION accounts_notify_organization();
"""

APPEND_ONLY = """
CREATE FUNCTION accounts_refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% is append-only', TG_TABLE_NAME USING ERRCODE = 'insufficient_privilege';
END $$;
CREATE TRIGGER accounts_refuse_change BEFORE UPDATE OR DELETE ON accounts_auditentry
    FOR EACH STATEMENT EXECUTE FUNCTION accounts_refuse_change();
CREATE TRIGGER accounts_refuse_truncate BEFORE TRUNCATE ON accounts_auditentry
    FOR EACH STATEMENT EXECUTE FUNCTION accounts_refuse_change();
"""
NOT_APPEND_ONLY = """
DROP TRIGGER accounts_refuse_truncate ON accounts_auditentry;
DROP TRIGGER accounts_refuse_change ON accounts_auditentry;
DROP FUNCTION accounts_refuse_change();
"""


class Migration(migrations.Migration):
    dependencies = [("accounts", "0001_initial")]

    operations = [
        migrations.RunSQL(NOTIFY_KEY, NO_NOTIFY_KEY),
        migrations.RunSQL(NOTIFY_ORGANIZATION, NO_NOTIFY_ORGANIZATION),
        migrations.RunSQL(APPEND_ONLY, NOT_APPEND_ONLY),
    ]
