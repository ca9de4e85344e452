"""Admission knows of blocked end users, of default budgets for end users, of runs, and of budgets that only observe.

The functions are those of 0011 otherwise; going back restores them.
"""

from importlib import import_module

from django.db import migrations

before = import_module("billing.migrations.0011_admission")

BEGIN = """
-- The block of an end user that counts at `moment`; NULL: none.
CREATE FUNCTION billing_block_of(organization bigint, who text, moment timestamptz) RETURNS json LANGUAGE sql STABLE AS $$
    SELECT json_build_object('end_user', b.end_user, 'reason', b.reason, 'expires_at', b.expires_at)
    FROM billing_enduserblock b
    WHERE b.organization_id = organization AND b.end_user = who AND (b.expires_at IS NULL OR b.expires_at > moment)
$$;

-- The caps of end users of `organization` that have none of their own: its defaults, else the installation's.
CREATE FUNCTION billing_end_user_defaults(organization bigint) RETURNS SETOF billing_enduserdefault
LANGUAGE sql STABLE AS $$
    SELECT d.* FROM (
        SELECT DISTINCT ON (x.period) x.* FROM billing_enduserdefault x
        WHERE x.organization_id = organization OR x.organization_id IS NULL
        ORDER BY x.period, x.organization_id NULLS LAST) d
    WHERE d.cost_cap_nanos IS NOT NULL OR d.token_cap IS NOT NULL
$$;

-- Begins the default budgets of end users seen for the first time; the accounts' locks are held. Whoever had used
-- something before the default was set has a budget since then.
CREATE FUNCTION billing_begin_end_users(organizations bigint[], who text[], moment timestamptz) RETURNS void
LANGUAGE sql AS $$
    INSERT INTO billing_budget (
        organization_id, scope, end_user, period, cost_cap_nanos, token_cap, observes, follows_default,
        period_started_at)
    SELECT x.organization_id, 'end_user', x.end_user, d.period, d.cost_cap_nanos, d.token_cap, d.observes, true, moment
    FROM (SELECT DISTINCT u.organization_id, u.end_user FROM unnest(organizations, who) AS u (organization_id, end_user)) x
    JOIN accounts_organization o ON o.id = x.organization_id
    CROSS JOIN LATERAL billing_end_user_defaults(x.organization_id) d
    WHERE NOT EXISTS (
        SELECT FROM billing_budget b WHERE b.organization_id = x.organization_id AND b.scope = 'end_user'
            AND b.key_id IS NULL AND b.end_user = x.end_user AND b.run_id = '' AND b.period = d.period)
    ON CONFLICT DO NOTHING
$$;
"""

NO_BEGIN = """
DROP FUNCTION billing_begin_end_users(bigint[], text[], timestamptz);
DROP FUNCTION billing_end_user_defaults(bigint);
DROP FUNCTION billing_block_of(bigint, text, timestamptz);
"""

RULES = """
-- The first of the locked budgets `ids` that is enforced and does not have room for `amount` and `tokens`; NULL if all have.
CREATE OR REPLACE FUNCTION billing_binding_rule(ids bigint[], amount bigint, tokens bigint) RETURNS json LANGUAGE sql STABLE AS $$
    SELECT json_build_object(
        'id', b.id, 'scope', b.scope, 'subject', coalesce(b.key_id::text, nullif(b.end_user, ''), b.run_id),
        'period', b.period, 'unit', CASE WHEN over.cost THEN 'cost' ELSE 'tokens' END,
        'cap', CASE WHEN over.cost THEN b.cost_cap_nanos ELSE b.token_cap END,
        'used', CASE WHEN over.cost THEN b.used_cost_nanos ELSE b.used_tokens END,
        'held', CASE WHEN over.cost THEN b.held_cost_nanos ELSE b.held_tokens END,
        'resets_at', billing_period_end(b.period, o.timezone, b.period_started_at))
    FROM billing_budget b
    JOIN accounts_organization o ON o.id = b.organization_id
    CROSS JOIN LATERAL (
        SELECT coalesce(b.used_cost_nanos + b.held_cost_nanos + amount > b.cost_cap_nanos, false) AS cost,
               coalesce(b.used_tokens + b.held_tokens + tokens > b.token_cap, false) AS tokens) over
    WHERE b.id = ANY(ids) AND NOT b.observes AND (over.cost OR over.tokens)
    ORDER BY b.id LIMIT 1
$$;

-- What the enforced ones of the locked budgets `ids` leave of `available`.
CREATE OR REPLACE FUNCTION billing_affordable(ids bigint[], available bigint) RETURNS bigint LANGUAGE sql STABLE AS $$
    SELECT least(available, min(b.cost_cap_nanos - b.used_cost_nanos - b.held_cost_nanos))
    FROM billing_budget b WHERE b.id = ANY(ids) AND NOT b.observes
$$;
"""

ADMIT = """
-- A hold as the teller asks for it, and what became of it: `reason` is 'new' until decided, NULL when granted.
CREATE TYPE billing_hold_request AS (
    request_id uuid, account_id bigint, organization_id bigint, key_id bigint, amount bigint, tokens bigint, model text,
    endpoint text, price_version int, deployment text, end_user text, run_id text, stream boolean,
    run_cap bigint, budget_ids bigint[], reason text, affordable bigint, rule json, n int);

-- Grants holds first come, first served; a big one that is refused does not block small ones behind it. Answers, in the
-- order of `batch`, [reason or null, affordable, rule, available, version]. May be repeated: holds that exist are
-- granted, ids with a usage record are refused. `run_cap` is the caller's own ceiling for its whole run: the first one
-- begins the run's budget, a later one may only lower it.
CREATE FUNCTION billing_admit(batch json, worker_id uuid) RETURNS json LANGUAGE plpgsql AS $$
DECLARE
    requests billing_hold_request[];
    r billing_hold_request;
    account_ids bigint[];
    organization_ids bigint[];
    contested bigint[] := '{}';
    has_budgets boolean;
    has_blocks boolean;
    has_repeats boolean;
    free bigint;
    moment timestamptz;
    answer json;
BEGIN
    -- A statement of its own: DISTINCT beside it would sort the rows, and the order of arrival be lost.
    requests := ARRAY(SELECT x FROM json_populate_recordset(NULL::billing_hold_request, batch) x);
    SELECT array_agg(DISTINCT x.account_id), array_agg(DISTINCT x.organization_id)
        INTO account_ids, organization_ids FROM unnest(requests) x;
    PERFORM 1 FROM billing_account a WHERE a.id = ANY(account_ids) ORDER BY a.id FOR NO KEY UPDATE;
    moment := clock_timestamp();
    IF EXISTS (SELECT FROM billing_enduserdefault d
               WHERE d.organization_id IS NULL OR d.organization_id = ANY(organization_ids)) THEN
        PERFORM billing_begin_end_users(array_agg(x.organization_id), array_agg(left(x.end_user, 256)), moment)
            FROM unnest(requests) x WHERE x.end_user <> '';
    END IF;
    IF EXISTS (SELECT FROM unnest(requests) x WHERE x.run_cap > 0) THEN
        INSERT INTO billing_budget AS b (organization_id, scope, run_id, period, cost_cap_nanos, period_started_at)
        SELECT x.organization_id, 'run', left(x.run_id, 256), 'total', min(x.run_cap), moment
        FROM unnest(requests) x JOIN accounts_organization o ON o.id = x.organization_id
        WHERE x.run_cap > 0 AND x.run_id <> '' GROUP BY 1, 3
        ON CONFLICT (organization_id, scope, key_id, end_user, run_id, period) DO UPDATE
            SET cost_cap_nanos = least(b.cost_cap_nanos, excluded.cost_cap_nanos)
            WHERE b.cost_cap_nanos IS NULL OR b.cost_cap_nanos > excluded.cost_cap_nanos;
    END IF;
    has_blocks := EXISTS (SELECT FROM billing_enduserblock k WHERE k.organization_id = ANY(organization_ids));
    has_budgets := EXISTS (SELECT FROM billing_budget b WHERE b.organization_id = ANY(organization_ids));

    -- Scalar subqueries, so that a usage table of any size is asked through its index alone.
    SELECT array_agg(ROW(
            x.request_id, x.account_id, x.organization_id, x.key_id, x.amount, coalesce(x.tokens, 0),
            left(coalesce(x.model, ''), 200), left(coalesce(x.endpoint, ''), 100), coalesce(x.price_version, 0),
            left(coalesce(x.deployment, ''), 200), e.end_user, e.run_id, coalesce(x.stream, false),
            coalesce(x.run_cap, 0),
            CASE WHEN has_budgets THEN (
                SELECT array_agg(b.id ORDER BY b.id) FROM billing_budget b
                WHERE b.organization_id = x.organization_id
                  AND (b.scope = 'organization' OR b.key_id = x.key_id OR (b.scope = 'end_user' AND b.end_user = e.end_user)
                       OR (b.scope = 'run' AND b.run_id = e.run_id))) END,
            CASE
                WHEN h.account_id = x.account_id THEN NULL
                WHEN h.account_id IS NOT NULL OR (SELECT true FROM billing_usagerecord u WHERE u.request_id = x.request_id)
                    THEN 'id_taken'
                WHEN k.id IS NULL OR k.revoked_at <= moment OR k.expires_at <= moment THEN 'key_revoked'
                WHEN a.id IS NULL OR a.status <> 0 OR o.status <> 'active' THEN 'account_frozen'
                WHEN blocked.rule IS NOT NULL THEN 'user_blocked'
                WHEN x.seen > 1 THEN 'repeat'
                ELSE 'new' END,
            0, blocked.rule, x.n)::billing_hold_request ORDER BY x.n),
        coalesce(bool_or(x.seen > 1), false)
    INTO requests, has_repeats
    FROM (
        SELECT y.*, row_number() OVER (PARTITION BY y.request_id ORDER BY y.n) AS seen
        FROM unnest(requests) WITH ORDINALITY AS y (
            request_id, account_id, organization_id, key_id, amount, tokens, model, endpoint, price_version, deployment,
            end_user, run_id, stream, run_cap, budget_ids, reason, affordable, rule, unset, n)) x
    CROSS JOIN LATERAL (SELECT left(coalesce(x.end_user, ''), 256) AS end_user,
                               left(coalesce(x.run_id, ''), 256) AS run_id) e
    CROSS JOIN LATERAL (SELECT CASE WHEN has_blocks AND e.end_user <> '' THEN
        billing_block_of(x.organization_id, e.end_user, moment) END AS rule) blocked
    LEFT JOIN billing_hold h ON h.request_id = x.request_id
    LEFT JOIN billing_account a ON a.id = x.account_id AND a.organization_id = x.organization_id
    LEFT JOIN accounts_organization o ON o.id = x.organization_id
    LEFT JOIN accounts_apikey k ON k.id = x.key_id AND k.organization_id = x.organization_id;

    IF has_budgets THEN
        PERFORM billing_lock_budgets(array_agg(DISTINCT i), moment) FROM unnest(requests) x, unnest(x.budget_ids) i;
        SELECT coalesce(array_agg(DISTINCT s.account_id), '{}') INTO contested FROM (
            SELECT x.account_id, i AS budget_id, sum(x.amount) AS amount, sum(x.tokens) AS tokens
            FROM unnest(requests) x, unnest(x.budget_ids) i WHERE x.reason = 'new' GROUP BY 1, 2) s
        JOIN billing_budget b ON b.id = s.budget_id
        WHERE NOT b.observes AND (
            b.used_cost_nanos + b.held_cost_nanos + s.amount > b.cost_cap_nanos
            OR b.used_tokens + b.held_tokens + s.tokens > b.token_cap);
    END IF;
    SELECT contested || coalesce(array_agg(s.account_id), '{}') INTO contested FROM (
        SELECT x.account_id, sum(x.amount) AS amount FROM unnest(requests) x WHERE x.reason = 'new' GROUP BY 1) s
    JOIN billing_account a ON a.id = s.account_id
    WHERE s.amount > a.posted + a.credit_limit - a.unsettled - a.held;

    -- Everything fits: all holds of these accounts at once.
    WITH granted AS (
        INSERT INTO billing_hold (request_id, account_id, organization_id, key_id, amount, tokens, budget_ids, worker,
            model, endpoint, deployment, end_user, run_id, price_version, stream, created_at)
        SELECT x.request_id, x.account_id, x.organization_id, x.key_id, x.amount, x.tokens, x.budget_ids, worker_id,
            x.model, x.endpoint, x.deployment, x.end_user, x.run_id, x.price_version, x.stream, moment
        FROM unnest(requests) x WHERE x.reason = 'new' AND x.account_id <> ALL(contested)
        RETURNING account_id, amount)
    UPDATE billing_account a SET held = a.held + s.amount, version = a.version + 1
    FROM (SELECT g.account_id, sum(g.amount)::bigint AS amount FROM granted g GROUP BY 1) s
    WHERE a.id = s.account_id;
    IF has_budgets THEN
        UPDATE billing_budget b SET
            held_cost_nanos = b.held_cost_nanos + s.amount, held_tokens = b.held_tokens + s.tokens
        FROM (SELECT i AS budget_id, sum(x.amount)::bigint AS amount, sum(x.tokens)::bigint AS tokens
              FROM unnest(requests) x, unnest(x.budget_ids) i
              WHERE x.reason = 'new' AND x.account_id <> ALL(contested) GROUP BY 1) s
        WHERE b.id = s.budget_id;
    END IF;

    -- Not everything fits: one by one, in the order of arrival.
    IF cardinality(contested) > 0 THEN
        FOR i IN 1 .. cardinality(requests) LOOP
            r := requests[i];
            CONTINUE WHEN r.reason IS DISTINCT FROM 'new' OR r.account_id <> ALL(contested);
            SELECT a.posted + a.credit_limit - a.unsettled - a.held INTO free
                FROM billing_account a WHERE a.id = r.account_id;
            r.rule := billing_binding_rule(r.budget_ids, r.amount, r.tokens);
            IF r.amount > free OR r.rule IS NOT NULL THEN
                r.reason := CASE WHEN r.amount > free THEN 'insufficient_credit' ELSE 'budget' END;
                r.affordable := billing_affordable(r.budget_ids, free);
            ELSE
                INSERT INTO billing_hold (request_id, account_id, organization_id, key_id, amount, tokens, budget_ids,
                    worker, model, endpoint, deployment, end_user, run_id, price_version, stream, created_at)
                VALUES (r.request_id, r.account_id, r.organization_id, r.key_id, r.amount, r.tokens, r.budget_ids,
                    worker_id, r.model, r.endpoint, r.deployment, r.end_user, r.run_id, r.price_version, r.stream, moment);
                UPDATE billing_account a SET held = a.held + r.amount, version = a.version + 1 WHERE a.id = r.account_id;
                UPDATE billing_budget b SET
                    held_cost_nanos = b.held_cost_nanos + r.amount, held_tokens = b.held_tokens + r.tokens
                WHERE b.id = ANY(r.budget_ids);
            END IF;
            requests[i] := r;
        END LOOP;
    END IF;

    IF has_repeats THEN
        FOR i IN 1 .. cardinality(requests) LOOP
            CONTINUE WHEN requests[i].reason IS DISTINCT FROM 'repeat';
            SELECT x.* INTO r FROM unnest(requests) x
                WHERE x.request_id = requests[i].request_id AND x.reason IS DISTINCT FROM 'repeat';
            r.n := i;
            requests[i] := r;
        END LOOP;
    END IF;

    SELECT json_agg(json_build_array(nullif(x.reason, 'new'), x.affordable, x.rule,
                                     a.posted + a.credit_limit - a.unsettled - a.held, a.version)
                    ORDER BY x.n)
    INTO answer
    FROM unnest(requests) x LEFT JOIN billing_account a ON a.id = x.account_id;
    RETURN answer;
END $$;
-- The joins go from a batch to tables: by index, whatever the tables' sizes were when a session planned them.
ALTER FUNCTION billing_admit(json, uuid) SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off;
"""

EXTEND = """
-- Adds to holds: [{request_id, amount, tokens, seq}], at most one for a hold. Answers like `billing_admit`. `seq` rises
-- with every extension of a worker, so that a repeated batch adds nothing again.
CREATE OR REPLACE FUNCTION billing_extend(batch json) RETURNS json LANGUAGE plpgsql AS $$
DECLARE
    account_ids bigint[];
    held_budgets bigint[];
    e record;
    free bigint;
    changed bigint;
    refused text;
    binding json;
    answers json[] := '{}';
    moment timestamptz;
BEGIN
    SELECT array_agg(DISTINCT h.account_id) INTO account_ids
        FROM billing_hold h WHERE h.request_id IN (SELECT c.request_id FROM json_to_recordset(batch) AS c (request_id uuid));
    PERFORM 1 FROM billing_account a WHERE a.id = ANY(account_ids) ORDER BY a.id FOR NO KEY UPDATE;
    moment := clock_timestamp();
    SELECT array_agg(DISTINCT i) INTO held_budgets FROM billing_hold h, unnest(h.budget_ids) i
        WHERE h.request_id IN (SELECT c.request_id FROM json_to_recordset(batch) AS c (request_id uuid));
    IF held_budgets IS NOT NULL THEN
        PERFORM billing_lock_budgets(held_budgets, moment);
    END IF;
    FOR e IN
        SELECT c.*, h.account_id, h.budget_ids, h.extended_seq, h.organization_id, h.end_user,
               a.status AS account_status, o.status AS organization_status,
               k.id IS NOT NULL AND coalesce(k.revoked_at > moment, true) AND coalesce(k.expires_at > moment, true) AS is_live
        FROM ROWS FROM (json_to_recordset(batch) AS (request_id uuid, amount bigint, tokens bigint, seq bigint))
            WITH ORDINALITY AS c (request_id, amount, tokens, seq, n)
        LEFT JOIN billing_hold h ON h.request_id = c.request_id
        LEFT JOIN billing_account a ON a.id = h.account_id
        LEFT JOIN accounts_organization o ON o.id = h.organization_id
        LEFT JOIN accounts_apikey k ON k.id = h.key_id
        ORDER BY c.n
    LOOP
        IF e.amount < 0 OR e.tokens < 0 THEN
            RAISE EXCEPTION 'a hold cannot shrink' USING ERRCODE = 'check_violation';
        END IF;
        SELECT a.posted + a.credit_limit - a.unsettled - a.held, a.version INTO free, changed
            FROM billing_account a WHERE a.id = e.account_id;
        binding := NULL;
        refused := CASE
            WHEN e.account_id IS NULL THEN 'no_hold'
            WHEN e.extended_seq >= e.seq THEN NULL
            WHEN NOT e.is_live THEN 'key_revoked'
            WHEN e.account_status <> 0 OR e.organization_status <> 'active' THEN 'account_frozen'
            WHEN e.amount > free THEN 'insufficient_credit' END;
        IF refused IS NULL AND e.end_user <> '' AND e.extended_seq < e.seq THEN
            binding := billing_block_of(e.organization_id, e.end_user, moment);
            IF binding IS NOT NULL THEN
                refused := 'user_blocked';
            END IF;
        END IF;
        IF refused IS NULL AND e.extended_seq < e.seq THEN
            binding := billing_binding_rule(e.budget_ids, e.amount, e.tokens);
            IF binding IS NOT NULL THEN
                refused := 'budget';
            ELSE
                UPDATE billing_hold h SET amount = h.amount + e.amount, tokens = h.tokens + e.tokens, extended_seq = e.seq
                    WHERE h.request_id = e.request_id;
                UPDATE billing_account a SET held = a.held + e.amount, version = a.version + 1 WHERE a.id = e.account_id
                    RETURNING a.posted + a.credit_limit - a.unsettled - a.held, a.version INTO free, changed;
                UPDATE billing_budget b SET
                    held_cost_nanos = b.held_cost_nanos + e.amount, held_tokens = b.held_tokens + e.tokens
                WHERE b.id = ANY(e.budget_ids);
            END IF;
        END IF;
        answers := answers || json_build_array(
            refused, CASE WHEN refused IS NULL THEN 0 ELSE billing_affordable(e.budget_ids, free) END, binding,
            free, changed);
    END LOOP;
    RETURN array_to_json(answers);
END $$;
"""

OLD_RULES = before.BUDGETS[before.BUDGETS.index("-- The first of") :].replace(
    "CREATE FUNCTION", "CREATE OR REPLACE FUNCTION"
)
OLD_EXTEND = before.EXTEND[: before.EXTEND.index("-- How much")].replace(
    "CREATE FUNCTION", "CREATE OR REPLACE FUNCTION"
)


class Migration(migrations.Migration):
    dependencies = [("billing", "0013_end_users"), ("accounts", "0002_triggers")]

    operations = [
        migrations.RunSQL(BEGIN, NO_BEGIN),
        migrations.RunSQL(RULES, OLD_RULES),
        migrations.RunSQL([before.NO_ADMIT, ADMIT], [before.NO_ADMIT, before.ADMIT]),
        migrations.RunSQL(EXTEND, OLD_EXTEND),
    ]
