"""The benchmark of settlement: `python -m bench.settle`, a minute or two, in an embedded PostgreSQL with fsync.

A million usage records of a hundred organizations become transfers and rollups; then what pages ask of them is timed.
"""

import argparse
import json
import time
from typing import Any

from config.tests.processes import Installation

ORGANIZATIONS = 100
# As the gateway writes them: the row, and what its account owes for it.
_ROWS = """
INSERT INTO billing_usagerecord (request_id, account_id, organization_id, key_id, cost_nanos, upstream_cost_nanos,
    input_tokens, output_tokens, created_at, status_code, latency_ms, model, endpoint, outcome, end_user)
SELECT (lpad(to_hex((extract(epoch FROM t.at) * 1000)::bigint), 12, '0') || '7' || substr(md5(n::text), 1, 3)
        || '8' || substr(md5(n::text), 4, 15))::uuid,
    a.id, a.organization_id, k.id, 1000 + n %% 5000, 500, 100 + n %% 900, 50 + n %% 400, t.at, 200, 400,
    'model-' || n %% 7, '/v1/chat/completions', 'completed', 'user-' || n %% 50
FROM generate_series(1, %s) n
CROSS JOIN LATERAL (SELECT clock_timestamp() - (n %% 2592000) * interval '1 second' AS at) t
JOIN bench_account a ON a.number = n %% %s
JOIN accounts_apikey k ON k.organization_id = a.organization_id
"""


def run(rows: int) -> dict[str, Any]:
    with Installation(durable=True) as site:
        found = [site.clerk.organization(name=f"bench-{n}", credit_nanos=10**15) for n in range(ORGANIZATIONS)]
        values = ", ".join(f"({n}, {one['account_id']}, {one['id']})" for n, one in enumerate(found))
        site.query("CREATE TABLE bench_account (number int, id bigint, organization_id bigint)")
        site.query(f"INSERT INTO bench_account VALUES {values}")
        site.query(_ROWS, rows, ORGANIZATIONS)
        site.query(
            "UPDATE billing_account a SET unsettled = s.cost FROM (SELECT account_id, sum(cost_nanos) AS cost "
            "FROM billing_usagerecord GROUP BY 1) s WHERE s.account_id = a.id"
        )
        site.query("ANALYZE")
        started = time.perf_counter()
        site.clerk.settle()
        seconds = time.perf_counter() - started
        site.query("ANALYZE")
        reports = {name: _timed(site, sql, found[0]["id"]) for name, sql in REPORTS.items()}
        site.query("DROP TABLE bench_account")
        drift = site.clerk.reconcile()["drift"]
    return {"rows": rows, "seconds": seconds, "rows_per_s": rows / seconds, "reports_ms": reports, "drift": drift}


REPORTS = {
    "day by day, 30 days": """SELECT date_trunc('day', hour), sum(requests), sum(cost_nanos) FROM billing_usagerollup
        WHERE organization_id = %s AND hour >= now() - interval '30 days' GROUP BY 1""",
    "by model, 30 days": """SELECT model, sum(requests), sum(cost_nanos), sum(upstream_cost_nanos)
        FROM billing_usagerollup WHERE organization_id = %s AND hour >= now() - interval '30 days' GROUP BY 1""",
    "by end user, 30 days": """SELECT end_user, sum(cost_nanos) FROM billing_usagerollup
        WHERE organization_id = %s AND hour >= now() - interval '30 days' GROUP BY 1 ORDER BY 2 DESC LIMIT 50""",
    "the newest 50 requests": """SELECT * FROM billing_usagerecord WHERE organization_id = %s
        ORDER BY request_id DESC LIMIT 50""",
    "a month's statement": """SELECT u.model, count(*), sum(u.cost_nanos) FROM billing_transfer t
        JOIN billing_usagerecord u ON u.transfer_id = t.id AND u.account_id = t.debit_id
        WHERE t.kind = 'usage' AND u.organization_id = %s
          AND u.request_id >= billing_uuid7_floor(now() - interval '37 days') GROUP BY 1""",
}


def _timed(site: Installation, sql: str, organization: int) -> float:
    """The fastest of three, in milliseconds, with the connection that it needs."""
    times = []
    for _ in range(3):
        started = time.perf_counter()
        site.query(sql, organization)
        times.append((time.perf_counter() - started) * 1000)
    return min(times)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.settle", description="Measure settlement and reports.")
    parser.add_argument("--rows", type=int, default=1_000_000)
    report = run(parser.parse_args().rows)
    print(json.dumps(report, indent=2))
    if report["drift"]:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
