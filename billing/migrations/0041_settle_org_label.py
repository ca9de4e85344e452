from django.db import migrations

# The function as it is, but for these words; releases that know nothing of the label send none, and it stays empty.
CHANGE = """
DO $$
DECLARE
    body text := pg_get_functiondef('billing_settle(json)'::regprocedure);
BEGIN
    {steps}
    EXECUTE body;
END $$;
"""
WORDS = (
    ("end_user text, run_id text, stream boolean", "end_user text, run_id text, org_label text, stream boolean"),
    (
        "deployment, end_user, run_id, stream, input_tokens",
        "deployment, end_user, run_id, org_label, stream, input_tokens",
    ),
    ("outcome, provider, deployment, end_user, run_id,", "outcome, provider, deployment, end_user, run_id, org_label,"),
    (
        "left(coalesce(c.run_id, ''), 256),",
        "left(coalesce(c.run_id, ''), 256), left(coalesce(c.org_label, ''), 256),",
    ),
)
STEP = """
    IF position({before} IN body) = 0 THEN
        RAISE EXCEPTION 'billing_settle is not as this migration knows it';
    END IF;
    body := replace(body, {before}, {after});"""


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _change(words: list[tuple[str, str]]) -> str:
    steps = (STEP.format(before=_quoted(before), after=_quoted(after)) for before, after in words)
    return CHANGE.format(steps="".join(steps))


class Migration(migrations.Migration):
    """Settlement writes down the label that a capture carries."""

    dependencies = [("billing", "0040_usage_org_label")]

    operations = [migrations.RunSQL(_change(list(WORDS)), _change([(after, before) for before, after in WORDS]))]
