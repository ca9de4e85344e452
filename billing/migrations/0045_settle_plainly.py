"""Settlement goes a short way when nothing is unusual: each capture has its hold, no record yet, no Idempotency-Key.

As `billing_admit` since migration 0044: what the short way does not know it leaves, unwritten, to `billing_settle_any`,
which is the function as it was. Name, parameters and answers of `billing_settle` are the same.
"""

from importlib import import_module
from typing import Any

from django.db import migrations

admission: Any = import_module("billing.migrations.0044_admit_plainly")

# The way for everything asked for all ids at once, of which a plan for a young month makes a walk through an index.
AT_ONCE = """    recorded := ARRAY(SELECT u.request_id FROM billing_usagerecord u
                      WHERE u.request_id = ANY(request_ids) AND u.request_id BETWEEN first_id AND last_id);
"""
ONE_BY_ONE = """    recorded := ARRAY(SELECT i FROM unnest(request_ids) i WHERE (
        SELECT u.request_id FROM billing_usagerecord u
        WHERE u.request_id BETWEEN i AND i AND u.request_id BETWEEN first_id AND last_id
        ORDER BY 1 LIMIT 1) IS NOT NULL);
"""

CHANGES = {AT_ONCE: ONE_BY_ONE}

TYPE = """
CREATE TYPE billing_capture AS (
    request_id uuid, account_id bigint, organization_id bigint, key_id bigint, model text, endpoint text, outcome text,
    status_code int, cost bigint, upstream_cost bigint, hold bigint, price_version int, provider text, deployment text,
    end_user text, run_id text, org_label text, stream boolean, input_tokens bigint, cached_tokens bigint,
    cache_write_tokens bigint, output_tokens bigint, reasoning_tokens bigint, audio_input_tokens bigint,
    audio_output_tokens bigint, image_input_tokens bigint, image_output_tokens bigint, units jsonb, usage jsonb,
    estimated boolean, service_tier text, latency_ms bigint, ttft_ms bigint, upstream_request_id text, error_code text,
    attempts jsonb);
"""

# Both ways write what `billing_settle_any` writes of a capture `c` that has its hold.
COLUMNS = """request_id, account_id, organization_id, key_id, cost_nanos, upstream_cost_nanos, hold_nanos, input_tokens,
            cached_tokens, cache_write_tokens, output_tokens, reasoning_tokens, audio_input_tokens,
            audio_output_tokens, image_input_tokens, image_output_tokens, created_at, price_version, status_code,
            latency_ms, ttft_ms, stream, estimated, model, endpoint, outcome, provider, deployment, end_user, run_id,
            org_label, service_tier, error_code, upstream_request_id, units, usage, attempts"""
VALUES = """c.request_id, c.account_id, c.organization_id, c.key_id, c.cost, c.upstream_cost, coalesce(c.hold, 0),
            coalesce(c.input_tokens, 0), coalesce(c.cached_tokens, 0), coalesce(c.cache_write_tokens, 0),
            coalesce(c.output_tokens, 0), coalesce(c.reasoning_tokens, 0), coalesce(c.audio_input_tokens, 0),
            coalesce(c.audio_output_tokens, 0), coalesce(c.image_input_tokens, 0), coalesce(c.image_output_tokens, 0),
            moment, coalesce(c.price_version, 0), coalesce(c.status_code, 0),
            least(coalesce(c.latency_ms, 0), 2147483647),
            CASE WHEN c.ttft_ms IS NOT NULL THEN least(c.ttft_ms, 2147483647) END, coalesce(c.stream, false),
            coalesce(c.estimated, false), left(c.model, 200), left(c.endpoint, 100), left(c.outcome, 40),
            left(coalesce(c.provider, ''), 100), left(coalesce(c.deployment, ''), 200),
            left(coalesce(c.end_user, ''), 256), left(coalesce(c.run_id, ''), 256),
            left(coalesce(c.org_label, ''), 256), left(coalesce(c.service_tier, ''), 40),
            left(coalesce(c.error_code, ''), 100), left(coalesce(c.upstream_request_id, ''), 200),
            coalesce(c.units, '{}'), c.usage, coalesce(c.attempts, '[]')"""

ONE = """
-- One capture, as most are while there is room: plain values, plain statements. NULL if it is not plain.
CREATE FUNCTION billing_settle_one(capture json) RETURNS json LANGUAGE plpgsql SET enable_seqscan = off AS $$
DECLARE
    c billing_capture := json_populate_record(NULL::billing_capture, capture);
    freed bigint;
    freed_tokens bigint;
    budgets bigint[];
    available bigint;
    version bigint;
    moment timestamptz;
BEGIN
    PERFORM 1 FROM billing_account a WHERE a.id = c.account_id FOR NO KEY UPDATE;
    IF NOT FOUND THEN
        RETURN NULL;
    END IF;
    moment := clock_timestamp();
    -- Looks and writes at once: where anything is unusual it finds no hold, and nothing has been written.
    DELETE FROM billing_hold h
        WHERE h.request_id = c.request_id AND h.account_id = c.account_id
          AND (SELECT u.request_id FROM billing_usagerecord u
               WHERE u.request_id BETWEEN c.request_id AND c.request_id ORDER BY 1 LIMIT 1) IS NULL
          AND NOT EXISTS (SELECT FROM billing_idempotencykey i WHERE i.request_id = c.request_id)
        RETURNING h.amount, h.tokens, h.budget_ids INTO freed, freed_tokens, budgets;
    IF NOT FOUND THEN
        RETURN NULL;
    END IF;
    IF budgets IS NOT NULL THEN
        PERFORM billing_lock_budgets(budgets, moment);
        UPDATE billing_budget b SET
            used_cost_nanos = b.used_cost_nanos + c.cost,
            used_tokens = b.used_tokens + coalesce(c.input_tokens, 0) + coalesce(c.output_tokens, 0),
            held_cost_nanos = b.held_cost_nanos - freed, held_tokens = b.held_tokens - freed_tokens
            WHERE b.id = ANY(budgets);
    END IF;
    WITH made AS (
        INSERT INTO billing_usagerecord (
            {columns}, budget_ids)
        VALUES (
            {values}, budgets))
    UPDATE billing_account a SET
        unsettled = a.unsettled + c.cost, held = a.held - freed, version = a.version + 1,
        overdrawn_reason = CASE
            WHEN a.posted + a.credit_limit - a.unsettled - c.cost - a.held + freed >= 0 THEN NULL
            ELSE coalesce(a.overdrawn_reason, 'cost_above_hold') END
        WHERE a.id = c.account_id
        RETURNING a.posted + a.credit_limit - a.unsettled - a.held, a.version INTO STRICT available, version;
    RETURN '[[' || available || ',' || version || ',true,null]]';
END $$;
"""

PLAIN = """
-- A batch, without a join: each table is asked once, by its ids, and the rows are matched here. NULL if one of them is
-- not plain, or if the batch is empty.
CREATE FUNCTION billing_settle_plain(batch json) RETURNS json LANGUAGE plpgsql SET enable_seqscan = off AS $$
DECLARE
    captures billing_capture[];
    n int;
    request_ids uuid[];
    account_ids bigint[];
    costs bigint[];
    token_counts bigint[];
    -- By account, in the order of their ids.
    locked bigint[];
    free bigint[];
    charged bigint[];
    freed bigint[];
    versions bigint[];
    -- By hold.
    held bigint[];
    held_ids uuid[];
    holders bigint[];
    -- By budget.
    budgets bigint[];
    budget_costs bigint[];
    budget_tokens bigint[];
    budget_freed bigint[];
    budget_freed_tokens bigint[];
    has_budgets boolean;
    is_unusual boolean;
    first_id uuid;
    last_id uuid;
    moment timestamptz;
    place int;
    hold_place int;
    answer text := '';
BEGIN
    -- Nothing DISTINCT beside the arrays: it would sort the rows, and the order of arrival be lost.
    SELECT array_agg(x), count(*), array_agg(x.request_id), array_agg(x.account_id), array_agg(x.cost),
            array_agg(coalesce(x.input_tokens, 0) + coalesce(x.output_tokens, 0))
        INTO captures, n, request_ids, account_ids, costs, token_counts
        FROM json_populate_recordset(NULL::billing_capture, batch) x;
    -- The lock gives the accounts' own rows as they are once they are ours; whatever else decides is read afterwards.
    SELECT array_agg(a.id), array_agg(a.free), array_agg(0::bigint), array_agg(0::bigint), array_agg(a.version)
        INTO locked, free, charged, freed, versions
        FROM (SELECT x.id, x.posted + x.credit_limit - x.unsettled - x.held AS free, x.version
              FROM billing_account x WHERE x.id = ANY(account_ids) ORDER BY x.id FOR NO KEY UPDATE) a;
    moment := clock_timestamp();
    first_id := request_ids[1];
    last_id := request_ids[1];
    FOR i IN 2 .. n LOOP
        first_id := least(first_id, request_ids[i]);
        last_id := greatest(last_id, request_ids[i]);
    END LOOP;
    -- Usage as in billing_admit_plain: by a range of plain values, id by id, and in order.
    SELECT array_agg(h.request_id), array_agg(h.account_id), array_agg(h.amount), bool_or(h.budget_ids IS NOT NULL),
            EXISTS (SELECT FROM unnest(request_ids) i WHERE (
                SELECT u.request_id FROM billing_usagerecord u
                WHERE u.request_id BETWEEN i AND i AND u.request_id BETWEEN first_id AND last_id
                ORDER BY 1 LIMIT 1) IS NOT NULL)
            OR EXISTS (SELECT FROM billing_idempotencykey i WHERE i.request_id = ANY(request_ids))
        INTO held_ids, holders, held, has_budgets, is_unusual
        FROM billing_hold h WHERE h.request_id = ANY(request_ids);
    -- Fewer holds than rows: one has none, or is there twice.
    IF is_unusual OR cardinality(held_ids) IS DISTINCT FROM n THEN
        RETURN NULL;
    END IF;
    FOR i IN 1 .. n LOOP
        place := array_position(locked, account_ids[i]);
        hold_place := array_position(held_ids, request_ids[i]);
        IF place IS NULL OR costs[i] IS NULL OR holders[hold_place] IS DISTINCT FROM account_ids[i] THEN
            RETURN NULL;
        END IF;
        charged[place] := charged[place] + costs[i];
        freed[place] := freed[place] + held[hold_place];
    END LOOP;
    IF has_budgets THEN
        SELECT array_agg(s.id), array_agg(s.cost), array_agg(s.tokens), array_agg(s.freed), array_agg(s.freed_tokens)
            INTO budgets, budget_costs, budget_tokens, budget_freed, budget_freed_tokens
            FROM (SELECT i AS id, sum(costs[array_position(request_ids, h.request_id)])::bigint AS cost,
                      sum(token_counts[array_position(request_ids, h.request_id)])::bigint AS tokens,
                      sum(h.amount)::bigint AS freed, sum(h.tokens)::bigint AS freed_tokens
                  FROM billing_hold h CROSS JOIN LATERAL unnest(h.budget_ids) i
                  WHERE h.request_id = ANY(request_ids) GROUP BY 1) s;
        PERFORM billing_lock_budgets(budgets, moment);
        UPDATE billing_budget b SET
            used_cost_nanos = b.used_cost_nanos + budget_costs[array_position(budgets, b.id)],
            used_tokens = b.used_tokens + budget_tokens[array_position(budgets, b.id)],
            held_cost_nanos = b.held_cost_nanos - budget_freed[array_position(budgets, b.id)],
            held_tokens = b.held_tokens - budget_freed_tokens[array_position(budgets, b.id)]
            WHERE b.id = ANY(budgets);
    END IF;
    WITH ended AS (
        DELETE FROM billing_hold h WHERE h.request_id = ANY(request_ids)),
    made AS (
        INSERT INTO billing_usagerecord (
            {columns}, budget_ids)
        SELECT
            {values},
            CASE WHEN has_budgets THEN (SELECT h.budget_ids FROM billing_hold h WHERE h.request_id = c.request_id) END
        FROM unnest(captures) c)
    UPDATE billing_account a SET
        unsettled = a.unsettled + charged[array_position(locked, a.id)],
        held = a.held - freed[array_position(locked, a.id)], version = a.version + 1,
        overdrawn_reason = CASE
            WHEN a.posted + a.credit_limit - a.unsettled - charged[array_position(locked, a.id)]
                 - a.held + freed[array_position(locked, a.id)] >= 0 THEN NULL
            ELSE coalesce(a.overdrawn_reason, 'cost_above_hold') END
        WHERE a.id = ANY(locked);
    FOR i IN 1 .. n LOOP
        place := array_position(locked, account_ids[i]);
        answer := answer || ',[' || free[place] + freed[place] - charged[place] || ',' || versions[place] + 1
            || ',true,null]';
    END LOOP;
    RETURN '[' || substr(answer, 2) || ']';
END $$;
"""

SETTLE = """
CREATE OR REPLACE FUNCTION billing_settle(batch json) RETURNS json LANGUAGE plpgsql AS $$
DECLARE
    answer json;
BEGIN
    IF json_array_length(batch) = 1 THEN
        answer := billing_settle_one(batch -> 0);
    ELSE
        answer := billing_settle_plain(batch);
    END IF;
    IF answer IS NULL THEN
        answer := billing_settle_any(batch);
    END IF;
    RETURN answer;
END $$;
"""

FORTH = (
    admission.rename("billing_settle", "billing_settle_any", "json", CHANGES)
    + TYPE
    + (ONE + PLAIN).format(columns=COLUMNS, values=VALUES)
    + SETTLE
)
BACK = admission.rename("billing_settle_any", "billing_settle", "json", admission.back(CHANGES)) + (
    "DROP FUNCTION billing_settle_any(json), billing_settle_one(json), billing_settle_plain(json);"
    "DROP TYPE billing_capture;"
)


class Migration(migrations.Migration):
    dependencies = [("billing", "0044_admit_plainly")]

    operations = [migrations.RunSQL(FORTH, BACK)]
