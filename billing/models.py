"""The books: accounts, transfers, holds, usage records. Budgets are in `budget_models`, prices in `price_models`.

Invariants are kept by PostgreSQL (constraints, triggers and the functions of the migrations), not by `save()`.
Columns that the hot path writes are plain numbers to PostgreSQL: a foreign key would cost a look-up per request.
"""

from datetime import UTC, datetime
from uuid import UUID

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models.functions import Now

from accounts.models import ApiKey, Organization, User


def moment_of(request_id: UUID) -> datetime:
    """When a request id, a UUIDv7, was made, to the millisecond."""
    return datetime.fromtimestamp((request_id.int >> 80) / 1000, UTC)


class AccountKind(models.TextChoices):
    """Whose money: a customer's, or one of the house's own accounts."""

    CUSTOMER = "customer"
    REVENUE = "revenue"
    STRIPE_CLEARING = "stripe_clearing"
    PROMOTIONS = "promotions"
    BREAKAGE = "breakage"
    DISPUTES = "disputes"
    ADJUSTMENTS = "adjustments"


HOUSE_KINDS = [kind for kind in AccountKind if kind is not AccountKind.CUSTOMER]


class Account(models.Model):
    """A balance in nano-dollars. Only the functions and triggers in PostgreSQL move the figures.

    `posted` is credits minus debits of its transfers; `unsettled` the cost of usage not yet transferred; `held` the
    sum of its holds. `version` rises with every change. `overdrawn_reason` says why `available` is below zero.
    """

    class Status(models.IntegerChoices):
        OPEN = 0
        FROZEN = 1
        CLOSING = 2
        CLOSED = 3

    organization = models.ForeignKey(
        Organization, models.PROTECT, null=True, blank=True, related_name="accounts", db_index=False
    )
    kind = models.CharField(max_length=20, choices=AccountKind)
    posted = models.BigIntegerField(default=0, db_default=0)
    unsettled = models.BigIntegerField(default=0, db_default=0)
    held = models.BigIntegerField(default=0, db_default=0)
    credit_limit = models.BigIntegerField(default=0, db_default=0)
    version = models.BigIntegerField(default=0, db_default=0)
    status = models.SmallIntegerField(choices=Status, default=Status.OPEN, db_default=0)
    frozen_reason = models.TextField(null=True, blank=True)
    overdrawn_reason = models.TextField(null=True, blank=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["organization", "kind"], name="account_once"),
            models.UniqueConstraint(fields=["kind"], condition=models.Q(organization=None), name="account_house_once"),
            models.CheckConstraint(condition=models.Q(unsettled__gte=0), name="account_unsettled_not_negative"),
            models.CheckConstraint(condition=models.Q(held__gte=0), name="account_held_not_negative"),
            models.CheckConstraint(condition=models.Q(credit_limit__gte=0), name="account_limit_not_negative"),
            models.CheckConstraint(
                condition=models.Q(kind="customer", organization__isnull=False)
                | (~models.Q(kind="customer") & models.Q(organization=None)),
                name="account_customer_has_organization",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.organization_id or ''}".strip()

    @property
    def available(self) -> int:
        """What a new hold may take."""
        return self.posted + self.credit_limit - self.unsettled - self.held


class Transfer(models.Model):
    """One double entry: `amount` leaves `debit` and arrives at `credit`. Append-only; a trigger moves the balances."""

    class Kind(models.TextChoices):
        USAGE = "usage"
        GRANT = "grant"
        PURCHASE = "purchase"
        REFUND = "refund"
        DISPUTE = "dispute"
        EXPIRY = "expiry"
        ADJUSTMENT = "adjustment"
        MOVE = "move"
        BONUS = "bonus"
        PROMOTION = "promotion"

    debit = models.ForeignKey(Account, models.PROTECT, related_name="debits")
    credit = models.ForeignKey(Account, models.PROTECT, related_name="credits")
    amount = models.BigIntegerField()
    kind = models.CharField(max_length=20, choices=Kind)
    idempotency_key = models.CharField(max_length=255, unique=True)
    group = models.UUIDField(null=True, blank=True, db_index=True)
    memo = models.TextField(default="", blank=True, db_default="")
    created_at = models.DateTimeField(db_default=Now())
    created_by = models.ForeignKey(User, models.PROTECT, null=True, blank=True, related_name="+", db_index=False)

    class Meta:
        constraints = [
            models.CheckConstraint(condition=models.Q(amount__gt=0), name="transfer_amount_positive"),
            models.CheckConstraint(condition=~models.Q(debit=models.F("credit")), name="transfer_two_accounts"),
        ]

    def __str__(self) -> str:
        return f"{self.kind} of {self.amount}: {self.debit_id} to {self.credit_id}"


class Hold(models.Model):
    """Credit set aside for one request in flight. Made by `billing_admit`, ended only by `billing_settle`."""

    request_id = models.UUIDField(primary_key=True)
    account = models.ForeignKey(Account, models.DO_NOTHING, db_constraint=False, db_index=False, related_name="holds")
    organization = models.ForeignKey(
        Organization, models.DO_NOTHING, db_constraint=False, db_index=False, related_name="holds"
    )
    key = models.ForeignKey(ApiKey, models.DO_NOTHING, db_constraint=False, db_index=False, related_name="holds")
    amount = models.BigIntegerField()
    tokens = models.BigIntegerField(db_default=0)
    budget_ids = ArrayField(models.BigIntegerField(), null=True, blank=True)
    worker = models.UUIDField()
    progress = models.BigIntegerField(db_default=0)
    extended_seq = models.BigIntegerField(db_default=0)  # the last extension applied: a retry does not add again
    model = models.TextField()
    endpoint = models.TextField()
    deployment = models.TextField(db_default="")
    end_user = models.TextField(db_default="")
    run_id = models.TextField(db_default="")
    price_version = models.IntegerField(db_default=0)
    stream = models.BooleanField(db_default=False)
    created_at = models.DateTimeField(db_default=Now())

    class Meta:
        constraints = [
            models.CheckConstraint(condition=models.Q(amount__gt=0), name="hold_amount_positive"),
            models.CheckConstraint(condition=models.Q(tokens__gte=0), name="hold_tokens_not_negative"),
        ]

    def __str__(self) -> str:
        return f"{self.request_id}: {self.amount}"


class UsageRecord(models.Model):
    """What one request used and cost. Append-only but for `settled_at` and `transfer_id`, set once by settlement.

    Partitioned by month of the request id, a UUIDv7. `input_tokens` and the other kinds are disjoint or not exactly as
    `billing.pricing.Usage` says. `budget_ids` are the budgets that counted it.
    """

    request_id = models.UUIDField(primary_key=True)
    account = models.ForeignKey(
        Account, models.DO_NOTHING, db_constraint=False, db_index=False, related_name="usage_records"
    )
    organization = models.ForeignKey(
        Organization, models.DO_NOTHING, db_constraint=False, db_index=False, related_name="usage_records"
    )
    key = models.ForeignKey(
        ApiKey, models.DO_NOTHING, null=True, db_constraint=False, db_index=False, related_name="usage_records"
    )
    cost_nanos = models.BigIntegerField()
    upstream_cost_nanos = models.BigIntegerField(null=True)
    hold_nanos = models.BigIntegerField(db_default=0)
    input_tokens = models.BigIntegerField(db_default=0)
    cached_tokens = models.BigIntegerField(db_default=0)
    cache_write_tokens = models.BigIntegerField(db_default=0)
    output_tokens = models.BigIntegerField(db_default=0)
    reasoning_tokens = models.BigIntegerField(db_default=0)
    audio_input_tokens = models.BigIntegerField(db_default=0)
    audio_output_tokens = models.BigIntegerField(db_default=0)
    image_input_tokens = models.BigIntegerField(db_default=0)
    image_output_tokens = models.BigIntegerField(db_default=0)
    created_at = models.DateTimeField()
    settled_at = models.DateTimeField(null=True)
    transfer = models.ForeignKey(
        Transfer, models.DO_NOTHING, null=True, db_constraint=False, db_index=False, related_name="usage_records"
    )
    price_version = models.IntegerField(db_default=0)
    status_code = models.IntegerField(db_default=0)
    latency_ms = models.IntegerField(db_default=0)
    ttft_ms = models.IntegerField(null=True)
    stream = models.BooleanField(db_default=False)
    estimated = models.BooleanField(db_default=False)
    model = models.TextField()
    endpoint = models.TextField()
    outcome = models.TextField()
    provider = models.TextField(db_default="")
    deployment = models.TextField(db_default="")
    end_user = models.TextField(db_default="")
    run_id = models.TextField(db_default="")
    org_label = models.TextField(db_default="")  # `x-org-id`: the tenant's own word, without a meaning here
    service_tier = models.TextField(db_default="")
    error_code = models.TextField(db_default="")
    upstream_request_id = models.TextField(db_default="")
    budget_ids = ArrayField(models.BigIntegerField(), null=True)
    units = models.JSONField(db_default={})
    usage = models.JSONField(null=True)
    attempts = models.JSONField(db_default=[])

    class Meta:
        indexes = [
            models.Index(
                fields=["account"],
                include=["cost_nanos"],
                condition=models.Q(settled_at=None),
                name="usage_unsettled",
            ),
            models.Index(fields=["organization", "-request_id"], name="usage_by_organization"),
            models.Index(fields=["key", "-request_id"], name="usage_by_key"),
        ]
        constraints = [
            models.CheckConstraint(condition=models.Q(cost_nanos__gte=0), name="usage_cost_not_negative"),
        ]

    def __str__(self) -> str:
        return f"{self.request_id}: {self.cost_nanos}"

    @property
    def started_at(self) -> datetime:
        """When the request arrived; `created_at` is when it was charged."""
        return moment_of(self.request_id)


class Worker(models.Model):
    """A process with a teller. Seen every 5 s; `stopped_at` is set by a graceful end. Times are PostgreSQL's."""

    id = models.UUIDField(primary_key=True)
    seen_at = models.DateTimeField(db_default=Now())
    stopped_at = models.DateTimeField(null=True, blank=True)

    def __str__(self) -> str:
        return str(self.id)


class IdempotencyKey(models.Model):
    """An `Idempotency-Key` of a client and the answer of the request that claimed it, for 24 hours."""

    class State(models.TextChoices):
        RUNNING = "running"
        DONE = "done"
        LOST = "lost"  # charged, but the answer was not kept

    organization = models.ForeignKey(
        Organization, models.DO_NOTHING, db_constraint=False, db_index=False, related_name="idempotency_keys"
    )
    key = models.TextField()
    body_sha = models.BinaryField()
    request_id = models.UUIDField(unique=True)
    worker = models.UUIDField()
    state = models.CharField(max_length=8, choices=State, db_default="running")
    response = models.BinaryField(null=True)
    created_at = models.DateTimeField(db_default=Now(), db_index=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["organization", "key"], name="idempotency_key_once")]

    def __str__(self) -> str:
        return f"{self.request_id} ({self.state})"


class DeadLetter(models.Model):
    """A row that PostgreSQL refused, for people to look at. Its hold, if any, is kept. No prompt, no answer in it."""

    kind = models.CharField(max_length=20)
    request_id = models.UUIDField(db_index=True)
    payload = models.JSONField()
    error = models.TextField()
    created_at = models.DateTimeField(db_default=Now())
    resolved_at = models.DateTimeField(null=True, blank=True)

    def __str__(self) -> str:
        return f"{self.kind} {self.request_id}"


class UsageRollup(models.Model):
    """The settled usage of one hour (UTC), for reports."""

    hour = models.DateTimeField()
    organization = models.ForeignKey(
        Organization, models.DO_NOTHING, db_constraint=False, db_index=False, related_name="usage_rollups"
    )
    key = models.ForeignKey(
        ApiKey, models.DO_NOTHING, null=True, db_constraint=False, db_index=False, related_name="usage_rollups"
    )
    end_user = models.TextField()
    model = models.TextField()
    endpoint = models.TextField()
    requests = models.BigIntegerField(db_default=0)
    errors = models.BigIntegerField(db_default=0)
    input_tokens = models.BigIntegerField(db_default=0)
    cached_tokens = models.BigIntegerField(db_default=0)
    cache_write_tokens = models.BigIntegerField(db_default=0)
    output_tokens = models.BigIntegerField(db_default=0)
    reasoning_tokens = models.BigIntegerField(db_default=0)
    audio_input_tokens = models.BigIntegerField(db_default=0)
    audio_output_tokens = models.BigIntegerField(db_default=0)
    image_input_tokens = models.BigIntegerField(db_default=0)
    image_output_tokens = models.BigIntegerField(db_default=0)
    cost_nanos = models.BigIntegerField(db_default=0)
    upstream_cost_nanos = models.BigIntegerField(db_default=0)
    latency_ms_sum = models.BigIntegerField(db_default=0)
    ttft_ms_sum = models.BigIntegerField(db_default=0)
    ttft_count = models.BigIntegerField(db_default=0)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["organization", "hour", "key", "end_user", "model", "endpoint"],
                name="usage_rollup_once",
                nulls_distinct=False,
            ),
        ]
        indexes = [
            models.Index(
                fields=["organization", "end_user", "hour"],
                condition=~models.Q(end_user=""),
                name="usage_rollup_by_end_user",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.hour:%Y-%m-%d %H} {self.organization_id} {self.model}"


# Django finds an app's models in its `models` module.
from billing.budget_models import Budget, BudgetWarning, EndUserBlock, EndUserDefault  # noqa: E402, F401
from billing.price_models import Price, PriceList  # noqa: E402, F401
from billing.purchase_models import (  # noqa: E402, F401
    BillingProfile,
    Dispute,
    Lot,
    LotUse,
    Order,
    Pack,
    Plan,
    RedeemCode,
    StripeEvent,
    StripeObject,
    Subscription,
)
from billing.resale_models import ProviderReport, Rerating, ReratingLine, Resale  # noqa: E402, F401
from billing.saved_view_models import SavedView  # noqa: E402, F401
from billing.slice_models import UsageSlice  # noqa: E402, F401
from billing.transcript_models import Transcript, TranscriptSettings  # noqa: E402, F401
