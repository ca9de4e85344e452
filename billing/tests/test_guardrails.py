"""Blocks, default budgets of end users, run ceilings, budgets that observe: in the admission statement itself."""

from datetime import timedelta

import pytest
from django.utils import timezone

from accounts.models import AuditEntry
from billing import blocks, budgets, end_users, reconciliation
from billing.models import Budget, EndUserBlock, Hold
from billing.teller import Granted


def default(customer, period="month", cost=None, tokens=None, observes=False):
    end_users.set_default(
        organization=customer.organization, period=period, cost_cap_nanos=cost, token_cap=tokens, observes=observes
    )


def used(customer, end_user):
    budget = Budget.objects.get(organization=customer.organization, end_user=end_user)
    return budget.used_cost_nanos, budget.used_tokens, budget.held_cost_nanos


# ---------------------------------------------------------------- Blocks


def test_a_blocked_end_user_is_refused_with_the_reason(run, teller, customer, new_customer):
    blocks.block(organization=customer.organization, end_user="bad", reason="spam")
    refused = run(teller.hold(customer.hold(1, end_user="bad")))
    assert (refused.reason, refused.rule) == ("user_blocked", {"end_user": "bad", "reason": "spam", "expires_at": None})
    assert isinstance(run(teller.hold(customer.hold(1, end_user="good"))), Granted)
    assert isinstance(run(teller.hold(customer.hold(1))), Granted)
    other = new_customer(1000)
    assert isinstance(run(teller.hold(other.hold(1, end_user="bad"))), Granted)
    assert blocks.unblock(organization=customer.organization, end_user="bad")
    assert not blocks.unblock(organization=customer.organization, end_user="bad")
    assert isinstance(run(teller.hold(customer.hold(1, end_user="bad"))), Granted)
    actions = AuditEntry.objects.filter(action__startswith="end_user.").values_list("action", flat=True)
    assert list(actions) == ["end_user.block", "end_user.unblock"]


def test_a_block_ends_by_itself(run, teller, customer):
    organization = customer.organization
    blocks.block(
        organization=organization, end_user="u", reason="cool down", expires_at=timezone.now() + timedelta(days=1)
    )
    assert run(teller.hold(customer.hold(1, end_user="u"))).reason == "user_blocked"
    EndUserBlock.objects.update(expires_at=timezone.now())
    assert isinstance(run(teller.hold(customer.hold(1, end_user="u"))), Granted)
    assert blocks.find(organization, "u") is None


def test_a_running_stream_of_a_blocked_end_user_gets_no_more(run, teller, customer):
    hold = customer.hold(10, end_user="u")
    run(teller.hold(hold))
    blocks.block(organization=customer.organization, end_user="u", reason="now")
    assert run(teller.extend(hold.request_id, 5)).reason == "user_blocked"
    assert run(teller.capture(customer.capture(hold, 7))).available == 993


@pytest.mark.parametrize(
    "fields",
    [
        {"end_user": ""}, {"end_user": "x" * 257}, {"end_user": "a\0b"}, {"reason": " "}, {"reason": "x" * 501},
        {"expires_at": timezone.now() - timedelta(days=1)},
    ],
)  # fmt: skip
def test_a_wrong_block_is_refused(customer, fields):
    with pytest.raises(blocks.InvalidBlock):
        blocks.block(**{"organization": customer.organization, "end_user": "u", "reason": "r"} | fields)
    assert not EndUserBlock.objects.exists()


# ---------------------------------------------------------------- Defaults


def test_every_end_user_has_the_default_of_its_organization(run, teller, customer, new_customer):
    default(customer, cost=100)
    for who in ("a", "b"):
        assert isinstance(run(teller.hold(customer.hold(100, end_user=who))), Granted)
        refused = run(teller.hold(customer.hold(1, end_user=who)))
        assert (refused.reason, refused.rule["scope"], refused.rule["subject"]) == ("budget", "end_user", who)
        assert (refused.rule["cap"], refused.rule["held"], refused.rule["period"]) == (100, 100, "month")
    assert isinstance(run(teller.hold(customer.hold(500))), Granted)
    assert isinstance(run(teller.hold(new_customer(1000).hold(500, end_user="a"))), Granted)


def test_two_requests_of_a_new_end_user_in_one_batch_share_one_budget(run, teller, customer):
    default(customer, cost=100)
    answers = run.together(*(teller.hold(customer.hold(60, end_user="a")) for _ in range(3)))
    assert [isinstance(answer, Granted) for answer in answers] == [True, False, False]
    assert Budget.objects.count() == 1


def test_a_budget_of_its_own_counts_in_place_of_the_default(run, teller, customer):
    default(customer, cost=100)
    own = {"organization": customer.organization, "scope": "end_user", "end_user": "vip", "period": "month"}
    budgets.set_budget(**own, cost_cap_nanos=300, token_cap=None)
    hold = customer.hold(300, end_user="vip")
    assert isinstance(run(teller.hold(hold)), Granted)
    run(teller.capture(customer.capture(hold, 250)))
    default(customer, cost=50)  # changes the others alone
    assert isinstance(run(teller.hold(customer.hold(50, end_user="vip"))), Granted)
    back = budgets.set_budget(**own, cost_cap_nanos=None, token_cap=None)
    assert (back.cost_cap_nanos, back.follows_default, back.used_cost_nanos) == (50, True, 250)
    assert run(teller.hold(customer.hold(1, end_user="vip"))).reason == "budget"


def test_a_default_counts_what_was_used_and_is_held_before_it_was_set(run, teller, customer):
    done, running = customer.hold(80, end_user="u"), customer.hold(30, end_user="u")
    run.together(teller.hold(done), teller.hold(running))
    run(teller.capture(customer.capture(done, 70, input_tokens=5, output_tokens=2)))
    default(customer, cost=100)
    assert used(customer, "u") == (70, 7, 30)
    assert run(teller.hold(customer.hold(1, end_user="u"))).reason == "budget"
    run(teller.capture(customer.capture(running, 10)))
    assert used(customer, "u") == (80, 7, 0)
    assert isinstance(run(teller.hold(customer.hold(20, end_user="u"))), Granted)
    assert reconciliation.check() == []


def test_raising_and_removing_a_default_reaches_whoever_follows_it(run, teller, customer):
    default(customer, tokens=10)
    assert run(teller.hold(customer.hold(1, end_user="u", tokens=11))).reason == "budget"
    default(customer, tokens=11)
    hold = customer.hold(1, end_user="u", tokens=11)
    assert isinstance(run(teller.hold(hold)), Granted)
    default(customer)
    assert not Budget.objects.exists()
    assert isinstance(run(teller.hold(customer.hold(1, end_user="u", tokens=99))), Granted)
    run(teller.capture(customer.capture(hold, 1)))
    assert reconciliation.check() == []


def test_the_installations_default_counts_where_an_organization_says_nothing(
    run, teller, customer, new_customer, settings
):
    settings.DEFAULT_MAX_COST_USD, settings.DEFAULT_MAX_TOTAL_TOKENS = "0.0000001", 50  # 100 n$
    before = customer.hold(40, end_user="u")
    run(teller.hold(before))
    end_users.apply_site_defaults()
    end_users.apply_site_defaults()
    other, open_ = new_customer(1000), new_customer(1000)
    default(other, cost=200)
    default(open_)
    assert run(teller.hold(customer.hold(61, end_user="u"))).reason == "budget"  # 40 are held
    assert isinstance(run(teller.hold(customer.hold(60, end_user="u"))), Granted)
    assert run(teller.hold(customer.hold(1, end_user="new", tokens=51))).rule["unit"] == "tokens"
    assert isinstance(run(teller.hold(other.hold(200, end_user="u"))), Granted)
    assert isinstance(run(teller.hold(open_.hold(900, end_user="u"))), Granted)
    end_users.forget_default(organization=open_.organization, period="month")
    assert run(teller.hold(open_.hold(1, end_user="u"))).reason == "budget"  # 900 are held
    settings.DEFAULT_MAX_COST_USD, settings.DEFAULT_MAX_TOTAL_TOKENS = "0", 0
    end_users.apply_site_defaults()
    assert isinstance(run(teller.hold(customer.hold(500, end_user="u"))), Granted)
    assert reconciliation.check() == []


def test_default_budgets_long_idle_are_forgotten_but_never_ones_own(run, teller, customer):
    default(customer, cost=100)
    for who in ("old", "busy", "own"):
        run(teller.hold(customer.hold(1, end_user=who)))
    default(customer, cost=100, period="total")
    budgets.set_budget(
        organization=customer.organization,
        scope="end_user",
        end_user="own",
        period="month",
        cost_cap_nanos=9,
        token_cap=1,
    )
    Budget.objects.update(period_started_at=timezone.now() - timedelta(days=63))
    Budget.objects.exclude(end_user="busy").update(held_cost_nanos=0)
    assert end_users.forget_idle() == 1
    monthly = Budget.objects.filter(period="month")
    assert set(monthly.values_list("end_user", flat=True)) == {"busy", "own"}
    assert Budget.objects.filter(period="total").count() == 3  # what was used in all is never over


# ---------------------------------------------------------------- Runs


def test_a_runs_ceiling_is_given_with_its_first_request_and_only_ever_falls(run, teller, customer):
    first = customer.hold(60, run_id="r", run_cap=100)
    assert isinstance(run(teller.hold(first)), Granted)
    refused = run(teller.hold(customer.hold(41, run_id="r")))
    assert (refused.reason, refused.rule["scope"], refused.rule["subject"]) == ("budget", "run", "r")
    assert (refused.rule["period"], refused.rule["resets_at"]) == ("total", None)
    run(teller.capture(customer.capture(first, 10)))
    assert isinstance(run(teller.hold(customer.hold(90, run_id="r", run_cap=10_000))), Granted)
    assert run(teller.hold(customer.hold(1, run_id="r"))).reason == "budget"
    assert run(teller.hold(customer.hold(1, run_id="r", run_cap=50))).rule["cap"] == 50
    assert isinstance(run(teller.hold(customer.hold(500, run_id="other"))), Granted)
    assert reconciliation.check() == []


# ---------------------------------------------------------------- Observing


def test_a_budget_that_observes_counts_and_never_refuses(run, teller, customer):
    budgets.set_budget(
        organization=customer.organization,
        scope="organization",
        period="day",
        cost_cap_nanos=10,
        token_cap=1,
        observes=True,
    )
    holds = [customer.hold(300, tokens=50) for _ in range(2)]
    answers = run.together(*(teller.hold(hold) for hold in holds))
    assert all(isinstance(answer, Granted) for answer in answers)
    assert isinstance(run(teller.extend(holds[0].request_id, 100, 10)), Granted)
    refused = run(teller.hold(customer.hold(301)))
    assert (refused.reason, refused.affordable) == ("insufficient_credit", 300)  # not the 10 of the budget
    run(teller.capture(customer.capture(holds[0], 40, input_tokens=3)))
    budget = Budget.objects.get()
    assert (budget.used_cost_nanos, budget.used_tokens, budget.held_cost_nanos) == (40, 3, 300)
    budgets.set_budget(
        organization=customer.organization, scope="organization", period="day", cost_cap_nanos=10, token_cap=None
    )
    assert run(teller.hold(customer.hold(1))).reason == "budget"
    assert Hold.objects.count() == 1
