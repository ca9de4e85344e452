"""What PostgreSQL itself enforces: the past is not changed, transfers move balances, months have partitions."""

from typing import Any

from django.db import migrations

PARTITIONS = """
-- The smallest UUIDv7 of a moment: its 48 bits of milliseconds, then zeros.
CREATE FUNCTION billing_uuid7_floor(moment timestamptz) RETURNS uuid LANGUAGE sql IMMUTABLE STRICT AS $$
    SELECT (lpad(to_hex((extract(epoch FROM moment) * 1000)::bigint), 12, '0') || repeat('0', 20))::uuid
$$;

CREATE FUNCTION billing_refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% on % is refused: the past is not changed', tg_op, tg_table_name
        USING ERRCODE = 'integrity_constraint_violation';
END $$;

-- Makes the partitions of this month, the one before and `months_ahead` after it; returns how many it made. May run
-- twice, and at the same time. A month of which rows already lie in the default partition stays there.
CREATE FUNCTION billing_ensure_partitions(months_ahead int) RETURNS int LANGUAGE plpgsql AS $$
DECLARE
    month timestamp;
    first timestamptz;
    next timestamptz;
    name text;
    made int := 0;
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended('billing.partitions', 0));
    FOR month IN
        SELECT date_trunc('month', now() AT TIME ZONE 'UTC') + make_interval(months => i)
        FROM generate_series(-1, months_ahead) i
    LOOP
        name := 'billing_usagerecord_' || to_char(month, 'YYYY_MM');
        first := month AT TIME ZONE 'UTC';
        next := (month + interval '1 month') AT TIME ZONE 'UTC';
        CONTINUE WHEN to_regclass(name) IS NOT NULL;
        BEGIN
            EXECUTE format('CREATE TABLE %I (LIKE billing_usagerecord INCLUDING DEFAULTS INCLUDING CONSTRAINTS)', name);
            -- Attached, not created in place: that would lock out every insert meanwhile.
            EXECUTE format(
                'ALTER TABLE billing_usagerecord ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)',
                name, billing_uuid7_floor(first), billing_uuid7_floor(next));
            EXECUTE format(
                'CREATE TRIGGER billing_refuse_truncate BEFORE TRUNCATE ON %I EXECUTE FUNCTION billing_refuse()', name);
            made := made + 1;
        EXCEPTION WHEN check_violation THEN
            RAISE WARNING 'the default partition has rows of %, they stay there', name;
        END;
    END LOOP;
    RETURN made;
END $$;
"""

NO_PARTITIONS = """
DROP FUNCTION billing_ensure_partitions(int);
DROP FUNCTION billing_refuse() CASCADE;
DROP FUNCTION billing_uuid7_floor(timestamptz);
"""

_KEPT = (
    "request_id account_id organization_id key_id cost_nanos upstream_cost_nanos hold_nanos input_tokens cached_tokens "
    "cache_write_tokens output_tokens reasoning_tokens audio_input_tokens audio_output_tokens image_input_tokens "
    "image_output_tokens created_at price_version status_code latency_ms ttft_ms stream estimated model endpoint "
    "outcome provider deployment end_user run_id service_tier error_code upstream_request_id budget_ids units usage "
    "attempts"
)


def _row(alias: str) -> str:
    return f"ROW({', '.join(f'{alias}.{name}' for name in _KEPT.split())})"


# The only change that a usage record sees is its settlement, once. The conditions are in WHEN: a legal change costs no
# call.
APPEND_ONLY = f"""
CREATE TRIGGER billing_refuse_change BEFORE UPDATE ON billing_usagerecord FOR EACH ROW
    WHEN (OLD.settled_at IS NOT NULL OR OLD.transfer_id IS NOT NULL OR NEW.settled_at IS NULL
          OR {_row("OLD")} IS DISTINCT FROM {_row("NEW")})
    EXECUTE FUNCTION billing_refuse();
CREATE TRIGGER billing_refuse_delete BEFORE DELETE ON billing_usagerecord FOR EACH ROW EXECUTE FUNCTION billing_refuse();
CREATE TRIGGER billing_refuse_truncate BEFORE TRUNCATE ON billing_usagerecord EXECUTE FUNCTION billing_refuse();
CREATE TRIGGER billing_refuse_truncate BEFORE TRUNCATE ON billing_usagerecord_default EXECUTE FUNCTION billing_refuse();
CREATE TRIGGER billing_refuse_change BEFORE UPDATE OR DELETE ON billing_transfer FOR EACH ROW
    EXECUTE FUNCTION billing_refuse();
CREATE TRIGGER billing_refuse_truncate BEFORE TRUNCATE ON billing_transfer EXECUTE FUNCTION billing_refuse();
"""

NOT_APPEND_ONLY = """
DROP TRIGGER billing_refuse_change ON billing_usagerecord;
DROP TRIGGER billing_refuse_delete ON billing_usagerecord;
DROP TRIGGER billing_refuse_truncate ON billing_usagerecord;
DROP TRIGGER billing_refuse_truncate ON billing_usagerecord_default;
DROP TRIGGER billing_refuse_change ON billing_transfer;
DROP TRIGGER billing_refuse_truncate ON billing_transfer;
"""

# Accounts are locked in the order of their ids, here and everywhere: so nothing can deadlock.
TRANSFERS = """
CREATE FUNCTION billing_apply_transfer() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM 1 FROM billing_account WHERE id IN (NEW.debit_id, NEW.credit_id) ORDER BY id FOR NO KEY UPDATE;
    UPDATE billing_account a SET
        posted = a.posted + d.delta,
        version = a.version + 1,
        overdrawn_reason = CASE
            WHEN a.kind <> 'customer' OR a.posted + d.delta + a.credit_limit - a.unsettled - a.held >= 0 THEN NULL
            -- Settlement lowers `posted` first and `unsettled` right after: it never makes an account poorer.
            WHEN NEW.kind = 'usage' THEN a.overdrawn_reason
            ELSE coalesce(a.overdrawn_reason, NEW.kind) END
    FROM (VALUES (NEW.debit_id, -NEW.amount), (NEW.credit_id, NEW.amount)) AS d (id, delta)
    WHERE a.id = d.id;
    RETURN NULL;
END $$;
CREATE TRIGGER billing_apply_transfer AFTER INSERT ON billing_transfer FOR EACH ROW
    EXECUTE FUNCTION billing_apply_transfer();
"""

NO_TRANSFERS = """
DROP TRIGGER billing_apply_transfer ON billing_transfer;
DROP FUNCTION billing_apply_transfer();
"""


def open_house_accounts(apps: Any, schema_editor: Any) -> None:
    account = apps.get_model("billing", "Account")
    for kind in ("revenue", "stripe_clearing", "promotions", "breakage", "disputes", "adjustments"):
        account.objects.get_or_create(organization=None, kind=kind)


class Migration(migrations.Migration):
    dependencies = [("billing", "0002_price")]

    operations = [
        migrations.RunSQL(PARTITIONS, NO_PARTITIONS),
        migrations.RunSQL(APPEND_ONLY, NOT_APPEND_ONLY),
        migrations.RunSQL("SELECT billing_ensure_partitions(3)", migrations.RunSQL.noop),
        migrations.RunSQL(TRANSFERS, NO_TRANSFERS),
        migrations.RunPython(open_house_accounts, migrations.RunPython.noop),
    ]
