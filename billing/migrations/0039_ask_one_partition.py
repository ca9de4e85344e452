"""Settlement asks the month of its requests whether a usage record exists, and no other month.

A look-up for each row of a batch opened every partition and its index, used or not: a month more, each call slower. A
range of plain values lets the executor leave out all but the partitions that the range touches before it opens any.
"""

from django.db import migrations

# The words of `billing_settle` before, and after: it is as it was otherwise.
WORDS = (
    (
        "    moment timestamptz;\n    answer json;",
        "    moment timestamptz;\n    first_id uuid;\n    last_id uuid;\n    locked bigint;\n"
        "    recorded uuid[];\n    lost jsonb := '{}';\n    answer json;",
    ),
    (
        "    SELECT array_agg(DISTINCT c.account_id), array_agg(DISTINCT c.request_id) INTO account_ids, request_ids\n",
        "    SELECT array_agg(DISTINCT c.account_id),\n"
        "            array_agg(DISTINCT c.request_id ORDER BY c.request_id) FILTER (WHERE c.request_id IS NOT NULL)\n"
        "        INTO account_ids, request_ids\n",
    ),
    (
        "    IF (SELECT count(*) FROM billing_account a WHERE a.id = ANY(account_ids)) < cardinality(account_ids) THEN",
        "    GET DIAGNOSTICS locked = ROW_COUNT;\n    IF locked < cardinality(account_ids) THEN",
    ),
    (
        "    WITH given AS MATERIALIZED (",
        "    -- Apart and with a range of plain values: so only the partitions that it touches are opened.\n"
        "    first_id := request_ids[1];\n    last_id := request_ids[cardinality(request_ids)];\n"
        "    recorded := ARRAY(SELECT u.request_id FROM billing_usagerecord u\n"
        "                      WHERE u.request_id = ANY(request_ids) AND u.request_id BETWEEN first_id AND last_id);\n"
        "    IF cardinality(recorded) > 0 THEN\n"
        "        SELECT coalesce(jsonb_object_agg(u.request_id, u.cost_nanos), '{}') INTO lost\n"
        "            FROM billing_usagerecord u\n"
        "            WHERE u.request_id = ANY(recorded) AND u.request_id BETWEEN first_id AND last_id\n"
        "              AND u.error_code = 'worker_lost';\n"
        "    END IF;\n\n"
        "    WITH given AS MATERIALIZED (",
    ),
    (
        "    known AS MATERIALIZED (  -- scalar: a usage table of any size is asked through its index alone\n"
        "        SELECT DISTINCT ON (c.request_id) c.*,\n"
        "            (SELECT true FROM billing_usagerecord u WHERE u.request_id = c.request_id) AS exists_already",
        "    known AS MATERIALIZED (\n"
        "        SELECT DISTINCT ON (c.request_id) c.*,\n"
        "            CASE WHEN c.request_id = ANY(recorded) THEN true END AS exists_already",
    ),
    (
        "            CASE WHEN k.exists_already THEN (\n"
        "                SELECT u.cost_nanos FROM billing_usagerecord u\n"
        "                WHERE u.request_id = c.request_id AND u.error_code = 'worker_lost'"
        " AND c.error_code <> 'worker_lost') END)",
        "            CASE WHEN k.exists_already AND c.error_code <> 'worker_lost'\n"
        "                THEN (lost ->> c.request_id::text)::bigint END)",
    ),
)


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _change(before: str, after: str) -> str:
    """Put `after` where the function says `before`; anything but one such place is an error."""
    return f"""
DO $change$
DECLARE
    body text := pg_get_functiondef('billing_settle(json)'::regprocedure);
    before text := {_quoted(before)};
BEGIN
    IF length(body) - length(replace(body, before, '')) <> length(before) THEN
        RAISE EXCEPTION 'billing_settle is not as this migration knows it: %', before;
    END IF;
    EXECUTE replace(body, before, {_quoted(after)});
END $change$;
"""


FORTH = [_change(before, after) for before, after in WORDS]
BACK = [_change(after, before) for before, after in WORDS]


class Migration(migrations.Migration):
    dependencies = [("billing", "0038_settle_member_budgets")]

    operations = [migrations.RunSQL("".join(FORTH), "".join(reversed(BACK)))]
