"""Slices: the settled usage summed over everything but a few dimensions, so that a report reads as little as it shows.

A trigger on the usage records fills them when settlement marks rows (`0031_slice_usage`). This module builds the same
sums from any rows: for what is not settled yet, for reconciliation and for repair. Why they are there is in
`docs/adr/0011-usage-slices.md`.
"""
# ruff: noqa: S608 - built from names of our own

from collections.abc import Sequence

# Upper bounds of the buckets of the latency histogram in ms: ten a decade, 10 ms to 1,000 s; one more bucket above.
BOUNDS = tuple(round(10 ** (step / 10)) for step in range(10, 61))
BUCKETS = len(BOUNDS) + 1

KEY = ("organization_id", "slice", "grain", "starts_at", "key_id", "model", "endpoint", "end_user")
FIGURES = (
    "requests",
    "errors",
    "input_tokens",
    "cached_tokens",
    "output_tokens",
    "reasoning_tokens",
    "cost_nanos",
    "upstream_cost_nanos",
)
COLUMNS = (*KEY, *FIGURES, "latency")
_ROW_FIGURES = """
    count(*) FILTER (WHERE outcome <> 'adjustment') AS requests,
    count(*) FILTER (WHERE outcome NOT IN ('completed', 'client_closed', 'adjustment')) AS errors,
    sum(input_tokens) AS input_tokens, sum(cached_tokens) AS cached_tokens, sum(output_tokens) AS output_tokens,
    sum(reasoning_tokens) AS reasoning_tokens, sum(cost_nanos) AS cost_nanos,
    coalesce(sum(upstream_cost_nanos), 0) AS upstream_cost_nanos"""
_BOUNDS_SQL = f"ARRAY[{', '.join(map(str, BOUNDS))}]"
_SUMS = ", ".join(f"sum({name})::bigint AS {name}" for name in FIGURES)
# By hour, key, model and endpoint: first one row a bucket, then its histogram.
_CROSSED = f"""
    SELECT organization_id, hour, date_trunc('day', hour, 'UTC') AS day, key_id, model, endpoint, {_SUMS},
        ARRAY[{", ".join(f"coalesce(sum(requests) FILTER (WHERE bucket = {n}), 0)::int" for n in range(BUCKETS))}]
            AS latency
    FROM (
        SELECT organization_id, date_trunc('hour', created_at, 'UTC') AS hour, key_id, model, endpoint,
            CASE WHEN outcome = 'completed' AND latency_ms > 0
                THEN width_bucket(latency_ms, {_BOUNDS_SQL}) END AS bucket, {_ROW_FIGURES}
        FROM {{source}} GROUP BY 1, 2, 3, 4, 5, 6) b
    GROUP BY 1, 2, 4, 5, 6"""
# All others are sums of those. GROUPING tells by its bits what a row is not grouped by.
_GROUPED = f"""
    SELECT organization_id,
        CASE GROUPING(key_id, model, endpoint) WHEN 7 THEN 'all' WHEN 3 THEN 'key' WHEN 5 THEN 'model'
            WHEN 6 THEN 'endpoint' ELSE 'cross' END AS slice,
        CASE GROUPING(hour) WHEN 0 THEN 'hour' ELSE 'day' END AS grain,
        CASE GROUPING(hour) WHEN 0 THEN hour ELSE day END AS starts_at,
        key_id, coalesce(model, '') AS model, coalesce(endpoint, '') AS endpoint, '' AS end_user, {_SUMS},
        ARRAY[{", ".join(f"sum(latency[{n}])::int" for n in range(1, BUCKETS + 1))}] AS latency
    FROM crossed
    GROUP BY GROUPING SETS (
        {
    ", ".join(
        f"(organization_id, {grain}{by})"
        for grain in ("hour", "day")
        for by in ("", ", key_id", ", model", ", endpoint")
    )
},
        (organization_id, day, key_id, model, endpoint))"""
_BY_END_USER = f"""
    SELECT organization_id, 'end_user', 'day', day, NULL::bigint, '', '', end_user,
        {", ".join(f"{name}::bigint" for name in FIGURES)}, NULL::int[]
    FROM (
        SELECT organization_id, date_trunc('day', created_at, 'UTC') AS day, end_user, {_ROW_FIGURES}
        FROM {{source}} GROUP BY 1, 2, 3) e"""


def sliced(source: str) -> str:
    """A SELECT of `COLUMNS` that sums usage records into all slices.

    `source` follows FROM and must have the columns of the usage records.
    """
    figures = ", ".join(FIGURES)
    return f"""
    WITH crossed AS MATERIALIZED ({_CROSSED.format(source=source)})
    {_GROUPED}
    UNION ALL
    SELECT organization_id, 'cross', 'hour', hour, key_id, model, endpoint, '', {figures}, latency FROM crossed
    UNION ALL {_BY_END_USER.format(source=source)}"""


def histogram_sum(alias: str = "") -> str:
    """SQL that adds up the histograms of many slices; all zeros where there is none."""
    at = f"{alias}." if alias else ""
    sums = ", ".join(f"coalesce(sum({at}latency[{number}]), 0)::bigint" for number in range(1, BUCKETS + 1))
    return f"ARRAY[{sums}]"


def quantile(histogram: Sequence[int], share: float) -> int | None:
    """The latency in ms that `share` of the requests did not exceed, to within its bucket; None without requests."""
    total = sum(histogram)
    if not total:
        return None
    rank, below = share * total, 0
    for number, count in enumerate(histogram):
        if count and below + count >= rank:
            low = BOUNDS[number - 1] if number else 0
            if number == len(BOUNDS):
                return low
            return round(low + (BOUNDS[number] - low) * (rank - below) / count)
        below += count
    return BOUNDS[-1]
