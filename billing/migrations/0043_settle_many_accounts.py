"""Settlement takes many accounts in one commit, where it took one: what a commit costs is shared by all of them.

The functions of the release before stay beside it: `billing_post_usage` is dropped by the next one.
"""

from importlib import import_module
from typing import Any

from django.db import migrations

before: Any = import_module("billing.migrations.0010_books")

APPLY = """
SET LOCAL lock_timeout = '5s';
-- Moves the balances of all transfers that a statement has made, in one change of each account. Accounts are locked in
-- the order of their ids, here and everywhere: so nothing can deadlock.
CREATE FUNCTION billing_apply_transfers() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    account_ids bigint[] := ARRAY(SELECT m.debit_id FROM made m UNION SELECT m.credit_id FROM made m);
BEGIN
    PERFORM 1 FROM billing_account a WHERE a.id = ANY(account_ids) ORDER BY a.id FOR NO KEY UPDATE;
    UPDATE billing_account a SET
        posted = a.posted + d.delta,
        version = a.version + 1,
        overdrawn_reason = CASE
            WHEN a.kind <> 'customer' OR a.posted + d.delta + a.credit_limit - a.unsettled - a.held >= 0 THEN NULL
            -- Settlement lowers `posted` first and `unsettled` right after: it never makes an account poorer.
            WHEN d.kind IS NULL THEN a.overdrawn_reason
            ELSE coalesce(a.overdrawn_reason, d.kind) END
    FROM (
        SELECT x.account_id, sum(x.delta)::bigint AS delta,
            (array_agg(x.kind ORDER BY x.id) FILTER (WHERE x.kind <> 'usage'))[1] AS kind
        FROM (SELECT m.id, m.debit_id AS account_id, -m.amount AS delta, m.kind FROM made m
              UNION ALL SELECT m.id, m.credit_id, m.amount, m.kind FROM made m) x
        GROUP BY 1) d
    WHERE a.id = d.account_id;
    RETURN NULL;
END $$;
-- By index, whatever the planner takes the few new rows for.
ALTER FUNCTION billing_apply_transfers() SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off;
-- Replaced in place: that stops writers for a moment, and no reader.
CREATE OR REPLACE TRIGGER billing_apply_transfer AFTER INSERT ON billing_transfer
    REFERENCING NEW TABLE AS made FOR EACH STATEMENT EXECUTE FUNCTION billing_apply_transfers();
DROP FUNCTION billing_apply_transfer();
"""

APPLY_EACH = (
    "SET LOCAL lock_timeout = '5s';"
    + before.TRANSFERS.replace("CREATE TRIGGER", "CREATE OR REPLACE TRIGGER")
    + "DROP FUNCTION billing_apply_transfers();"
)

POST = """
-- `billing.money.format_credits`, of what is not negative.
CREATE FUNCTION billing_format_credits(nanos bigint) RETURNS text LANGUAGE sql IMMUTABLE STRICT AS $$
    SELECT nanos / 10000000 || '.' || substr(lpad((nanos % 10000000)::text, 7, '0'), 1, 4)
        || rtrim(substr(lpad((nanos % 10000000)::text, 7, '0'), 5), '0')
$$;

-- Turns up to `max_rows` usage records of some accounts into one transfer to revenue for each account, marks them, adds
-- them to the hourly rollups and tells each organization in one event, `usage.recorded`, with its dearest `models_told`
-- models. Returns, for each account with any, what they were and `ids_told` of their ids; NULL for none. `available`
-- does not move. May run at any time, twice, and at the same time: accounts that another is settling are left to it.
--
-- One statement for the client and one commit, so that no client can keep the accounts locked; and they are locked last,
-- when everything else is written: admissions wait for the change of the balances and the commit.
CREATE FUNCTION billing_post_accounts(account_ids bigint[], max_rows int, models_told int, ids_told int) RETURNS json
LANGUAGE plpgsql AS $$
DECLARE
    claimed bigint[];
    ids uuid[];
    first_id uuid;
    last_id uuid;
    payers bigint[];
    transfers bigint[];
    costs bigint[];
    revenue bigint;
    summaries json;
    moment timestamptz := clock_timestamp();
BEGIN
    claimed := ARRAY(SELECT a FROM unnest(account_ids) a
                     WHERE pg_try_advisory_xact_lock(hashtextextended('billing.post_usage', a)));
    SELECT array_agg(p.request_id ORDER BY p.request_id), array_agg(DISTINCT p.account_id) FILTER (WHERE p.cost_nanos > 0)
    INTO ids, payers FROM (
        SELECT u.request_id, u.account_id, u.cost_nanos FROM billing_usagerecord u
        WHERE u.account_id = ANY(claimed) AND u.settled_at IS NULL LIMIT max_rows) p;
    IF ids IS NULL THEN
        RETURN NULL;
    END IF;
    -- Foreign keys are looked up by their own statements, not by the commit, when the accounts are locked.
    SET CONSTRAINTS ALL IMMEDIATE;
    first_id := ids[1];
    last_id := ids[cardinality(ids)];
    transfers := ARRAY(SELECT nextval(pg_get_serial_sequence('billing_transfer', 'id')) FROM unnest(payers));

    WITH marked AS (
        UPDATE billing_usagerecord u SET
            settled_at = moment,
            transfer_id = CASE WHEN u.cost_nanos > 0 THEN transfers[array_position(payers, u.account_id)] END
        WHERE u.request_id = ANY(ids) AND u.request_id BETWEEN first_id AND last_id AND u.settled_at IS NULL
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
            ttft_ms_sum = r.ttft_ms_sum + excluded.ttft_ms_sum, ttft_count = r.ttft_count + excluded.ttft_count),
    named AS (
        SELECT m.account_id, (array_agg(m.request_id))[1:ids_told] AS request_ids
        FROM marked m WHERE ids_told > 0 GROUP BY 1),
    by_account AS (
        SELECT s.account_id, sum(s.records)::bigint AS records, sum(s.requests)::bigint AS requests,
            sum(s.cost)::bigint AS cost, sum(s.input)::bigint AS input_tokens, sum(s.output)::bigint AS output_tokens,
            min(s.first_at) AS first_at, max(s.last_at) AS last_at,
            (json_agg(json_build_object('model', s.model, 'requests', s.requests,
                'credits', billing_format_credits(s.cost), 'input_tokens', s.input, 'output_tokens', s.output)
                ORDER BY s.cost DESC, s.model) FILTER (WHERE s.place <= models_told)) AS models
        FROM (
            SELECT m.account_id, m.model, count(*) AS records,
                count(*) FILTER (WHERE m.outcome <> 'adjustment') AS requests, sum(m.cost_nanos)::bigint AS cost,
                sum(m.input_tokens) AS input, sum(m.output_tokens) AS output, min(m.created_at) AS first_at,
                max(m.created_at) AS last_at,
                row_number() OVER (PARTITION BY m.account_id ORDER BY sum(m.cost_nanos) DESC, m.model) AS place
            FROM marked m GROUP BY m.account_id, m.model) s
        GROUP BY 1)
    SELECT json_agg(json_build_object(
        'account_id', b.account_id, 'records', b.records, 'requests', b.requests, 'cost', b.cost,
        'input_tokens', b.input_tokens, 'output_tokens', b.output_tokens, 'first_at', b.first_at, 'last_at', b.last_at,
        'models', b.models, 'request_ids', named.request_ids) ORDER BY b.account_id)
    INTO summaries FROM by_account b LEFT JOIN named USING (account_id);
    IF summaries IS NULL THEN
        RETURN NULL;
    END IF;

    -- As `accounts.events.record` would.
    INSERT INTO accounts_event (public_id, organization_id, kind, data, created_at)
    SELECT gen_random_uuid(), a.organization_id, 'usage.recorded', jsonb_build_object(
            'requests', s.requests, 'credits', billing_format_credits(s.cost), 'input_tokens', s.input_tokens,
            'output_tokens', s.output_tokens, 'from', s.first_at, 'until', s.last_at, 'models', s.models), moment
    FROM json_to_recordset(summaries) AS s (account_id bigint, requests bigint, cost bigint, input_tokens bigint,
        output_tokens bigint, first_at text, last_at text, models jsonb)
    JOIN billing_account a ON a.id = s.account_id AND a.organization_id IS NOT NULL;

    IF payers IS NOT NULL THEN
        costs := ARRAY(
            SELECT s.cost FROM unnest(payers) WITH ORDINALITY p (account_id, n)
            LEFT JOIN json_to_recordset(summaries) AS s (account_id bigint, cost bigint) USING (account_id) ORDER BY p.n);
        SELECT a.id INTO revenue FROM billing_account a WHERE a.kind = 'revenue' AND a.organization_id IS NULL;
        IF revenue IS NULL THEN
            INSERT INTO billing_account (kind) VALUES ('revenue')
                ON CONFLICT (kind) WHERE organization_id IS NULL DO UPDATE SET kind = excluded.kind RETURNING id INTO revenue;
        END IF;
        INSERT INTO billing_transfer (id, debit_id, credit_id, amount, kind, idempotency_key, memo)
        SELECT p.transfer, p.account_id, revenue, p.cost, 'usage', 'usage:' || gen_random_uuid(),
            s.records || ' usage records'
        FROM unnest(payers, transfers, costs) p (account_id, transfer, cost)
        JOIN json_to_recordset(summaries) AS s (account_id bigint, records bigint) USING (account_id)
        WHERE p.cost > 0 ORDER BY p.account_id;
        UPDATE billing_account a SET unsettled = a.unsettled - p.cost, version = a.version + 1
            FROM unnest(payers, costs) p (account_id, cost) WHERE a.id = p.account_id AND p.cost > 0;
    END IF;
    RETURN summaries;
END $$;
ALTER FUNCTION billing_post_accounts(bigint[], int, int, int) SET enable_seqscan = off SET jit = off;
"""

NO_POST = """
DROP FUNCTION billing_post_accounts(bigint[], int, int, int);
DROP FUNCTION billing_format_credits(bigint);
"""


class Migration(migrations.Migration):
    dependencies = [("billing", "0042_rerate_lists"), ("accounts", "0034_webhooks")]

    operations = [migrations.RunSQL(APPLY, APPLY_EACH), migrations.RunSQL(POST, NO_POST)]
