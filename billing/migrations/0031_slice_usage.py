"""Settlement fills the slices: a trigger sums the rows that a statement has marked as settled."""
# ruff: noqa: S608 - built from names of our own

from django.db import migrations

BOUNDS = [round(10 ** (step / 10)) for step in range(10, 61)]
BUCKETS = len(BOUNDS) + 1
KEY = "organization_id, slice, starts_at, key_id, model, endpoint, end_user"
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


def sliced(source: str) -> str:
    """What `billing.slices.sliced` says today; a migration does not change with it."""
    buckets = ", ".join(f"coalesce(sum(requests) FILTER (WHERE bucket = {n}), 0)::int" for n in range(BUCKETS))
    return f"""
    SELECT organization_id,
        CASE GROUPING(hour, key_id, model, endpoint) WHEN 7 THEN 'all' WHEN 3 THEN 'key' WHEN 5 THEN 'model'
            WHEN 6 THEN 'endpoint' WHEN 0 THEN 'cross' WHEN 11 THEN 'key_day' END,
        CASE WHEN GROUPING(hour) = 0 THEN hour ELSE day END, key_id, coalesce(model, ''), coalesce(endpoint, ''), '',
        {", ".join(f"sum({name})::bigint" for name in FIGURES)}, ARRAY[{buckets}]
    FROM (
        SELECT organization_id, date_trunc('hour', created_at, 'UTC') AS hour,
            date_trunc('day', created_at, 'UTC') AS day, key_id, model, endpoint,
            CASE WHEN outcome = 'completed' AND latency_ms > 0
                THEN width_bucket(latency_ms, ARRAY[{", ".join(map(str, BOUNDS))}]) END AS bucket,
            {ROW_FIGURES}
        FROM {source} GROUP BY 1, 2, 3, 4, 5, 6, 7) b
    GROUP BY GROUPING SETS ((organization_id, hour), (organization_id, hour, key_id), (organization_id, hour, model),
        (organization_id, hour, endpoint), (organization_id, hour, key_id, model, endpoint),
        (organization_id, day, key_id))
    UNION ALL
    SELECT organization_id, 'end_user', day, NULL::bigint, '', '', end_user,
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
    ON CONFLICT (organization_id, slice, starts_at, key_id, model, endpoint, end_user) DO UPDATE SET
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
