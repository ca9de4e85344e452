from django.db import migrations

TABLES = ("proxy_provider", "proxy_model", "proxy_alias", "proxy_deployment")

NOTIFY = """
CREATE FUNCTION proxy_catalog_notify() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('tuppence_catalog', '');
    RETURN NULL;
END $$;
""" + "".join(
    f"""
CREATE TRIGGER {table}_notify AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON {table}
    FOR EACH STATEMENT EXECUTE FUNCTION proxy_catalog_notify();
"""
    for table in TABLES
)
SILENCE = "".join(f"DROP TRIGGER {table}_notify ON {table};\n" for table in TABLES) + (
    "DROP FUNCTION proxy_catalog_notify();"
)


class Migration(migrations.Migration):
    """Every change of the catalogue is told to the gateways."""

    dependencies = [("proxy", "0001_initial")]

    operations = [migrations.RunSQL(NOTIFY, SILENCE)]
