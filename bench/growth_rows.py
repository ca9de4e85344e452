"""An installation as it is after years, written straight into its tables: organizations, keys and usage.

Organizations, accounts and keys have ids from `FIRST` on, so a row needs no look-up: key n belongs to organization
n % organizations. Usage goes into partitions without indexes, which PostgreSQL builds when it attaches them.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import psycopg

from accounts import key_format

FIRST = 1_000_000
DAYS = 80
LIMIT_NANOS = 10**16
PEPPER = "bench-pepper-0123456789-abcdefghijklmnopqrstuvwxyz-ABCDEFGHIJKL"
_TABLES = """
INSERT INTO accounts_organization SELECT (jsonb_populate_record(t, jsonb_build_object(
        'id', {first} + n, 'public_id', gen_random_uuid(), 'name', 'grown ' || n, 'slug', 'grown-' || n))).*
    FROM accounts_organization t CROSS JOIN generate_series(0, {organizations} - 1) n
    WHERE t.id = (SELECT min(id) FROM accounts_organization);
INSERT INTO billing_account (id, organization_id, kind, credit_limit)
    SELECT {first} + n, {first} + n, 'customer', {limit} FROM generate_series(0, {organizations} - 1) n;
CREATE TEMPORARY TABLE bench_secret (number int, prefix text, last_four text, digest text);
"""
_KEYS = """
INSERT INTO bench_secret SELECT n, 'sk-tup-' || lpad(n::text, 12, '0'), right(n::text, 4), md5(n::text) || md5('x' || n)
    FROM generate_series({known}, {keys} - 1) n;
INSERT INTO accounts_apikey SELECT (jsonb_populate_record(t, jsonb_build_object(
        'id', {first} + number, 'organization_id', {first} + number % {organizations}, 'public_id', gen_random_uuid(),
        'prefix', s.prefix, 'last_four', s.last_four, 'digest', s.digest))).*
    FROM accounts_apikey t CROSS JOIN bench_secret s WHERE t.id = (SELECT min(id) FROM accounts_apikey);
"""
_RECORDS = """
INSERT INTO {table} (request_id, account_id, organization_id, key_id, cost_nanos, upstream_cost_nanos, hold_nanos,
    input_tokens, output_tokens, created_at, settled_at, status_code, latency_ms, model, endpoint, outcome, provider,
    deployment, end_user)
SELECT (lpad(to_hex(floor(extract(epoch FROM t.at) * 1000)::bigint), 12, '0') || '7' || substr(md5(n::text), 1, 3)
        || '8' || substr(md5(n::text), 4, 15))::uuid,
    {first} + k.number % {organizations}, {first} + k.number % {organizations}, {first} + k.number, 1000 + n % 5000,
    500, 9000, 100 + n % 900, 50 + n % 400, t.at, t.at, 200, 400, 'bench', '/v1/chat/completions', 'completed',
    'openai-compatible', 'bench-upstream', ''
FROM generate_series(0, {count} - 1) n
CROSS JOIN LATERAL (SELECT '{begins}'::timestamptz + n * ('{ends}'::timestamptz - '{begins}') / {count} AS at) t
CROSS JOIN LATERAL (SELECT (n * 7919::bigint) % {keys} AS number) k
"""
_HASTE = ("fsync = off", "full_page_writes = off", "max_wal_size = '32GB'", "checkpoint_timeout = '1h'")


@dataclass(frozen=True)
class Size:
    """How many of each there are."""

    rows: int
    keys: int
    organizations: int


def fill(superuser_url: str, size: Size, *, known: int) -> list[str]:
    """Write it all, and give the secrets of the first `known` keys. Needs one organization with a key, to copy."""
    secrets = [key_format.generate() for _ in range(min(known, size.keys))]
    with psycopg.connect(superuser_url, autocommit=True) as database:
        for setting in _HASTE:
            database.execute(f"ALTER SYSTEM SET {setting}")  # type: ignore[arg-type]
        database.execute("SELECT pg_reload_conf()")
        database.execute("SET synchronous_commit = off")
        database.execute("SET maintenance_work_mem = '512MB'")
        _people(database, size, secrets)
        for begins, ends in months(datetime.now(UTC), DAYS):
            _month(database, size, begins, ends)
        database.execute("ANALYZE")
        for setting in _HASTE:
            database.execute(f"ALTER SYSTEM RESET {setting.partition(' ')[0]}")  # type: ignore[arg-type]
        database.execute("SELECT pg_reload_conf()")
        database.execute("CHECKPOINT")
    return secrets


def months(now: datetime, days: int) -> list[tuple[datetime, datetime]]:
    """The last `days` cut at the turns of the months, oldest first."""
    found, begins = [], now - timedelta(days=days)
    while begins < now:
        turn = (begins.replace(day=1, hour=0, minute=0, second=0, microsecond=0) + timedelta(days=32)).replace(day=1)
        found.append((begins, min(turn, now)))
        begins = turn
    return found


def _people(database: psycopg.Connection, size: Size, secrets: list[str]) -> None:
    values = {"first": FIRST, "organizations": size.organizations, "keys": size.keys, "limit": LIMIT_NANOS}
    database.execute(_TABLES.format(**values))  # type: ignore[arg-type]
    with database.cursor().copy("COPY bench_secret FROM STDIN") as copy:
        for number, secret in enumerate(secrets):
            digest = key_format.digest_of(secret, PEPPER)
            copy.write_row((number, key_format.public_prefix(secret), secret[-4:], digest))
    database.execute(_KEYS.format(known=len(secrets), **values))  # type: ignore[arg-type]


def _month(database: psycopg.Connection, size: Size, begins: datetime, ends: datetime) -> None:
    """One partition, in the place of the empty one that may be there."""
    table = f"billing_usagerecord_{begins:%Y_%m}"
    first = begins.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    after = (first + timedelta(days=32)).replace(day=1)
    count = round(size.rows * ((ends - begins) / timedelta(days=DAYS)))
    database.execute(f"DROP TABLE IF EXISTS {table}")  # type: ignore[arg-type]
    like = f"CREATE TABLE {table} (LIKE billing_usagerecord INCLUDING DEFAULTS INCLUDING CONSTRAINTS)"
    like += " WITH (autovacuum_enabled = off)"  # else it would begin while requests are measured
    database.execute(like)  # type: ignore[arg-type]
    database.execute(f"ALTER TABLE {table} OWNER TO tuppence")  # type: ignore[arg-type]
    if count:
        values = {"organizations": size.organizations, "keys": size.keys, "begins": begins, "ends": ends}
        database.execute(_RECORDS.format(table=table, first=FIRST, count=count, **values))  # type: ignore[arg-type]
    low, high = (database.execute("SELECT billing_uuid7_floor(%s)", [at]).fetchone() for at in (first, after))
    assert low is not None
    assert high is not None
    attach = f"ALTER TABLE billing_usagerecord ATTACH PARTITION {table} FOR VALUES FROM ('{low[0]}') TO ('{high[0]}')"
    database.execute(attach)  # type: ignore[arg-type]
