"""Admission goes a short way when nothing is unusual: no budget, no block, no cap of a run, no repeat, all fits.

`billing_admit` was one way for everything: its statements, made for whatever may come, cost most of a small batch. It
tries the short way first now. That way has written nothing when it meets what it does not know, and answers NULL: then
`billing_admit_any` decides, which is the function as it was (but for the join with keys, see below). Name, parameters and answers are the same, so releases
before and after it run side by side.
"""

from django.db import migrations


def rename(function: str, name: str, types: str, changes: dict[str, str]) -> str:
    """Make the function `name` of `function`, with its settings and all it says, but for `changes` of old into new."""
    steps = "".join(
        f"""
    IF length(body) - length(replace(body, $old${old}$old$, '')) <> length($old${old}$old$) THEN
        RAISE EXCEPTION '{function} is not as this migration knows it';
    END IF;
    body := replace(body, $old${old}$old$, $new${new}$new$);"""
        for old, new in {f"{function}(": f"{name}(", **changes}.items()
    )
    return f"""
SET LOCAL lock_timeout = '5s';
DO $rename$
DECLARE
    body text := pg_get_functiondef('{function}({types})'::regprocedure);
BEGIN{steps}
    EXECUTE body;
END $rename$;
"""


def back(changes: dict[str, str]) -> dict[str, str]:
    """The changes that undo `changes`."""
    return {new: old for old, new in changes.items()}


# An organization may have thousands of keys. A comparison that no index knows keeps the planner from reading them all
# for the one that is asked for, which in small tables costs as little. And of usage by id, a plan for a young month may
# take an index that begins with something else; in the order of the ids only the right one gives it.
CHANGES = {
    "LEFT JOIN accounts_apikey k ON k.id = x.key_id AND k.organization_id = x.organization_id": (
        "LEFT JOIN accounts_apikey k ON k.id = x.key_id AND k.organization_id IS NOT DISTINCT FROM x.organization_id"
    ),
    "(SELECT true FROM billing_usagerecord u WHERE u.request_id = x.request_id)": (
        "(SELECT u.request_id FROM billing_usagerecord u WHERE u.request_id BETWEEN x.request_id AND x.request_id"
        " ORDER BY 1 LIMIT 1) IS NOT NULL"
    ),
}

ONE = """
-- One request, as most are while there is room: plain values, plain statements. NULL if it is not plain.
CREATE FUNCTION billing_admit_one(request json, worker_id uuid) RETURNS json LANGUAGE plpgsql
SET enable_seqscan = off AS $$
DECLARE
    r billing_hold_request := json_populate_record(NULL::billing_hold_request, request);
    owner bigint;
    status smallint;
    free bigint;
    version bigint;
    moment timestamptz;
BEGIN
    IF r.run_cap > 0 THEN
        RETURN NULL;
    END IF;
    -- The lock gives the account's own row as it is once it is ours; whatever else decides is read afterwards.
    SELECT a.organization_id, a.status, a.posted + a.credit_limit - a.unsettled - a.held, a.version
        INTO owner, status, free, version
        FROM billing_account a WHERE a.id = r.account_id FOR NO KEY UPDATE;
    moment := clock_timestamp();
    IF owner IS DISTINCT FROM r.organization_id OR status IS DISTINCT FROM 0
       OR (r.amount > 0 AND r.amount <= free) IS NOT TRUE THEN
        RETURN NULL;
    END IF;
    IF r.end_user <> '' THEN
        IF EXISTS (SELECT FROM billing_enduserdefault d
                   WHERE d.organization_id IS NULL OR d.organization_id = r.organization_id)
           OR EXISTS (SELECT FROM billing_enduserblock k
                      WHERE k.organization_id = r.organization_id AND k.end_user = left(r.end_user, 256)) THEN
            RETURN NULL;
        END IF;
    END IF;
    IF NOT EXISTS (
        SELECT FROM accounts_apikey k
        WHERE k.id = r.key_id AND k.organization_id IS NOT DISTINCT FROM r.organization_id
          AND (k.revoked_at IS NULL OR k.revoked_at > moment) AND (k.expires_at IS NULL OR k.expires_at > moment)
          AND (SELECT o.status FROM accounts_organization o WHERE o.id = r.organization_id) = 'active'
          AND NOT EXISTS (SELECT FROM billing_budget b WHERE b.organization_id = r.organization_id)
          AND NOT EXISTS (SELECT FROM billing_hold h WHERE h.request_id = r.request_id)
          AND (SELECT u.request_id FROM billing_usagerecord u
               WHERE u.request_id BETWEEN r.request_id AND r.request_id ORDER BY 1 LIMIT 1) IS NULL) THEN
        RETURN NULL;
    END IF;
    WITH granted AS (
        INSERT INTO billing_hold (request_id, account_id, organization_id, key_id, amount, tokens, worker,
            model, endpoint, deployment, end_user, run_id, price_version, stream, created_at)
        VALUES (r.request_id, r.account_id, r.organization_id, r.key_id, r.amount, coalesce(r.tokens, 0), worker_id,
            left(coalesce(r.model, ''), 200), left(coalesce(r.endpoint, ''), 100), left(coalesce(r.deployment, ''), 200),
            left(coalesce(r.end_user, ''), 256), left(coalesce(r.run_id, ''), 256), coalesce(r.price_version, 0),
            coalesce(r.stream, false), moment))
    UPDATE billing_account a SET held = a.held + r.amount, version = a.version + 1 WHERE a.id = r.account_id;
    RETURN '[[null,0,null,' || free - r.amount || ',' || version + 1 || ']]';
END $$;
"""

PLAIN = """
-- A batch, without a join: each table is asked once, by its ids, and the rows are matched here. NULL if one of them is
-- not plain, or if the batch is empty.
CREATE FUNCTION billing_admit_plain(batch json, worker_id uuid) RETURNS json LANGUAGE plpgsql
SET enable_seqscan = off AS $$
DECLARE
    requests billing_hold_request[];
    n int;
    request_ids uuid[];
    account_ids bigint[];
    organization_ids bigint[];
    key_ids bigint[];
    amounts bigint[];
    has_end_users boolean;
    is_unusual boolean;
    -- By account, in the order of their ids.
    locked bigint[];
    owners bigint[];
    free bigint[];
    granted bigint[];
    versions bigint[];
    -- By key.
    live_keys bigint[];
    key_owners bigint[];
    first_id uuid;
    last_id uuid;
    moment timestamptz;
    place int;
    answer text := '';
BEGIN
    -- Nothing DISTINCT beside the arrays: it would sort the rows, and the order of arrival be lost.
    SELECT array_agg(x), count(*), array_agg(x.request_id), array_agg(x.account_id), array_agg(x.organization_id),
            array_agg(x.key_id), array_agg(x.amount), bool_or(x.end_user <> ''), bool_or(x.run_cap > 0)
        INTO requests, n, request_ids, account_ids, organization_ids, key_ids, amounts, has_end_users, is_unusual
        FROM json_populate_recordset(NULL::billing_hold_request, batch) x;
    IF n = 0 OR is_unusual THEN
        RETURN NULL;
    END IF;
    -- The lock gives the accounts' own rows as they are once they are ours; whatever else decides is read afterwards.
    SELECT array_agg(a.id), array_agg(a.organization_id), array_agg(a.free), array_agg(0::bigint),
            array_agg(a.version), bool_or(a.status <> 0)
        INTO locked, owners, free, granted, versions, is_unusual
        FROM (SELECT x.id, x.organization_id, x.posted + x.credit_limit - x.unsettled - x.held AS free, x.version,
                     x.status
              FROM billing_account x WHERE x.id = ANY(account_ids) ORDER BY x.id FOR NO KEY UPDATE) a;
    moment := clock_timestamp();
    IF is_unusual THEN
        RETURN NULL;
    END IF;
    first_id := request_ids[1];
    last_id := request_ids[1];
    FOR i IN 2 .. n LOOP
        first_id := least(first_id, request_ids[i]);
        last_id := greatest(last_id, request_ids[i]);
    END LOOP;
    IF has_end_users THEN
        IF EXISTS (SELECT FROM billing_enduserdefault d
                   WHERE d.organization_id IS NULL OR d.organization_id = ANY(organization_ids))
           OR EXISTS (SELECT FROM billing_enduserblock k WHERE k.organization_id = ANY(organization_ids)) THEN
            RETURN NULL;
        END IF;
    END IF;
    -- Usage by a range of plain values: so only the partitions that it touches are opened. Id by id
    -- and in order: otherwise, while a month has few records, the planner takes any index that has the id somewhere, and
    -- keeps to it when it has millions.
    SELECT array_agg(k.id), array_agg(k.organization_id),
            EXISTS (SELECT FROM billing_budget b WHERE b.organization_id = ANY(organization_ids))
            OR EXISTS (SELECT FROM billing_hold h WHERE h.request_id = ANY(request_ids))
            OR EXISTS (SELECT FROM unnest(request_ids) i WHERE (
                SELECT u.request_id FROM billing_usagerecord u
                WHERE u.request_id BETWEEN i AND i AND u.request_id BETWEEN first_id AND last_id
                ORDER BY 1 LIMIT 1) IS NOT NULL)
        INTO live_keys, key_owners, is_unusual
        FROM accounts_apikey k
        WHERE k.id = ANY(key_ids)
          AND (k.revoked_at IS NULL OR k.revoked_at > moment) AND (k.expires_at IS NULL OR k.expires_at > moment)
          AND (SELECT o.status FROM accounts_organization o WHERE o.id = k.organization_id) = 'active';
    IF is_unusual THEN
        RETURN NULL;
    END IF;
    FOR i IN 1 .. n LOOP
        place := array_position(locked, account_ids[i]);
        IF owners[place] IS DISTINCT FROM organization_ids[i]
           OR key_owners[array_position(live_keys, key_ids[i])] IS DISTINCT FROM organization_ids[i]
           OR (amounts[i] > 0 AND amounts[i] <= free[place]) IS NOT TRUE
           OR array_position(request_ids, request_ids[i], i + 1) IS NOT NULL THEN
            RETURN NULL;
        END IF;
        free[place] := free[place] - amounts[i];
        granted[place] := granted[place] + amounts[i];
    END LOOP;
    FOR i IN 1 .. n LOOP
        place := array_position(locked, account_ids[i]);
        answer := answer || ',[null,0,null,' || free[place] || ',' || versions[place] + 1 || ']';
    END LOOP;
    WITH made AS (
        INSERT INTO billing_hold (request_id, account_id, organization_id, key_id, amount, tokens, worker,
            model, endpoint, deployment, end_user, run_id, price_version, stream, created_at)
        SELECT x.request_id, x.account_id, x.organization_id, x.key_id, x.amount, coalesce(x.tokens, 0), worker_id,
            left(coalesce(x.model, ''), 200), left(coalesce(x.endpoint, ''), 100), left(coalesce(x.deployment, ''), 200),
            left(coalesce(x.end_user, ''), 256), left(coalesce(x.run_id, ''), 256), coalesce(x.price_version, 0),
            coalesce(x.stream, false), moment
        FROM unnest(requests) x)
    UPDATE billing_account a
        SET held = a.held + granted[array_position(locked, a.id)], version = a.version + 1
        WHERE a.id = ANY(locked);
    RETURN '[' || substr(answer, 2) || ']';
END $$;
"""

ADMIT = """
CREATE OR REPLACE FUNCTION billing_admit(batch json, worker_id uuid) RETURNS json LANGUAGE plpgsql AS $$
DECLARE
    answer json;
BEGIN
    IF json_array_length(batch) = 1 THEN
        answer := billing_admit_one(batch -> 0, worker_id);
    ELSE
        answer := billing_admit_plain(batch, worker_id);
    END IF;
    IF answer IS NULL THEN
        answer := billing_admit_any(batch, worker_id);
    END IF;
    RETURN answer;
END $$;
"""

FORTH = rename("billing_admit", "billing_admit_any", "json, uuid", CHANGES) + ONE + PLAIN + ADMIT
BACK = rename("billing_admit_any", "billing_admit", "json, uuid", back(CHANGES)) + (
    "DROP FUNCTION billing_admit_any(json, uuid), billing_admit_one(json, uuid), billing_admit_plain(json, uuid);"
)


class Migration(migrations.Migration):
    dependencies = [("billing", "0043_settle_many_accounts")]

    operations = [migrations.RunSQL(FORTH, BACK)]
