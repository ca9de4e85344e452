"""Settlement: usage records are written and holds ended in one commit; later they become transfers and rollups."""

from django.db import migrations

SETTLE = """
-- Ends requests: writes their usage records, deletes their holds, moves `held` to `unsettled`, counts budgets and keeps
-- the answers for idempotency keys. May be repeated: only what is really inserted is charged. Answers, in the order of
-- `batch`, [available, version, recorded, cost charged so far if the worker was declared dead meanwhile].
CREATE FUNCTION billing_settle(batch json) RETURNS json LANGUAGE plpgsql AS $$
DECLARE
    account_ids bigint[];
    request_ids uuid[];
    counted_budgets bigint[];
    held_requests bigint;
    loose_budgets bigint[];
    moment timestamptz;
    answer json;
BEGIN
    SELECT array_agg(DISTINCT c.account_id), array_agg(DISTINCT c.request_id) INTO account_ids, request_ids
        FROM json_to_recordset(batch) AS c (account_id bigint, request_id uuid);
    PERFORM 1 FROM billing_account a WHERE a.id = ANY(account_ids) ORDER BY a.id FOR NO KEY UPDATE;
    IF (SELECT count(*) FROM billing_account a WHERE a.id = ANY(account_ids)) < cardinality(account_ids) THEN
        RAISE EXCEPTION 'no such account' USING ERRCODE = 'foreign_key_violation';
    END IF;
    moment := clock_timestamp();

    SELECT count(DISTINCT h.request_id), array_agg(DISTINCT i) FILTER (WHERE i IS NOT NULL)
        INTO held_requests, counted_budgets
        FROM billing_hold h LEFT JOIN LATERAL unnest(h.budget_ids) i ON true WHERE h.request_id = ANY(request_ids);
    IF held_requests < cardinality(request_ids) THEN
        -- Usage without a hold: recorded from outside, or a request whose hold is gone.
        SELECT array_agg(DISTINCT b.id) INTO loose_budgets
            FROM json_to_recordset(batch) AS c (organization_id bigint, key_id bigint, end_user text, run_id text)
            JOIN billing_budget b ON b.organization_id = c.organization_id
                AND (b.scope = 'organization' OR b.key_id = c.key_id
                     OR (b.scope = 'end_user' AND b.end_user = left(c.end_user, 256))
                     OR (b.scope = 'run' AND b.run_id = left(c.run_id, 256)));
        counted_budgets := counted_budgets || loose_budgets;
    END IF;
    IF counted_budgets IS NOT NULL THEN
        PERFORM billing_lock_budgets(counted_budgets, moment);
    END IF;

    WITH given AS MATERIALIZED (
        SELECT * FROM ROWS FROM (json_to_recordset(batch) AS (
            request_id uuid, account_id bigint, organization_id bigint, key_id bigint, model text, endpoint text,
            outcome text, status_code int, cost bigint, upstream_cost bigint, hold bigint, price_version int,
            provider text, deployment text, end_user text, run_id text, stream boolean, input_tokens bigint,
            cached_tokens bigint, cache_write_tokens bigint, output_tokens bigint, reasoning_tokens bigint,
            audio_input_tokens bigint, audio_output_tokens bigint, image_input_tokens bigint,
            image_output_tokens bigint, units jsonb, usage jsonb, estimated boolean, service_tier text,
            latency_ms bigint, ttft_ms bigint, upstream_request_id text, error_code text, attempts jsonb))
        WITH ORDINALITY AS c (
            request_id, account_id, organization_id, key_id, model, endpoint, outcome, status_code, cost,
            upstream_cost, hold, price_version, provider, deployment, end_user, run_id, stream, input_tokens,
            cached_tokens, cache_write_tokens, output_tokens, reasoning_tokens, audio_input_tokens,
            audio_output_tokens, image_input_tokens, image_output_tokens, units, usage, estimated, service_tier,
            latency_ms, ttft_ms, upstream_request_id, error_code, attempts, n)),
    freed AS (
        DELETE FROM billing_hold h WHERE h.request_id = ANY(request_ids) AND h.account_id = ANY(account_ids)
        RETURNING h.request_id, h.account_id, h.amount, h.tokens, h.budget_ids),
    known AS MATERIALIZED (  -- scalar: a usage table of any size is asked through its index alone
        SELECT DISTINCT ON (c.request_id) c.*,
            (SELECT true FROM billing_usagerecord u WHERE u.request_id = c.request_id) AS exists_already
        FROM given c ORDER BY c.request_id, c.n),
    made AS (
        INSERT INTO billing_usagerecord AS u (
            request_id, account_id, organization_id, key_id, cost_nanos, upstream_cost_nanos, hold_nanos, input_tokens,
            cached_tokens, cache_write_tokens, output_tokens, reasoning_tokens, audio_input_tokens,
            audio_output_tokens, image_input_tokens, image_output_tokens, created_at, price_version, status_code,
            latency_ms, ttft_ms, stream, estimated, model, endpoint, outcome, provider, deployment, end_user, run_id,
            service_tier, error_code, upstream_request_id, budget_ids, units, usage, attempts)
        SELECT c.request_id, c.account_id, c.organization_id, c.key_id, c.cost, c.upstream_cost, coalesce(c.hold, 0),
            coalesce(c.input_tokens, 0), coalesce(c.cached_tokens, 0), coalesce(c.cache_write_tokens, 0),
            coalesce(c.output_tokens, 0), coalesce(c.reasoning_tokens, 0), coalesce(c.audio_input_tokens, 0),
            coalesce(c.audio_output_tokens, 0), coalesce(c.image_input_tokens, 0), coalesce(c.image_output_tokens, 0),
            moment, coalesce(c.price_version, 0), coalesce(c.status_code, 0),
            least(coalesce(c.latency_ms, 0), 2147483647),
            CASE WHEN c.ttft_ms IS NOT NULL THEN least(c.ttft_ms, 2147483647) END, coalesce(c.stream, false),
            coalesce(c.estimated, false), left(c.model, 200), left(c.endpoint, 100), left(c.outcome, 40),
            left(coalesce(c.provider, ''), 100), left(coalesce(c.deployment, ''), 200),
            left(coalesce(c.end_user, ''), 256), left(coalesce(c.run_id, ''), 256),
            left(coalesce(c.service_tier, ''), 40), left(coalesce(c.error_code, ''), 100),
            left(coalesce(c.upstream_request_id, ''), 200),
            CASE WHEN f.request_id IS NOT NULL THEN f.budget_ids WHEN loose_budgets IS NOT NULL THEN (
                SELECT array_agg(b.id ORDER BY b.id) FROM billing_budget b
                WHERE b.organization_id = c.organization_id
                  AND (b.scope = 'organization' OR b.key_id = c.key_id
                       OR (b.scope = 'end_user' AND b.end_user = left(c.end_user, 256))
                       OR (b.scope = 'run' AND b.run_id = left(c.run_id, 256)))) END,
            coalesce(c.units, '{}'), c.usage, coalesce(c.attempts, '[]')
        FROM known c LEFT JOIN freed f ON f.request_id = c.request_id
        WHERE c.exists_already IS NULL
        ON CONFLICT (request_id) DO NOTHING
        RETURNING u.request_id, u.account_id, u.cost_nanos, u.input_tokens + u.output_tokens AS tokens, u.budget_ids),
    moved AS (
        UPDATE billing_account a SET
            unsettled = a.unsettled + s.cost, held = a.held - s.freed, version = a.version + 1,
            overdrawn_reason = CASE
                WHEN a.posted + a.credit_limit - a.unsettled - s.cost - a.held + s.freed >= 0 THEN NULL
                ELSE coalesce(a.overdrawn_reason, 'cost_above_hold') END
        FROM (SELECT x.account_id, sum(x.cost)::bigint AS cost, sum(x.freed)::bigint AS freed
              FROM (SELECT m.account_id, m.cost_nanos AS cost, 0 AS freed FROM made m
                    UNION ALL SELECT f.account_id, 0, f.amount FROM freed f) x GROUP BY 1) s
        WHERE a.id = s.account_id
        RETURNING a.id, a.posted + a.credit_limit - a.unsettled - a.held AS available, a.version),
    counted AS (
        UPDATE billing_budget b SET
            used_cost_nanos = b.used_cost_nanos + s.cost, used_tokens = b.used_tokens + s.tokens,
            held_cost_nanos = b.held_cost_nanos - s.freed, held_tokens = b.held_tokens - s.freed_tokens
        FROM (SELECT x.budget_id, sum(x.cost)::bigint AS cost, sum(x.tokens)::bigint AS tokens,
                     sum(x.freed)::bigint AS freed, sum(x.freed_tokens)::bigint AS freed_tokens
              FROM (SELECT unnest(m.budget_ids) AS budget_id, m.cost_nanos AS cost, m.tokens, 0 AS freed, 0 AS freed_tokens
                    FROM made m
                    UNION ALL SELECT unnest(f.budget_ids), 0, 0, f.amount, f.tokens FROM freed f) x GROUP BY 1) s
        WHERE b.id = s.budget_id)
    SELECT json_agg(json_build_array(
            coalesce(v.available, a.posted + a.credit_limit - a.unsettled - a.held), coalesce(v.version, a.version),
            m.request_id IS NOT NULL AND c.n = k.n,
            CASE WHEN k.exists_already THEN (
                SELECT u.cost_nanos FROM billing_usagerecord u
                WHERE u.request_id = c.request_id AND u.error_code = 'worker_lost' AND c.error_code <> 'worker_lost') END)
        ORDER BY c.n)
    INTO answer
    FROM given c
    JOIN known k ON k.request_id = c.request_id
    LEFT JOIN made m ON m.request_id = c.request_id
    LEFT JOIN moved v ON v.id = c.account_id
    LEFT JOIN billing_account a ON a.id = c.account_id;

    IF EXISTS (SELECT FROM billing_idempotencykey i WHERE i.request_id = ANY(request_ids)) THEN
        UPDATE billing_idempotencykey i SET
            state = CASE WHEN c.response IS NULL THEN 'lost' ELSE 'done' END,
            response = convert_to(c.response::text, 'UTF8')
        FROM json_to_recordset(batch) AS c (request_id uuid, cost bigint, response json)
        WHERE i.request_id = c.request_id AND i.state <> 'done' AND (c.response IS NOT NULL OR c.cost > 0);
    END IF;
    RETURN answer;
END $$;
ALTER FUNCTION billing_settle(json) SET enable_seqscan = off;
"""

POST = """
-- Turns up to `max_rows` usage records of an account into one transfer to revenue, marks them and adds them to the
-- hourly rollups; returns how many. `available` does not move. May run at any time, twice, and at the same time.
-- The rows are marked before the accounts are locked, so admissions wait only for the transfer itself.
CREATE FUNCTION billing_post_usage(the_account bigint, max_rows int) RETURNS int LANGUAGE plpgsql AS $$
DECLARE
    ids uuid[];
    revenue bigint;
    transfer bigint;
    total bigint;
    moment timestamptz := clock_timestamp();
BEGIN
    IF NOT pg_try_advisory_xact_lock(hashtextextended('billing.post_usage', the_account)) THEN
        RETURN 0;
    END IF;
    SELECT array_agg(p.request_id ORDER BY p.request_id) INTO ids FROM (
        SELECT u.request_id FROM billing_usagerecord u WHERE u.account_id = the_account AND u.settled_at IS NULL
        LIMIT max_rows FOR NO KEY UPDATE SKIP LOCKED) p;
    IF ids IS NULL THEN
        RETURN 0;
    END IF;
    transfer := nextval(pg_get_serial_sequence('billing_transfer', 'id'));
    WITH marked AS (
        UPDATE billing_usagerecord u SET
            settled_at = moment, transfer_id = CASE WHEN u.cost_nanos > 0 THEN transfer END
        WHERE u.request_id = ANY(ids) AND u.request_id BETWEEN ids[1] AND ids[cardinality(ids)]
        RETURNING u.*),
    rolled AS (
        INSERT INTO billing_usagerollup AS r (
            hour, organization_id, key_id, end_user, model, endpoint, requests, errors, input_tokens, cached_tokens,
            cache_write_tokens, output_tokens, reasoning_tokens, audio_input_tokens, audio_output_tokens,
            image_input_tokens, image_output_tokens, cost_nanos, upstream_cost_nanos, latency_ms_sum, ttft_ms_sum,
            ttft_count)
        SELECT date_trunc('hour', m.created_at, 'UTC'), m.organization_id, m.key_id, m.end_user, m.model, m.endpoint,
            count(*) FILTER (WHERE m.outcome <> 'adjustment'),
            count(*) FILTER (WHERE m.outcome NOT IN ('completed', 'client_closed', 'adjustment')),
            sum(m.input_tokens), sum(m.cached_tokens), sum(m.cache_write_tokens), sum(m.output_tokens),
            sum(m.reasoning_tokens), sum(m.audio_input_tokens), sum(m.audio_output_tokens), sum(m.image_input_tokens),
            sum(m.image_output_tokens), sum(m.cost_nanos), coalesce(sum(m.upstream_cost_nanos), 0), sum(m.latency_ms),
            coalesce(sum(m.ttft_ms), 0), count(m.ttft_ms)
        FROM marked m GROUP BY 1, 2, 3, 4, 5, 6
        ON CONFLICT (organization_id, hour, key_id, end_user, model, endpoint) DO UPDATE SET
            requests = r.requests + excluded.requests, errors = r.errors + excluded.errors,
            input_tokens = r.input_tokens + excluded.input_tokens,
            cached_tokens = r.cached_tokens + excluded.cached_tokens,
            cache_write_tokens = r.cache_write_tokens + excluded.cache_write_tokens,
            output_tokens = r.output_tokens + excluded.output_tokens,
            reasoning_tokens = r.reasoning_tokens + excluded.reasoning_tokens,
            audio_input_tokens = r.audio_input_tokens + excluded.audio_input_tokens,
            audio_output_tokens = r.audio_output_tokens + excluded.audio_output_tokens,
            image_input_tokens = r.image_input_tokens + excluded.image_input_tokens,
            image_output_tokens = r.image_output_tokens + excluded.image_output_tokens,
            cost_nanos = r.cost_nanos + excluded.cost_nanos,
            upstream_cost_nanos = r.upstream_cost_nanos + excluded.upstream_cost_nanos,
            latency_ms_sum = r.latency_ms_sum + excluded.latency_ms_sum,
            ttft_ms_sum = r.ttft_ms_sum + excluded.ttft_ms_sum, ttft_count = r.ttft_count + excluded.ttft_count)
    SELECT coalesce(sum(m.cost_nanos), 0) INTO total FROM marked m;
    IF total > 0 THEN
        SELECT a.id INTO revenue FROM billing_account a WHERE a.kind = 'revenue' AND a.organization_id IS NULL;
        IF revenue IS NULL THEN
            INSERT INTO billing_account (kind) VALUES ('revenue')
                ON CONFLICT (kind) WHERE organization_id IS NULL DO UPDATE SET kind = excluded.kind RETURNING id INTO revenue;
        END IF;
        INSERT INTO billing_transfer (id, debit_id, credit_id, amount, kind, idempotency_key, memo)
            VALUES (transfer, the_account, revenue, total, 'usage', 'usage:' || gen_random_uuid(),
                    cardinality(ids) || ' usage records');
        UPDATE billing_account a SET unsettled = a.unsettled - total, version = a.version + 1 WHERE a.id = the_account;
    END IF;
    RETURN cardinality(ids);
END $$;
"""

REAP = """
-- Settles, for what they had cost at the last checkpoint, up to `max_rows` holds of workers that are dead: stopped, or not
-- seen for `dead_after`. Only this clock decides. Returns how many. Idempotency keys of what cost nothing are freed.
CREATE FUNCTION billing_reap(dead_after interval, max_rows int) RETURNS int LANGUAGE plpgsql AS $$
DECLARE
    batch json;
    ids uuid[];
BEGIN
    SELECT json_agg(d), array_agg(d.request_id) INTO batch, ids FROM (
        SELECT h.request_id, h.account_id, h.organization_id, h.key_id, h.model, h.endpoint, 'interrupted' AS outcome,
            0 AS status_code, h.progress AS cost, h.amount AS hold, h.price_version, h.deployment, h.end_user, h.run_id,
            h.stream, true AS estimated, 'worker_lost' AS error_code
        FROM billing_hold h LEFT JOIN billing_worker w ON w.id = h.worker
        WHERE w.stopped_at IS NOT NULL
           OR greatest(w.seen_at, CASE WHEN w.id IS NULL THEN h.created_at END) < clock_timestamp() - dead_after
        ORDER BY h.request_id LIMIT max_rows) d;
    IF ids IS NULL THEN
        RETURN 0;
    END IF;
    PERFORM billing_settle(batch);
    DELETE FROM billing_idempotencykey i WHERE i.request_id = ANY(ids) AND i.state = 'running';
    RETURN cardinality(ids);
END $$;
"""


class Migration(migrations.Migration):
    dependencies = [("billing", "0011_admission")]

    operations = [
        migrations.RunSQL(SETTLE, "DROP FUNCTION billing_settle(json)"),
        migrations.RunSQL(POST, "DROP FUNCTION billing_post_usage(bigint, int)"),
        migrations.RunSQL(REAP, "DROP FUNCTION billing_reap(interval, int)"),
    ]
