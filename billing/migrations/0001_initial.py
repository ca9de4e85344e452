import django.contrib.postgres.fields
import django.db.models.deletion
import django.db.models.functions.datetime
from django.conf import settings
from django.db import migrations, models

# PostgreSQL must partition it, so Django cannot make it. The request id is a UUIDv7: its order is the order of time,
# and the primary key stays unique over all partitions.
USAGE_RECORD = """
CREATE TABLE billing_usagerecord (
    request_id uuid NOT NULL,
    account_id bigint NOT NULL,
    organization_id bigint NOT NULL,
    key_id bigint,
    cost_nanos bigint NOT NULL,
    upstream_cost_nanos bigint,
    hold_nanos bigint NOT NULL DEFAULT 0,
    input_tokens bigint NOT NULL DEFAULT 0,
    cached_tokens bigint NOT NULL DEFAULT 0,
    cache_write_tokens bigint NOT NULL DEFAULT 0,
    output_tokens bigint NOT NULL DEFAULT 0,
    reasoning_tokens bigint NOT NULL DEFAULT 0,
    audio_input_tokens bigint NOT NULL DEFAULT 0,
    audio_output_tokens bigint NOT NULL DEFAULT 0,
    image_input_tokens bigint NOT NULL DEFAULT 0,
    image_output_tokens bigint NOT NULL DEFAULT 0,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    settled_at timestamptz,
    transfer_id bigint,
    price_version integer NOT NULL DEFAULT 0,
    status_code integer NOT NULL DEFAULT 0,
    latency_ms integer NOT NULL DEFAULT 0,
    ttft_ms integer,
    stream boolean NOT NULL DEFAULT false,
    estimated boolean NOT NULL DEFAULT false,
    model text NOT NULL,
    endpoint text NOT NULL,
    outcome text NOT NULL,
    provider text NOT NULL DEFAULT '',
    deployment text NOT NULL DEFAULT '',
    end_user text NOT NULL DEFAULT '',
    run_id text NOT NULL DEFAULT '',
    service_tier text NOT NULL DEFAULT '',
    error_code text NOT NULL DEFAULT '',
    upstream_request_id text NOT NULL DEFAULT '',
    budget_ids bigint[],
    units jsonb NOT NULL DEFAULT '{}',
    usage jsonb,
    attempts jsonb NOT NULL DEFAULT '[]',
    CONSTRAINT usage_record_pkey PRIMARY KEY (request_id),
    CONSTRAINT usage_cost_not_negative CHECK (cost_nanos >= 0)
) PARTITION BY RANGE (request_id);
CREATE INDEX usage_unsettled ON billing_usagerecord (account_id) INCLUDE (cost_nanos) WHERE settled_at IS NULL;
CREATE INDEX usage_by_organization ON billing_usagerecord (organization_id, request_id DESC);
CREATE INDEX usage_by_key ON billing_usagerecord (key_id, request_id DESC);
CREATE TABLE billing_usagerecord_default PARTITION OF billing_usagerecord DEFAULT;
"""


class Migration(migrations.Migration):
    initial = True

    dependencies = [
        ("accounts", "0001_initial"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.CreateModel(
            name="DeadLetter",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("kind", models.CharField(max_length=20)),
                ("request_id", models.UUIDField(db_index=True)),
                ("payload", models.JSONField()),
                ("error", models.TextField()),
                ("created_at", models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
                ("resolved_at", models.DateTimeField(blank=True, null=True)),
            ],
        ),
        migrations.CreateModel(
            name="Worker",
            fields=[
                ("id", models.UUIDField(primary_key=True, serialize=False)),
                ("seen_at", models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
                ("stopped_at", models.DateTimeField(blank=True, null=True)),
            ],
        ),
        migrations.CreateModel(
            name="Account",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                (
                    "kind",
                    models.CharField(
                        choices=[
                            ("customer", "Customer"),
                            ("revenue", "Revenue"),
                            ("stripe_clearing", "Stripe Clearing"),
                            ("promotions", "Promotions"),
                            ("breakage", "Breakage"),
                            ("disputes", "Disputes"),
                            ("adjustments", "Adjustments"),
                        ],
                        max_length=20,
                    ),
                ),
                ("posted", models.BigIntegerField(db_default=0, default=0)),
                ("unsettled", models.BigIntegerField(db_default=0, default=0)),
                ("held", models.BigIntegerField(db_default=0, default=0)),
                ("credit_limit", models.BigIntegerField(db_default=0, default=0)),
                ("version", models.BigIntegerField(db_default=0, default=0)),
                (
                    "status",
                    models.SmallIntegerField(
                        choices=[(0, "Open"), (1, "Frozen"), (2, "Closing"), (3, "Closed")], db_default=0, default=0
                    ),
                ),
                ("frozen_reason", models.TextField(blank=True, null=True)),
                ("overdrawn_reason", models.TextField(blank=True, null=True)),
                (
                    "organization",
                    models.ForeignKey(
                        blank=True,
                        db_index=False,
                        null=True,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="accounts",
                        to="accounts.organization",
                    ),
                ),
            ],
        ),
        migrations.CreateModel(
            name="Budget",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                (
                    "scope",
                    models.CharField(
                        choices=[
                            ("organization", "Organization"),
                            ("key", "Key"),
                            ("end_user", "End User"),
                            ("run", "Run"),
                        ],
                        max_length=12,
                    ),
                ),
                ("end_user", models.TextField(blank=True, db_default="", default="")),
                ("run_id", models.TextField(blank=True, db_default="", default="")),
                (
                    "period",
                    models.CharField(choices=[("day", "Day"), ("month", "Month"), ("total", "Total")], max_length=5),
                ),
                ("cost_cap_nanos", models.BigIntegerField(blank=True, null=True)),
                ("token_cap", models.BigIntegerField(blank=True, null=True)),
                (
                    "period_started_at",
                    models.DateTimeField(db_default=django.db.models.functions.datetime.Now(), editable=False),
                ),
                ("used_cost_nanos", models.BigIntegerField(db_default=0, editable=False)),
                ("used_tokens", models.BigIntegerField(db_default=0, editable=False)),
                ("held_cost_nanos", models.BigIntegerField(db_default=0, editable=False)),
                ("held_tokens", models.BigIntegerField(db_default=0, editable=False)),
                ("carried_cost_nanos", models.BigIntegerField(db_default=0, editable=False)),
                ("carried_tokens", models.BigIntegerField(db_default=0, editable=False)),
                (
                    "created_at",
                    models.DateTimeField(db_default=django.db.models.functions.datetime.Now(), editable=False),
                ),
                (
                    "key",
                    models.ForeignKey(
                        blank=True,
                        null=True,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="budgets",
                        to="accounts.apikey",
                    ),
                ),
                (
                    "organization",
                    models.ForeignKey(
                        db_index=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="budgets",
                        to="accounts.organization",
                    ),
                ),
            ],
        ),
        migrations.CreateModel(
            name="Hold",
            fields=[
                ("request_id", models.UUIDField(primary_key=True, serialize=False)),
                ("amount", models.BigIntegerField()),
                ("tokens", models.BigIntegerField(db_default=0)),
                (
                    "budget_ids",
                    django.contrib.postgres.fields.ArrayField(
                        base_field=models.BigIntegerField(), blank=True, null=True
                    ),
                ),
                ("worker", models.UUIDField()),
                ("progress", models.BigIntegerField(db_default=0)),
                ("extended_seq", models.BigIntegerField(db_default=0)),
                ("model", models.TextField()),
                ("endpoint", models.TextField()),
                ("deployment", models.TextField(db_default="")),
                ("end_user", models.TextField(db_default="")),
                ("run_id", models.TextField(db_default="")),
                ("price_version", models.IntegerField(db_default=0)),
                ("stream", models.BooleanField(db_default=False)),
                ("created_at", models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
                (
                    "account",
                    models.ForeignKey(
                        db_constraint=False,
                        db_index=False,
                        on_delete=django.db.models.deletion.DO_NOTHING,
                        related_name="holds",
                        to="billing.account",
                    ),
                ),
                (
                    "key",
                    models.ForeignKey(
                        db_constraint=False,
                        db_index=False,
                        on_delete=django.db.models.deletion.DO_NOTHING,
                        related_name="holds",
                        to="accounts.apikey",
                    ),
                ),
                (
                    "organization",
                    models.ForeignKey(
                        db_constraint=False,
                        db_index=False,
                        on_delete=django.db.models.deletion.DO_NOTHING,
                        related_name="holds",
                        to="accounts.organization",
                    ),
                ),
            ],
        ),
        migrations.CreateModel(
            name="IdempotencyKey",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("key", models.TextField()),
                ("body_sha", models.BinaryField()),
                ("request_id", models.UUIDField(unique=True)),
                ("worker", models.UUIDField()),
                (
                    "state",
                    models.CharField(
                        choices=[("running", "Running"), ("done", "Done"), ("lost", "Lost")],
                        db_default="running",
                        max_length=8,
                    ),
                ),
                ("response", models.BinaryField(null=True)),
                (
                    "created_at",
                    models.DateTimeField(db_default=django.db.models.functions.datetime.Now(), db_index=True),
                ),
                (
                    "organization",
                    models.ForeignKey(
                        db_constraint=False,
                        db_index=False,
                        on_delete=django.db.models.deletion.DO_NOTHING,
                        related_name="idempotency_keys",
                        to="accounts.organization",
                    ),
                ),
            ],
        ),
        migrations.CreateModel(
            name="Transfer",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("amount", models.BigIntegerField()),
                (
                    "kind",
                    models.CharField(
                        choices=[
                            ("usage", "Usage"),
                            ("grant", "Grant"),
                            ("purchase", "Purchase"),
                            ("refund", "Refund"),
                            ("dispute", "Dispute"),
                            ("expiry", "Expiry"),
                            ("adjustment", "Adjustment"),
                            ("move", "Move"),
                        ],
                        max_length=20,
                    ),
                ),
                ("idempotency_key", models.CharField(max_length=255, unique=True)),
                ("group", models.UUIDField(blank=True, db_index=True, null=True)),
                ("memo", models.TextField(blank=True, db_default="", default="")),
                ("created_at", models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
                (
                    "created_by",
                    models.ForeignKey(
                        blank=True,
                        db_index=False,
                        null=True,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="+",
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
                (
                    "credit",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT, related_name="credits", to="billing.account"
                    ),
                ),
                (
                    "debit",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT, related_name="debits", to="billing.account"
                    ),
                ),
            ],
        ),
        migrations.CreateModel(
            name="UsageRollup",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("hour", models.DateTimeField()),
                ("end_user", models.TextField()),
                ("model", models.TextField()),
                ("endpoint", models.TextField()),
                ("requests", models.BigIntegerField(db_default=0)),
                ("errors", models.BigIntegerField(db_default=0)),
                ("input_tokens", models.BigIntegerField(db_default=0)),
                ("cached_tokens", models.BigIntegerField(db_default=0)),
                ("cache_write_tokens", models.BigIntegerField(db_default=0)),
                ("output_tokens", models.BigIntegerField(db_default=0)),
                ("reasoning_tokens", models.BigIntegerField(db_default=0)),
                ("audio_input_tokens", models.BigIntegerField(db_default=0)),
                ("audio_output_tokens", models.BigIntegerField(db_default=0)),
                ("image_input_tokens", models.BigIntegerField(db_default=0)),
                ("image_output_tokens", models.BigIntegerField(db_default=0)),
                ("cost_nanos", models.BigIntegerField(db_default=0)),
                ("upstream_cost_nanos", models.BigIntegerField(db_default=0)),
                ("latency_ms_sum", models.BigIntegerField(db_default=0)),
                ("ttft_ms_sum", models.BigIntegerField(db_default=0)),
                ("ttft_count", models.BigIntegerField(db_default=0)),
                (
                    "key",
                    models.ForeignKey(
                        db_constraint=False,
                        db_index=False,
                        null=True,
                        on_delete=django.db.models.deletion.DO_NOTHING,
                        related_name="usage_rollups",
                        to="accounts.apikey",
                    ),
                ),
                (
                    "organization",
                    models.ForeignKey(
                        db_constraint=False,
                        db_index=False,
                        on_delete=django.db.models.deletion.DO_NOTHING,
                        related_name="usage_rollups",
                        to="accounts.organization",
                    ),
                ),
            ],
        ),
        migrations.AddConstraint(
            model_name="account",
            constraint=models.UniqueConstraint(fields=("organization", "kind"), name="account_once"),
        ),
        migrations.AddConstraint(
            model_name="account",
            constraint=models.UniqueConstraint(
                condition=models.Q(("organization", None)), fields=("kind",), name="account_house_once"
            ),
        ),
        migrations.AddConstraint(
            model_name="account",
            constraint=models.CheckConstraint(
                condition=models.Q(("unsettled__gte", 0)), name="account_unsettled_not_negative"
            ),
        ),
        migrations.AddConstraint(
            model_name="account",
            constraint=models.CheckConstraint(condition=models.Q(("held__gte", 0)), name="account_held_not_negative"),
        ),
        migrations.AddConstraint(
            model_name="account",
            constraint=models.CheckConstraint(
                condition=models.Q(("credit_limit__gte", 0)), name="account_limit_not_negative"
            ),
        ),
        migrations.AddConstraint(
            model_name="account",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    models.Q(("kind", "customer"), ("organization__isnull", False)),
                    models.Q(models.Q(("kind", "customer"), _negated=True), ("organization", None)),
                    _connector="OR",
                ),
                name="account_customer_has_organization",
            ),
        ),
        migrations.AddConstraint(
            model_name="budget",
            constraint=models.UniqueConstraint(
                fields=("organization", "scope", "key", "end_user", "run_id", "period"),
                name="budget_once",
                nulls_distinct=False,
            ),
        ),
        migrations.AddConstraint(
            model_name="budget",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    models.Q(("end_user", ""), ("key", None), ("run_id", ""), ("scope", "organization")),
                    models.Q(("end_user", ""), ("key__isnull", False), ("run_id", ""), ("scope", "key")),
                    models.Q(
                        ("key", None), ("run_id", ""), ("scope", "end_user"), models.Q(("end_user", ""), _negated=True)
                    ),
                    models.Q(
                        ("end_user", ""), ("key", None), ("scope", "run"), models.Q(("run_id", ""), _negated=True)
                    ),
                    _connector="OR",
                ),
                name="budget_scope_names_subject",
            ),
        ),
        migrations.AddConstraint(
            model_name="budget",
            constraint=models.CheckConstraint(
                condition=models.Q(("cost_cap_nanos__gte", 0), ("cost_cap_nanos", None), _connector="OR"),
                name="budget_cost_cap_not_negative",
            ),
        ),
        migrations.AddConstraint(
            model_name="budget",
            constraint=models.CheckConstraint(
                condition=models.Q(("token_cap__gte", 0), ("token_cap", None), _connector="OR"),
                name="budget_token_cap_not_negative",
            ),
        ),
        migrations.AddConstraint(
            model_name="budget",
            constraint=models.CheckConstraint(
                condition=models.Q(("held_cost_nanos__gte", 0), ("held_tokens__gte", 0)),
                name="budget_held_not_negative",
            ),
        ),
        migrations.AddConstraint(
            model_name="hold",
            constraint=models.CheckConstraint(condition=models.Q(("amount__gt", 0)), name="hold_amount_positive"),
        ),
        migrations.AddConstraint(
            model_name="hold",
            constraint=models.CheckConstraint(condition=models.Q(("tokens__gte", 0)), name="hold_tokens_not_negative"),
        ),
        migrations.AddConstraint(
            model_name="idempotencykey",
            constraint=models.UniqueConstraint(fields=("organization", "key"), name="idempotency_key_once"),
        ),
        migrations.AddConstraint(
            model_name="transfer",
            constraint=models.CheckConstraint(condition=models.Q(("amount__gt", 0)), name="transfer_amount_positive"),
        ),
        migrations.AddConstraint(
            model_name="transfer",
            constraint=models.CheckConstraint(
                condition=models.Q(("debit", models.F("credit")), _negated=True), name="transfer_two_accounts"
            ),
        ),
        migrations.AddConstraint(
            model_name="usagerollup",
            constraint=models.UniqueConstraint(
                fields=("organization", "hour", "key", "end_user", "model", "endpoint"),
                name="usage_rollup_once",
                nulls_distinct=False,
            ),
        ),
        migrations.SeparateDatabaseAndState(
            database_operations=[migrations.RunSQL(USAGE_RECORD, "DROP TABLE billing_usagerecord")],
            state_operations=[
                migrations.CreateModel(
                    name="UsageRecord",
                    fields=[
                        ("request_id", models.UUIDField(primary_key=True, serialize=False)),
                        ("cost_nanos", models.BigIntegerField()),
                        ("upstream_cost_nanos", models.BigIntegerField(null=True)),
                        ("hold_nanos", models.BigIntegerField(db_default=0)),
                        ("input_tokens", models.BigIntegerField(db_default=0)),
                        ("cached_tokens", models.BigIntegerField(db_default=0)),
                        ("cache_write_tokens", models.BigIntegerField(db_default=0)),
                        ("output_tokens", models.BigIntegerField(db_default=0)),
                        ("reasoning_tokens", models.BigIntegerField(db_default=0)),
                        ("audio_input_tokens", models.BigIntegerField(db_default=0)),
                        ("audio_output_tokens", models.BigIntegerField(db_default=0)),
                        ("image_input_tokens", models.BigIntegerField(db_default=0)),
                        ("image_output_tokens", models.BigIntegerField(db_default=0)),
                        ("created_at", models.DateTimeField()),
                        ("settled_at", models.DateTimeField(null=True)),
                        ("price_version", models.IntegerField(db_default=0)),
                        ("status_code", models.IntegerField(db_default=0)),
                        ("latency_ms", models.IntegerField(db_default=0)),
                        ("ttft_ms", models.IntegerField(null=True)),
                        ("stream", models.BooleanField(db_default=False)),
                        ("estimated", models.BooleanField(db_default=False)),
                        ("model", models.TextField()),
                        ("endpoint", models.TextField()),
                        ("outcome", models.TextField()),
                        ("provider", models.TextField(db_default="")),
                        ("deployment", models.TextField(db_default="")),
                        ("end_user", models.TextField(db_default="")),
                        ("run_id", models.TextField(db_default="")),
                        ("service_tier", models.TextField(db_default="")),
                        ("error_code", models.TextField(db_default="")),
                        ("upstream_request_id", models.TextField(db_default="")),
                        (
                            "budget_ids",
                            django.contrib.postgres.fields.ArrayField(base_field=models.BigIntegerField(), null=True),
                        ),
                        ("units", models.JSONField(db_default={})),
                        ("usage", models.JSONField(null=True)),
                        ("attempts", models.JSONField(db_default=[])),
                        (
                            "account",
                            models.ForeignKey(
                                db_constraint=False,
                                db_index=False,
                                on_delete=django.db.models.deletion.DO_NOTHING,
                                related_name="usage_records",
                                to="billing.account",
                            ),
                        ),
                        (
                            "key",
                            models.ForeignKey(
                                db_constraint=False,
                                db_index=False,
                                null=True,
                                on_delete=django.db.models.deletion.DO_NOTHING,
                                related_name="usage_records",
                                to="accounts.apikey",
                            ),
                        ),
                        (
                            "organization",
                            models.ForeignKey(
                                db_constraint=False,
                                db_index=False,
                                on_delete=django.db.models.deletion.DO_NOTHING,
                                related_name="usage_records",
                                to="accounts.organization",
                            ),
                        ),
                        (
                            "transfer",
                            models.ForeignKey(
                                db_constraint=False,
                                db_index=False,
                                null=True,
                                on_delete=django.db.models.deletion.DO_NOTHING,
                                related_name="usage_records",
                                to="billing.transfer",
                            ),
                        ),
                    ],
                ),
                migrations.AddIndex(
                    model_name="usagerecord",
                    index=models.Index(
                        condition=models.Q(("settled_at", None)),
                        fields=["account"],
                        include=("cost_nanos",),
                        name="usage_unsettled",
                    ),
                ),
                migrations.AddIndex(
                    model_name="usagerecord",
                    index=models.Index(fields=["organization", "-request_id"], name="usage_by_organization"),
                ),
                migrations.AddIndex(
                    model_name="usagerecord",
                    index=models.Index(fields=["key", "-request_id"], name="usage_by_key"),
                ),
                migrations.AddConstraint(
                    model_name="usagerecord",
                    constraint=models.CheckConstraint(
                        condition=models.Q(("cost_nanos__gte", 0)), name="usage_cost_not_negative"
                    ),
                ),
            ],
        ),
        migrations.RunSQL(
            "ALTER TABLE billing_account SET (fillfactor = 50); ALTER TABLE billing_hold SET (fillfactor = 50);"
            "ALTER TABLE billing_budget SET (fillfactor = 50)",
            migrations.RunSQL.noop,
        ),
    ]
