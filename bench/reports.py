"""The benchmark of the usage pages: `python -m bench.reports`, about 15 minutes, in an embedded PostgreSQL.

Ten million usage records of 90 days, six of ten in one organization with 20 keys, 12 models and 2,000 end users. Then
each page and each answer of the API is asked for, through Django whole, and must come within `LIMIT_MS`.

The rows are written as settled, with the sums that settlement would have made of them: settling them one batch at a
time is measured by `bench.settle`, and would take longer than everything here.
"""

import argparse
import json
import subprocess
import sys
import time
from importlib import import_module
from typing import Any

from billing.proofs import FIGURES, ROLLED, ROLLUP_KEY
from config.tests.processes import ROOT, Installation

ROWS = 10_000_000
DAYS = 90
LIMIT_MS = 300
SMALL = 4
_PARTITIONS = """
DO $$ DECLARE month timestamptz; name text; BEGIN
    FOR n IN 2..3 LOOP
        month := (date_trunc('month', now() AT TIME ZONE 'UTC') - make_interval(months => n)) AT TIME ZONE 'UTC';
        name := 'billing_usagerecord_' || to_char(month AT TIME ZONE 'UTC', 'YYYY_MM');
        EXECUTE format('CREATE TABLE %%I (LIKE billing_usagerecord INCLUDING DEFAULTS INCLUDING CONSTRAINTS)', name);
        EXECUTE format('ALTER TABLE billing_usagerecord ATTACH PARTITION %%I FOR VALUES FROM (%%L) TO (%%L)', name,
            billing_uuid7_floor(month), billing_uuid7_floor(month + interval '1 month'));
    END LOOP;
END $$
"""
_RECORDS = """
INSERT INTO billing_usagerecord (request_id, account_id, organization_id, key_id, cost_nanos, upstream_cost_nanos,
    input_tokens, output_tokens, created_at, settled_at, status_code, latency_ms, ttft_ms, model, endpoint, outcome,
    end_user)
SELECT (lpad(to_hex((extract(epoch FROM t.at) * 1000)::bigint), 12, '0') || '7' || substr(md5(n::text), 1, 3)
        || '8' || substr(md5(n::text), 4, 15))::uuid,
    k.account_id, k.organization_id, k.key_id, CASE WHEN n %% 50 = 0 THEN 0 ELSE 1000 + n %% 5000 END, 500,
    100 + n %% 900, 50 + n %% 400, t.at, t.at, CASE WHEN n %% 50 = 0 THEN 502 ELSE 200 END,
    (10 ^ (2 + (n %% 997) / 450.0))::int, 90, 'model-' || (n * 7 + n / 13) %% 12,
    CASE WHEN (n * 7 + n / 13) %% 12 < 9 THEN '/v1/chat/completions' ELSE '/v1/embeddings' END,
    CASE WHEN n %% 50 = 0 THEN 'upstream_error' ELSE 'completed' END,
    CASE WHEN n %% 3 = 0 THEN '' ELSE 'user-' || (n * 31 + n / 17) %% 2000 END
FROM generate_series(%(rows)s::bigint, 1, -1) n
CROSS JOIN LATERAL (SELECT now() - n * (%(days)s * interval '1 day' / %(rows)s) AS at) t
CROSS JOIN LATERAL (SELECT CASE WHEN n %% 10 < 6 THEN 0 ELSE 1 + n %% %(small)s END AS number) o
JOIN bench_key k ON k.organization = o.number AND k.number = (n / 7) %% k.keys
"""


def fill(site: Installation, rows: int) -> None:
    """Organizations, keys and usage, and the sums that settlement keeps."""
    site.query(
        "CREATE TABLE bench_key (organization int, number int, keys int, key_id bigint, organization_id bigint, "
        "account_id bigint)"
    )
    for number in range(1 + SMALL):
        made = site.clerk.organization(name=f"bench {number}", credit_nanos=10**16)
        keys = [made["key_id"]]
        keys += [site.clerk.issue_key(organization_id=made["id"])["key_id"] for _ in range(3 if number else 19)]
        for position, key_id in enumerate(keys):
            row = (number, position, len(keys), key_id, made["id"], made["account_id"])
            site.query("INSERT INTO bench_key VALUES (%s, %s, %s, %s, %s, %s)", *row)
    site.query(_PARTITIONS)
    for name, statement in (
        ("records", _RECORDS.replace("%(rows)s", str(rows)).replace("%(days)s", str(DAYS)).replace("%(small)s", "4")),
        ("rollups", _rollups()),
        ("slices", import_module("billing.migrations.0032_slice_past_usage").CATCH_UP),
        ("statistics", "ANALYZE"),
    ):
        started = time.perf_counter()
        site.query(statement)
        say(f"{name}: {time.perf_counter() - started:.0f} s")
    site.query("DROP TABLE bench_key")


def _rollups() -> str:
    columns = f"{ROLLUP_KEY}, {', '.join(FIGURES)}"
    return f"INSERT INTO billing_usagerollup ({columns}) SELECT {columns} FROM ({ROLLED} GROUP BY 1, 2, 3, 4, 5, 6) s"


def run(rows: int) -> dict[str, Any]:
    with Installation() as site:
        site.manage("collectstatic", "--noinput", "--verbosity", "0")
        fill(site, rows)
        done = subprocess.run(
            [sys.executable, "-m", "bench.reports_pages"],
            cwd=ROOT,
            env=site.environment(LOG_LEVEL="error", DEFAULT_RPM="0"),
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise SystemExit(done.stderr[-3000:])
        return {"rows": rows, "limit_ms": LIMIT_MS, "ms": json.loads(done.stdout.splitlines()[-1])}


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.reports", description="Measure the usage pages.")
    parser.add_argument("--rows", type=int, default=ROWS)
    report = run(parser.parse_args().rows)
    print(json.dumps(report, indent=2))
    if slow := {name: ms for name, ms in report["ms"].items() if ms > LIMIT_MS}:
        raise SystemExit(f"slower than {LIMIT_MS} ms: {slow}")


if __name__ == "__main__":
    main()
