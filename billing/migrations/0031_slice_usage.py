"""Settlement fills the slices: a trigger sums the rows that a statement has marked as settled."""
# ruff: noqa: S608 - built from names of our own

from django.db import migrations

BOUNDS = [round(10 ** (step / 10)) for step in range(10, 61)]
BUCKETS = len(BOUNDS) + 1
KEY = "organization_id, slice, grain, starts_at, key_id, model, endpoint, end_user"
FIGURES = ["requests", "errors", "input_tokens", "cached_tokens", "output_tokens", "reasoning_tokens", "cost_nanos"]
FIGURES.append("upstream_cost_nanos")
COLUMNS = f"{KEY}, {', '.join(FIGURES)}, latency"
ROW_FIGURES = """
            count(*) FILTER (WHERE outcome <> 'adjustment') AS requests,
            count(*) FILTER (WHERE outcome NOT IN ('completed', 'client_closed', 'adjustment')) AS errors,
            sum(input_tokens) AS input_tokens, sum(cached_tokens) AS cached_tokens,
            sum(output_tokens) AS output_tokens, sum(reasoning_tokens) AS reasoning_tokens,
            sum(cost_nanos) AS cost_nanos, coalesce(sum(upstream_cost_nanos), 0) AS upstream_cost_nanos
"""
SUMS = ", ".join(f"sum({name})::bigint AS {name}" for name in FIGURES)


def sliced(source: str) -> str:
    """What `billing.slices.sliced` says today; a migration does not change with it."""
    buckets = ", ".join(f"coalesce(sum(requests) FILTER (WHERE bucket = {n}), 0)::int" for n in range(BUCKETS))
    sets = ", ".join(
        f"(organization_id, {grain}{by})"
        for grain in ("hour", "day")
        for by in ("", ", key_id", ", model", ", endpoint")
    )
    return f"""
    WITH crossed AS MATERIALIZED (
        SELECT organization_id, hour, date_trunc('day', hour, 'UTC') AS day, key_id, model, endpoint, {SUMS},
            ARRAY[{buckets}] AS latency
        FROM (
            SELECT organization_id, date_trunc('hour', created_at, 'UTC') AS hour, key_id, model, endpoint,
                CASE WHEN outcome = 'completed' AND latency_ms > 0
                    THEN width_bucket(latency_ms, ARRAY[{", ".join(map(str, BOUNDS))}]) END AS bucket,
                {ROW_FIGURES}
            FROM {source} GROUP BY 1, 2, 3, 4, 5, 6) b
        GROUP BY 1, 2, 4, 5, 6)
    SELECT organization_id,
        CASE GROUPING(key_id, model, endpoint) WHEN 7 THEN 'all' WHEN 3 THEN 'key' WHEN 5 THEN 'model'
            WHEN 6 THEN 'endpoint' ELSE 'cross' END,
        CASE GROUPING(hour) WHEN 0 THEN 'hour' ELSE 'day' END, CASE GROUPING(hour) WHEN 0 THEN hour ELSE day END,
        key_id, coalesce(model, ''), coalesce(endpoint, ''), '', {SUMS},
        ARRAY[{", ".join(f"sum(latency[{n}])::int" for n in range(1, BUCKETS + 1))}]
    FROM crossed GROUP BY GROUPING SETS ({sets}, (organization_id, day, key_id, model, endpoint))
    UNION ALL
    SELECT organization_id, 'cross', 'hour', hour, key_id, model, endpoint, '', {", ".join(FIGURES)}, latency
    FROM crossed
    UNION ALL
    SELECT organization_id, 'end_user', 'day', day, NULL::bigint, '', '', end_user,
        {", ".join(f"{name}::bigint" for name in FIGURES)}, NULL::int[]
    FROM (
        SELECT organization_id, date_trunc('day', created_at, 'UTC') AS day, end_user, {ROW_FIGURES}
        FROM {source} GROUP BY 1, 2, 3) e"""


# Accounts are settled one at a time, each by one worker: two statements never meet at a slice.
FILL = f"""
CREATE FUNCTION billing_slice_usage() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO billing_usageslice AS s ({COLUMNS})
    {sliced("settled")}
    ON CONFLICT (organization_id, slice, grain, starts_at, key_id, model, endpoint, end_user) DO UPDATE SET
        {", ".join(f"{name} = s.{name} + excluded.{name}" for name in FIGURES)},
        latency = CASE WHEN s.latency IS NOT NULL THEN
            ARRAY[{", ".join(f"s.latency[{n}] + excluded.latency[{n}]" for n in range(1, BUCKETS + 1))}] END;
    RETURN NULL;
END $$;
CREATE TRIGGER billing_slice_usage AFTER UPDATE ON billing_usagerecord
    REFERENCING NEW TABLE AS settled FOR EACH STATEMENT EXECUTE FUNCTION billing_slice_usage();
"""
LEAVE = """
DROP TRIGGER billing_slice_usage ON billing_usagerecord;
DROP FUNCTION billing_slice_usage();
"""


class Migration(migrations.Migration):
    dependencies = [("billing", "0030_usage_slice")]

    operations = [migrations.RunSQL(FILL, LEAVE)]
