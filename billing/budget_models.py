"""Budgets, the defaults for end users, and blocked end users. The functions of admission read and count them."""

from django.db import models
from django.db.models.functions import Now

from accounts.models import ApiKey, Organization, User


class Budget(models.Model):
    """A cap on cost or tokens, or both, for what `scope` names, in each calendar period of the organization's zone.

    `used_*` counts from `period_started_at`; `carried_*` is the part of it used before the budget was made. One that
    `observes` counts and never refuses. One that `follows_default` has the caps of its organization's `EndUserDefault`.
    """

    class Scope(models.TextChoices):
        ORGANIZATION = "organization"
        KEY = "key"
        MEMBER = "member"
        END_USER = "end_user"
        RUN = "run"

    class Period(models.TextChoices):
        DAY = "day"
        MONTH = "month"
        TOTAL = "total"

    organization = models.ForeignKey(Organization, models.CASCADE, related_name="budgets", db_index=False)
    scope = models.CharField(max_length=12, choices=Scope)
    key = models.ForeignKey(ApiKey, models.CASCADE, null=True, blank=True, related_name="budgets")
    member = models.ForeignKey(
        User, models.CASCADE, null=True, blank=True, related_name="budgets", help_text="Whoever made the keys."
    )
    end_user = models.TextField(default="", blank=True, db_default="")
    run_id = models.TextField(default="", blank=True, db_default="")
    period = models.CharField(max_length=5, choices=Period)
    cost_cap_nanos = models.BigIntegerField(null=True, blank=True)
    token_cap = models.BigIntegerField(null=True, blank=True)
    observes = models.BooleanField(default=False, db_default=False)
    follows_default = models.BooleanField(default=False, db_default=False, editable=False)
    period_started_at = models.DateTimeField(db_default=Now(), editable=False)
    used_cost_nanos = models.BigIntegerField(db_default=0, editable=False)
    used_tokens = models.BigIntegerField(db_default=0, editable=False)
    held_cost_nanos = models.BigIntegerField(db_default=0, editable=False)
    held_tokens = models.BigIntegerField(db_default=0, editable=False)
    carried_cost_nanos = models.BigIntegerField(db_default=0, editable=False)
    carried_tokens = models.BigIntegerField(db_default=0, editable=False)
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["organization", "scope", "key", "member", "end_user", "run_id", "period"],
                name="budget_once",
                nulls_distinct=False,
            ),
            models.CheckConstraint(
                condition=models.Q(scope="organization", key=None, member=None, end_user="", run_id="")
                | models.Q(scope="key", key__isnull=False, member=None, end_user="", run_id="")
                | models.Q(scope="member", key=None, member__isnull=False, end_user="", run_id="")
                | (models.Q(scope="end_user", key=None, member=None, run_id="") & ~models.Q(end_user=""))
                | (models.Q(scope="run", key=None, member=None, end_user="") & ~models.Q(run_id="")),
                name="budget_scope_names_subject",
            ),
            models.CheckConstraint(
                condition=models.Q(cost_cap_nanos__gte=0) | models.Q(cost_cap_nanos=None),
                name="budget_cost_cap_not_negative",
            ),
            models.CheckConstraint(
                condition=models.Q(token_cap__gte=0) | models.Q(token_cap=None), name="budget_token_cap_not_negative"
            ),
            models.CheckConstraint(
                condition=models.Q(held_cost_nanos__gte=0, held_tokens__gte=0), name="budget_held_not_negative"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.scope} {self.subject} per {self.period}".replace("  ", " ")

    @property
    def subject(self) -> str:
        """What is capped: the key's or member's id, the end user or the run; empty for the organization."""
        if self.key_id or self.member_id:
            return str(self.key_id or self.member_id)
        return self.end_user or self.run_id


class BudgetWarning(models.Model):
    """That a budget has reached `level` per cent in the period that began at `period_started_at`; told once."""

    budget = models.ForeignKey(Budget, models.CASCADE, related_name="warnings")
    period_started_at = models.DateTimeField()
    level = models.PositiveSmallIntegerField()
    created_at = models.DateTimeField(db_default=Now())

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["budget", "period_started_at", "level"], name="budget_warning_once")
        ]

    def __str__(self) -> str:
        return f"{self.budget_id}: {self.level} %"


class EndUserDefault(models.Model):
    """The caps of every end user of an organization that has none of its own; without one: of the whole installation.

    An organization's row counts in place of the installation's for the same period, also when it has no caps.
    """

    organization = models.ForeignKey(
        Organization, models.CASCADE, null=True, blank=True, related_name="end_user_defaults", db_index=False
    )
    period = models.CharField(max_length=5, choices=Budget.Period)
    cost_cap_nanos = models.BigIntegerField(null=True, blank=True)
    token_cap = models.BigIntegerField(null=True, blank=True)
    observes = models.BooleanField(default=False, db_default=False)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["organization", "period"], name="end_user_default_once", nulls_distinct=False
            ),
            models.CheckConstraint(
                condition=models.Q(cost_cap_nanos__gte=0) | models.Q(cost_cap_nanos=None),
                name="end_user_default_cost_not_negative",
            ),
            models.CheckConstraint(
                condition=models.Q(token_cap__gte=0) | models.Q(token_cap=None),
                name="end_user_default_tokens_not_negative",
            ),
        ]

    def __str__(self) -> str:
        return f"end users of {self.organization_id or 'everybody'} per {self.period}"

    @property
    def is_empty(self) -> bool:
        return self.cost_cap_nanos is None and self.token_cap is None


class EndUserBlock(models.Model):
    """An end user whose requests are refused until `expires_at`; None: until unblocked."""

    organization = models.ForeignKey(Organization, models.CASCADE, related_name="end_user_blocks", db_index=False)
    end_user = models.TextField()
    reason = models.TextField()
    expires_at = models.DateTimeField(null=True, blank=True)
    created_at = models.DateTimeField(db_default=Now())
    created_by = models.ForeignKey(User, models.SET_NULL, null=True, blank=True, related_name="+", db_index=False)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["organization", "end_user"], name="end_user_block_once"),
            models.CheckConstraint(condition=~models.Q(end_user=""), name="end_user_block_names_somebody"),
        ]

    def __str__(self) -> str:
        return f"{self.end_user} in {self.organization_id}"
