from django.db import migrations

# `billing_settle` as it is, but for these words; they come twice: to lock the budgets, and to name them in the record.
BEFORE = "b.key_id = c.key_id"
AFTER = "b.key_id = c.key_id OR b.member_id = (SELECT k.created_by_id FROM accounts_apikey k WHERE k.id = c.key_id)"
CHANGE = """
DO $$
DECLARE
    body text := pg_get_functiondef('billing_settle(json)'::regprocedure);
BEGIN
    body := replace(body, '{}', '{}');
    IF (length(body) - length(replace(body, '{}', ''))) / length('{}') <> 2 THEN
        RAISE EXCEPTION 'billing_settle is not as this migration knows it';
    END IF;
    EXECUTE body;
END $$;
"""


class Migration(migrations.Migration):
    """Usage without a hold counts for the budgets of whoever made the key, as admission counts holds."""

    dependencies = [("billing", "0037_member_admission")]

    operations = [
        migrations.RunSQL(CHANGE.format(BEFORE, AFTER, AFTER, AFTER), CHANGE.format(AFTER, BEFORE, BEFORE, BEFORE)),
    ]
