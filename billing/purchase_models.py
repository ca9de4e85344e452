"""What is sold and what was bought: packs, plans, orders, Stripe's events and disputes; and lots, as credit comes."""

import uuid

from django.db import models
from django.db.models.functions import Now

from accounts.models import Organization, User
from billing.models import Account, Transfer
from billing.money import NANOS_PER_CREDIT


class Pack(models.Model):
    """Credit that can be bought at once. `bonus_credits` come on top of `credits`; the price is in cents."""

    slug = models.SlugField(max_length=40, unique=True)
    name = models.CharField(max_length=60)
    price_cents = models.PositiveIntegerField()
    currency = models.CharField(max_length=3, default="usd")
    credits = models.PositiveIntegerField()
    bonus_credits = models.PositiveIntegerField(default=0)
    is_active = models.BooleanField(default=True)
    is_popular = models.BooleanField(default=False)
    position = models.PositiveSmallIntegerField(default=0)

    class Meta:
        ordering = ["position", "price_cents"]
        constraints = [
            models.CheckConstraint(condition=models.Q(price_cents__gt=0), name="pack_price_positive"),
            models.CheckConstraint(condition=models.Q(credits__gt=0), name="pack_credits_positive"),
        ]

    def __str__(self) -> str:
        return self.name

    @property
    def total_credits(self) -> int:
        return self.credits + self.bonus_credits


class Plan(models.Model):
    """Credit that comes every month. `credit_days` is how long a month's credit lasts; None: it does not expire."""

    slug = models.SlugField(max_length=40, unique=True)
    name = models.CharField(max_length=60)
    price_cents = models.PositiveIntegerField()
    currency = models.CharField(max_length=3, default="usd")
    monthly_credits = models.PositiveIntegerField()
    credit_days = models.PositiveIntegerField(null=True, blank=True)
    trial_days = models.PositiveSmallIntegerField(default=0)
    is_active = models.BooleanField(default=True)
    position = models.PositiveSmallIntegerField(default=0)

    class Meta:
        ordering = ["position", "price_cents"]
        constraints = [
            models.CheckConstraint(condition=models.Q(price_cents__gt=0), name="plan_price_positive"),
            models.CheckConstraint(condition=models.Q(monthly_credits__gt=0), name="plan_credits_positive"),
        ]

    def __str__(self) -> str:
        return self.name


class BillingProfile(models.Model):
    """An organization as Stripe knows it, when it wants to hear of its balance, and when to buy by itself.

    With `top_up_pack`, that pack is bought with the saved card below `top_up_below_nanos`, up to
    `top_up_cap_cents` in a calendar month (UTC); `top_up_problem` says why it was switched off.
    """

    organization = models.OneToOneField(Organization, models.CASCADE, related_name="billing_profile")
    stripe_customer_id = models.CharField(max_length=255, blank=True, db_index=True)
    low_balance_nanos = models.BigIntegerField(null=True, blank=True)
    is_low = models.BooleanField(default=False)
    top_up_pack = models.ForeignKey(Pack, models.SET_NULL, null=True, blank=True, related_name="+")
    top_up_below_nanos = models.BigIntegerField(default=0)
    top_up_cap_cents = models.PositiveIntegerField(default=0)
    top_up_problem = models.CharField(max_length=200, blank=True)
    is_reseller = models.BooleanField(default=False)
    price_list = models.ForeignKey("billing.PriceList", models.PROTECT, null=True, blank=True, related_name="profiles")

    def __str__(self) -> str:
        return str(self.organization_id)


class Subscription(models.Model):
    """A plan that an organization pays for month by month, as Stripe says it stands.

    `amount_cents` and `monthly_credits` are the plan's when it began: a later change of the plan is for others.
    `told_at` is when Stripe made the newest event that was applied; an older one changes nothing.
    """

    class Status(models.TextChoices):
        INCOMPLETE = "incomplete", "Not paid yet"
        TRIALING = "trialing", "On trial"
        ACTIVE = "active", "Active"
        PAST_DUE = "past_due", "Past due"
        UNPAID = "unpaid", "Unpaid"
        CANCELED = "canceled", "Canceled"

    LIVE = (Status.TRIALING, Status.ACTIVE, Status.PAST_DUE, Status.UNPAID)

    public_id = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    organization = models.ForeignKey(Organization, models.PROTECT, related_name="subscriptions")
    user = models.ForeignKey(User, models.SET_NULL, null=True, blank=True, related_name="+")
    plan = models.ForeignKey(Plan, models.PROTECT, related_name="subscriptions")
    status = models.CharField(max_length=12, choices=Status, default=Status.INCOMPLETE)
    currency = models.CharField(max_length=3)
    amount_cents = models.PositiveIntegerField()
    monthly_credits = models.PositiveIntegerField()
    credit_days = models.PositiveIntegerField(null=True, blank=True)
    stripe_id = models.CharField(max_length=255, null=True, blank=True, unique=True)
    checkout_session_id = models.CharField(max_length=255, null=True, blank=True, unique=True)
    cancel_at_period_end = models.BooleanField(default=False)
    period_ends_at = models.DateTimeField(null=True, blank=True)
    told_at = models.DateTimeField(null=True, blank=True)
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        ordering = ["-pk"]

    def __str__(self) -> str:
        return f"{self.public_id}: {self.status}"


class Order(models.Model):
    """One purchase: a pack, or a month of a plan. Its credit is written once.

    What refunds and disputes take back is kept in `clawed_nanos`. `refunded_cents` only rises by webhooks;
    `disputed_cents` is what is in dispute or lost. `amount_cents` is the price before discounts and taxes,
    `paid_cents` what Stripe collected.
    """

    class Status(models.TextChoices):
        OPEN = "open"
        PAID = "paid"
        CANCELED = "canceled"
        EXPIRED = "expired"

    public_id = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    organization = models.ForeignKey(Organization, models.PROTECT, related_name="orders")
    user = models.ForeignKey(User, models.SET_NULL, null=True, blank=True, related_name="+")
    pack = models.ForeignKey(Pack, models.PROTECT, null=True, blank=True, related_name="orders")
    subscription = models.ForeignKey(Subscription, models.PROTECT, null=True, blank=True, related_name="orders")
    is_automatic = models.BooleanField(default=False)
    status = models.CharField(max_length=10, choices=Status, default=Status.OPEN)
    currency = models.CharField(max_length=3)
    amount_cents = models.PositiveIntegerField()
    paid_cents = models.PositiveIntegerField(default=0)
    refunded_cents = models.PositiveIntegerField(default=0)
    disputed_cents = models.PositiveIntegerField(default=0)
    credits = models.PositiveIntegerField()
    bonus_credits = models.PositiveIntegerField(default=0)
    clawed_nanos = models.BigIntegerField(default=0)
    claws = models.PositiveIntegerField(default=0)
    checkout_session_id = models.CharField(max_length=255, null=True, blank=True, unique=True)
    payment_intent_id = models.CharField(max_length=255, null=True, blank=True, unique=True)
    invoice_id = models.CharField(max_length=255, null=True, blank=True, unique=True)
    receipt_url = models.URLField(max_length=500, blank=True)
    created_at = models.DateTimeField(db_default=Now(), editable=False)
    paid_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["-pk"]
        indexes = [models.Index(fields=["created_at"], condition=models.Q(status="open"), name="order_open")]
        constraints = [
            models.UniqueConstraint(
                fields=["organization"],
                condition=models.Q(status="open", is_automatic=True),
                name="order_one_automatic_at_a_time",
            ),
            models.CheckConstraint(
                condition=models.Q(pack=None) ^ models.Q(subscription=None), name="order_of_a_pack_or_a_plan"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.public_id}: {self.credits + self.bonus_credits} credits"

    @property
    def title(self) -> str:
        """What was bought. Select `pack` and `subscription__plan` with it."""
        if self.pack is not None:
            return f"{self.pack.name} pack"
        return f"{self.subscription.plan.name} plan" if self.subscription is not None else ""

    @property
    def was_taken_back(self) -> bool:
        """Whether some of the payment was refunded, or is in dispute or lost to one."""
        return bool(self.refunded_cents or self.disputed_cents)

    @property
    def is_refunded(self) -> bool:
        """Whether all of the payment was refunded."""
        return 0 < self.paid_cents <= self.refunded_cents

    @property
    def credit_nanos(self) -> int:
        return self.credits * NANOS_PER_CREDIT

    @property
    def bonus_nanos(self) -> int:
        return self.bonus_credits * NANOS_PER_CREDIT


class Dispute(models.Model):
    """A payment that its payer's bank disputes. A decided one never opens again; an appeal may win a lost one."""

    class State(models.IntegerChoices):
        OPEN = 1
        WON = 2
        LOST = 3

    stripe_id = models.CharField(max_length=255, unique=True)
    order = models.ForeignKey(Order, models.PROTECT, related_name="disputes")
    amount_cents = models.PositiveIntegerField()
    state = models.PositiveSmallIntegerField(choices=State, default=State.OPEN)

    def __str__(self) -> str:
        return self.stripe_id


class StripeEvent(models.Model):
    """An event as Stripe signed it, and what came of it: written in the transaction that moved the money."""

    stripe_id = models.CharField(max_length=255, unique=True)
    type = models.CharField(max_length=100)
    payload = models.JSONField()
    outcome = models.CharField(max_length=200, blank=True)
    order = models.ForeignKey(Order, models.PROTECT, null=True, blank=True, related_name="events")
    received_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        ordering = ["-pk"]

    def __str__(self) -> str:
        return f"{self.type} {self.stripe_id}"


class StripeObject(models.Model):
    """An object of Stripe's as the newest event showed it: for people to look at, no verb reads it."""

    stripe_id = models.CharField(max_length=255, unique=True)
    kind = models.CharField(max_length=60)
    data = models.JSONField()
    told_at = models.DateTimeField()

    class Meta:
        ordering = ["-told_at", "-pk"]
        indexes = [models.Index(fields=["kind", "-told_at"], name="stripe_object_by_kind")]

    def __str__(self) -> str:
        return f"{self.kind} {self.stripe_id}"


class Lot(models.Model):
    """Credit that came at once, and what is left of it. What expires soonest burns first, then what was given."""

    class Kind(models.TextChoices):
        PAID = "paid"
        BONUS = "bonus"
        PROMOTIONAL = "promotional"
        PLAN = "plan"
        GOODWILL = "goodwill"

    account = models.ForeignKey(Account, models.PROTECT, related_name="lots")
    transfer = models.OneToOneField(Transfer, models.PROTECT, related_name="lot")
    kind = models.CharField(max_length=12, choices=Kind)
    amount = models.BigIntegerField()
    remaining = models.BigIntegerField()
    expires_at = models.DateTimeField(null=True, blank=True)
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        ordering = ["pk"]
        indexes = [
            models.Index(fields=["account"], condition=models.Q(remaining__gt=0), name="lot_with_rest"),
            models.Index(
                fields=["expires_at"],
                condition=models.Q(remaining__gt=0, expires_at__isnull=False),
                name="lot_that_expires",
            ),
        ]
        constraints = [
            models.CheckConstraint(
                condition=models.Q(remaining__gte=0, remaining__lte=models.F("amount")), name="lot_remaining_in_range"
            )
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.remaining}/{self.amount}"


class LotUse(models.Model):
    """What one transfer took from one lot; without a lot: what it took beyond all of them, until credit covers it."""

    transfer = models.ForeignKey(Transfer, models.PROTECT, related_name="lot_uses")
    account = models.ForeignKey(Account, models.PROTECT, related_name="lot_uses")
    lot = models.ForeignKey(Lot, models.PROTECT, null=True, blank=True, related_name="uses")
    amount = models.BigIntegerField()

    class Meta:
        indexes = [models.Index(fields=["account"], condition=models.Q(lot=None), name="lot_debt")]
        constraints = [models.CheckConstraint(condition=models.Q(amount__gt=0), name="lot_use_positive")]

    def __str__(self) -> str:
        return f"{self.amount} of lot {self.lot_id}"


class RedeemCode(models.Model):
    """A code that gives credit, so many times in all and once for each organization. Kept as its digest."""

    digest = models.CharField(max_length=64, unique=True)
    hint = models.CharField(max_length=12)
    credits = models.PositiveIntegerField()
    max_uses = models.PositiveIntegerField(default=1)
    uses = models.PositiveIntegerField(default=0)
    valid_until = models.DateTimeField(null=True, blank=True)
    credit_days = models.PositiveIntegerField(null=True, blank=True)
    note = models.CharField(max_length=200, blank=True)
    created_by = models.ForeignKey(User, models.SET_NULL, null=True, blank=True, related_name="+")
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        constraints = [
            models.CheckConstraint(condition=models.Q(uses__lte=models.F("max_uses")), name="code_used_up"),
            models.CheckConstraint(condition=models.Q(credits__gt=0), name="code_credits_positive"),
        ]

    def __str__(self) -> str:
        return f"{self.hint}…"
