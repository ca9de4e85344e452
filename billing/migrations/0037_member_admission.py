from django.db import migrations

# The functions as they are, but for these words: pg_get_functiondef keeps their settings, too.
CHANGE = """
DO $$
DECLARE
    body text;
BEGIN
    body := pg_get_functiondef('billing_admit(json, uuid)'::regprocedure);
    body := replace(body, {0}, {1});
    body := replace(body, {2}, {3});
    EXECUTE body;
    body := pg_get_functiondef('billing_binding_rule(bigint[], bigint, bigint)'::regprocedure);
    body := replace(body, {4}, {5});
    EXECUTE body;
END $$;
"""
WORDS = (
    (
        "OR b.key_id = x.key_id OR (b.scope = 'end_user'",
        "OR b.key_id = x.key_id OR b.member_id = k.created_by_id OR (b.scope = 'end_user'",
    ),
    (
        "(organization_id, scope, key_id, end_user, run_id, period)",
        "(organization_id, scope, key_id, member_id, end_user, run_id, period)",
    ),
    (
        "coalesce(b.key_id::text, nullif(b.end_user",
        "coalesce(b.key_id::text, (SELECT m.public_id::text FROM accounts_user m WHERE m.id = b.member_id), nullif(b.end_user",
    ),
)


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


FORTH = CHANGE.format(*(_quoted(text) for before, after in WORDS for text in (before, after)))
BACK = CHANGE.format(*(_quoted(text) for before, after in WORDS for text in (after, before)))
CHECK = """
DO $$
BEGIN
    IF position('b.member_id = k.created_by_id' IN pg_get_functiondef('billing_admit(json, uuid)'::regprocedure)) = 0
        OR position('key_id, member_id, end_user' IN pg_get_functiondef('billing_admit(json, uuid)'::regprocedure)) = 0
    THEN
        RAISE EXCEPTION 'billing_admit is not as this migration knows it';
    END IF;
END $$;
"""


class Migration(migrations.Migration):
    """Admission passes the budgets of whoever made the key."""

    dependencies = [("billing", "0036_member_budget"), ("accounts", "0020_user_public_id")]

    operations = [
        migrations.RunSQL(FORTH, BACK),
        migrations.RunSQL(CHECK, migrations.RunSQL.noop),
    ]
