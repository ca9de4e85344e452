"""Row-level security: a role of PostgreSQL that sees the rows of one organization at a time, or none.

The application itself owns the tables and is not bound by it, so the hot path pays nothing. The role is for reading on
behalf of one organization: `within` enters it for a transaction; support and reporting tools log in through it.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.conf import settings
from django.db import connection, transaction

from accounts.models import Organization

ROLE = "tuppence_tenant"
SETTING = "tuppence.organization"

# Every table with an `organization_id`, and the organizations themselves; partitions are reached through their parent
# alone. Whoever is not the role sees what they saw before.
_SECURE = f"""
DO $$
DECLARE
    one record;
    mine text := 'nullif(current_setting(''{SETTING}'', true), '''')::bigint';
BEGIN
    FOR one IN
        SELECT c.oid::regclass AS name,
            CASE WHEN c.relname = 'accounts_organization' THEN 'id' ELSE 'organization_id' END AS key
        FROM pg_class c
        WHERE c.relnamespace = current_schema()::regnamespace AND c.relkind IN ('r', 'p') AND NOT c.relispartition
          AND (c.relname = 'accounts_organization' OR EXISTS (
              SELECT FROM pg_attribute a
              WHERE a.attrelid = c.oid AND a.attname = 'organization_id' AND NOT a.attisdropped))
          AND NOT EXISTS (SELECT FROM pg_policy p WHERE p.polrelid = c.oid AND p.polname = 'tenant')
    LOOP
        EXECUTE format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY', one.name);
        EXECUTE format(
            'CREATE POLICY tenant ON %s USING (current_user <> ''{ROLE}'' OR %I = %s)', one.name, one.key, mine);
    END LOOP;
END $$
"""  # noqa: S608 - constants of our own
_GRANT = f"""
DO $$
DECLARE
    one record;
BEGIN
    FOR one IN SELECT p.polrelid::regclass AS name FROM pg_policy p WHERE p.polname = 'tenant' LOOP
        EXECUTE format('GRANT SELECT ON %s TO {ROLE}', one.name);
    END LOOP;
END $$
"""  # noqa: S608 - constants of our own


def secure() -> None:
    """Give every tenant table its policy; those that have it stay as they are. Runs after each migration."""
    with connection.cursor() as cursor:
        cursor.execute(_SECURE)


def create_role() -> None:
    """Make the role, or renew its grants: it reads tenant tables and nothing else. Needs CREATEROLE."""
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SELECT FROM pg_roles WHERE rolname = %s", [ROLE])
        if cursor.rowcount == 0:
            cursor.execute(f"CREATE ROLE {ROLE} NOLOGIN NOBYPASSRLS")
            cursor.execute(f"GRANT {ROLE} TO current_user")
        cursor.execute(_GRANT)


@contextmanager
def within(organization: Organization) -> Iterator[None]:
    """Read as this organization alone. Without `TENANT_ROLE` in the settings, as the application."""
    if not settings.TENANT_ROLE:
        yield
        return
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(
            "SELECT set_config('role', %s, true), set_config(%s, %s, true)", [ROLE, SETTING, str(organization.pk)]
        )
        yield
        cursor.execute("SELECT set_config('role', 'none', true), set_config(%s, '', true)", [SETTING])


def after_migrate(**_: Any) -> None:
    """Django's `post_migrate`."""
    secure()
