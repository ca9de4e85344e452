"""Settlement says what it settled, so that it can be told."""

from django.db import migrations

DROP = "DROP FUNCTION billing_post_usage(bigint, int);"
POST = """
-- Turns up to `max_rows` usage records of an account into one transfer to revenue, marks them and adds them to the
-- hourly rollups; returns what they were, NULL for none. `available` does not move. May run at any time, twice, and at
-- the same time.
-- The rows are marked before the accounts are locked, so admissions wait only for the transfer itself.
CREATE FUNCTION billing_post_usage(the_account bigint, max_rows int) RETURNS json LANGUAGE plpgsql AS $$
DECLARE
    ids uuid[];
    revenue bigint;
    transfer bigint;
    total bigint;
    summary json;
    moment timestamptz := clock_timestamp();
BEGIN
    IF NOT pg_try_advisory_xact_lock(hashtextextended('billing.post_usage', the_account)) THEN
        RETURN NULL;
    END IF;
    SELECT array_agg(p.request_id ORDER BY p.request_id) INTO ids FROM (
        SELECT u.request_id FROM billing_usagerecord u WHERE u.account_id = the_account AND u.settled_at IS NULL
        LIMIT max_rows FOR NO KEY UPDATE SKIP LOCKED) p;
    IF ids IS NULL THEN
        RETURN NULL;
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
    SELECT sum(s.cost)::bigint, json_build_object(
        'records', sum(s.records), 'requests', sum(s.requests), 'cost', sum(s.cost), 'input_tokens', sum(s.input),
        'output_tokens', sum(s.output), 'first_at', min(s.first_at), 'last_at', max(s.last_at),
        'models', json_agg(json_build_object('model', s.model, 'requests', s.requests, 'cost', s.cost,
            'input_tokens', s.input, 'output_tokens', s.output) ORDER BY s.cost DESC, s.model))
    INTO total, summary FROM (
        SELECT m.model, count(*) AS records, count(*) FILTER (WHERE m.outcome <> 'adjustment') AS requests,
            sum(m.cost_nanos) AS cost, sum(m.input_tokens) AS input, sum(m.output_tokens) AS output,
            min(m.created_at) AS first_at, max(m.created_at) AS last_at
        FROM marked m GROUP BY m.model) s;
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
    RETURN summary;
END $$;
"""
BEFORE = """
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


class Migration(migrations.Migration):
    dependencies = [("billing", "0022_stripe_objects")]

    operations = [migrations.RunSQL(DROP + POST, DROP + BEFORE)]
