"""Budgets that come to their end are told of once, by event and by mail."""

from datetime import timedelta

import pytest
from django.core import mail
from django.utils import timezone

from accounts.models import Event
from accounts.tests.factories import MembershipFactory, OrganizationFactory
from billing import budget_warnings, budgets
from billing.models import Budget

pytestmark = pytest.mark.django_db
CREDIT = 10_000_000


@pytest.fixture
def organization():
    membership = MembershipFactory(role="admin")
    return membership.organization


def budget_of(organization, **fields) -> Budget:
    caps = {"cost_cap_nanos": 100 * CREDIT, "token_cap": None} | fields
    made = budgets.set_budget(organization=organization, period="month", **({"scope": "organization"} | caps))
    assert made is not None
    return made


def use(budget: Budget, credits_: int = 0, tokens: int = 0) -> None:
    Budget.objects.filter(pk=budget.pk).update(used_cost_nanos=credits_ * CREDIT, used_tokens=tokens)


def test_each_level_is_told_once(organization):
    budget = budget_of(organization)
    told = []
    for used in (79, 80, 90, 95, 99, 100, 130):
        use(budget, used)
        told.append(budget_warnings.warn())
        assert budget_warnings.warn() == 0
    assert told == [0, 1, 0, 1, 0, 1, 0]
    events = Event.objects.filter(organization=organization).order_by("pk")
    assert [(event.kind, event.data["percent"]) for event in events] == [
        ("budget.warning", 80),
        ("budget.warning", 95),
        ("budget.exceeded", 100),
    ]
    assert events[0].data["cost"] == {"used": "80.0000", "cap": "100.0000"}
    assert len(mail.outbox) == 3
    assert mail.outbox[2].bcc == [organization.memberships.get().user.email]
    assert "refused until it resets" in mail.outbox[2].body


def test_a_jump_over_levels_is_told_as_the_highest(organization):
    use(budget_of(organization), 200)
    assert budget_warnings.warn() == 1
    assert Event.objects.get().data["percent"] == 100


def test_tokens_count_as_cost_does(organization):
    use(budget_of(organization, cost_cap_nanos=None, token_cap=1_000), tokens=950)
    assert budget_warnings.warn() == 1
    assert Event.objects.get().data["tokens"] == {"used": 950, "cap": 1_000}


def test_end_users_are_told_of_by_event_alone(organization):
    use(budget_of(organization, scope="end_user", end_user="bob"), 100)
    assert budget_warnings.warn() == 1
    assert Event.objects.get().data["subject"] == "bob"
    assert mail.outbox == []


def test_a_period_that_is_over_is_not_told_of(organization):
    budget = budget_of(organization)
    use(budget, 100)
    Budget.objects.filter(pk=budget.pk).update(period_started_at=timezone.now() - timedelta(days=40))
    assert budget_warnings.warn() == 0


def test_the_next_period_is_told_of_again(organization):
    budget = budget_of(organization)
    use(budget, 100)
    budget_warnings.warn()
    budget.warnings.update(period_started_at=timezone.now() - timedelta(days=31))
    assert budget_warnings.warn() == 1


def test_one_that_only_observes_refuses_nobody(organization):
    use(budget_of(organization, observes=True), 100)
    budget_warnings.warn()
    assert "refused" not in mail.outbox[0].body


def test_an_organization_without_admins_gets_no_mail():
    use(budget_of(OrganizationFactory()), 100)
    assert budget_warnings.warn() == 1
    assert mail.outbox == []
