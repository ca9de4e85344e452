"""Budgets of cost and tokens, their calendar periods, and who counts against which."""

from dataclasses import replace
from datetime import timedelta

import pytest
from django.db import IntegrityError, connection

from accounts import keys
from accounts.models import Organization, User
from billing import budgets, reconciliation, standings
from billing.models import Budget
from billing.teller import Granted, Refused


def budget(customer, scope="organization", period="day", cost=None, tokens=None, **subject):
    return budgets.set_budget(
        organization=customer.organization, scope=scope, period=period, cost_cap_nanos=cost, token_cap=tokens, **subject
    )


def spend(run, teller, customer, amount, cost, tokens=0, **more):
    hold = customer.hold(amount, tokens=tokens, **more)
    answer = run(teller.hold(hold))
    if isinstance(answer, Granted):
        run(teller.capture(customer.capture(hold, cost, input_tokens=tokens)))
    return answer


def test_a_cost_budget_binds_and_says_why(run, teller, customer):
    made = budget(customer, cost=100)
    assert isinstance(spend(run, teller, customer, 60, 50), Granted)
    running = customer.hold(30)
    assert isinstance(run(teller.hold(running)), Granted)
    refused = run(teller.hold(customer.hold(21)))
    assert (refused.reason, refused.affordable) == ("budget", 20)
    rule = refused.rule
    assert rule.pop("resets_at")[10:19] == "T00:00:00"
    assert rule == {
        "id": made.pk, "scope": "organization", "subject": "", "period": "day", "unit": "cost", "cap": 100, "used": 50,
        "held": 30,
    }  # fmt: skip
    assert isinstance(run(teller.hold(customer.hold(20))), Granted)
    assert (run(teller.hold(customer.hold(5000)))).reason == "insufficient_credit"
    assert reconciliation.check() == []


def test_a_token_budget_binds(run, teller, customer):
    budget(customer, tokens=1000)
    assert isinstance(spend(run, teller, customer, 1, 1, tokens=900), Granted)
    refused = run(teller.hold(customer.hold(1, tokens=101)))
    assert (refused.reason, refused.rule["unit"], refused.rule["used"]) == ("budget", "tokens", 900)
    assert isinstance(run(teller.hold(customer.hold(1, tokens=100))), Granted)
    assert reconciliation.check() == []


def test_many_at_once_get_exactly_what_fits(run, teller, customer):
    budget(customer, cost=100)
    answers = run.together(*(teller.hold(customer.hold(7)) for _ in range(60)))
    assert sum(isinstance(answer, Granted) for answer in answers) == 14
    assert Budget.objects.get().held_cost_nanos == 98
    assert reconciliation.check() == []


def test_budgets_count_only_what_they_are_about(run, teller, customer):
    other_key = keys.issue(organization=customer.organization, name="other").key
    budget(customer, "key", cost=50, key=customer.key)
    budget(customer, "end_user", cost=30, end_user="ann")
    budget(customer, "run", "total", cost=20, run_id="r1")
    assert spend(run, teller, customer, 51, 0).rule["scope"] == "key"
    assert isinstance(spend(run, teller, customer, 51, 51, key_id=other_key.pk), Granted)
    assert spend(run, teller, customer, 31, 0, key_id=other_key.pk, end_user="ann").rule["subject"] == "ann"
    assert isinstance(spend(run, teller, customer, 31, 31, end_user="bob"), Granted)
    refused = spend(run, teller, customer, 21, 0, key_id=other_key.pk, run_id="r1")
    assert (refused.rule["scope"], refused.rule["resets_at"]) == ("run", None)
    assert isinstance(spend(run, teller, customer, 15, 15, key_id=other_key.pk, run_id="r1"), Granted)
    used = dict(Budget.objects.values_list("scope", "used_cost_nanos"))
    assert used == {"key": 31, "end_user": 0, "run": 15}
    assert reconciliation.check() == []


def test_a_budget_of_another_organization_does_not_bind(run, teller, customer, new_customer):
    budget(new_customer(), cost=0)
    assert isinstance(run(teller.hold(customer.hold(1))), Granted)


def test_extensions_pass_the_budgets_of_the_hold(run, teller, customer):
    budget(customer, cost=100, tokens=50)
    hold = customer.hold(60, tokens=10)
    run(teller.hold(hold))
    assert run(teller.extend(hold.request_id, 41)).rule["unit"] == "cost"
    assert run(teller.extend(hold.request_id, 1, 41)).rule["unit"] == "tokens"
    assert isinstance(run(teller.extend(hold.request_id, 40, 40)), Granted)
    assert reconciliation.check() == []
    run(teller.capture(customer.capture(hold, 100, output_tokens=50)))
    found = Budget.objects.get()
    assert (found.used_cost_nanos, found.used_tokens, found.held_cost_nanos, found.held_tokens) == (100, 50, 0, 0)


def test_usage_without_a_hold_counts_too(run, teller, customer):
    budget(customer, cost=100)
    run(teller.capture(customer.capture(customer.hold(1).request_id, 70)))
    assert Budget.objects.get().used_cost_nanos == 70
    assert reconciliation.check() == []


def test_a_new_budget_knows_what_its_period_has_used_and_holds(run, teller, customer):
    spend(run, teller, customer, 60, 50, tokens=5)
    running = customer.hold(20, tokens=7)
    run(teller.hold(running))
    made = budget(customer, cost=100)
    assert (made.used_cost_nanos, made.used_tokens, made.held_cost_nanos, made.held_tokens) == (50, 5, 20, 7)
    assert run(teller.hold(customer.hold(31))).reason == "budget"
    run(teller.capture(customer.capture(running, 10)))
    assert Budget.objects.get().used_cost_nanos == 60
    assert reconciliation.check() == []


def move_period(days: float) -> None:
    with connection.cursor() as cursor:
        cursor.execute("UPDATE billing_budget SET period_started_at = period_started_at - make_interval(hours => %s)",
                       [round(days * 24)])  # fmt: skip


def test_a_new_day_begins_at_zero_and_keeps_what_is_held(run, teller, customer):
    made = budget(customer, cost=100)
    spend(run, teller, customer, 90, 90)
    running = customer.hold(10)
    run(teller.hold(running))
    assert run(teller.hold(customer.hold(1))).reason == "budget"
    move_period(1)
    assert [cap.used for cap in standings.caps_of(customer.organization)] == [0]
    assert run(teller.hold(customer.hold(91))).rule["held"] == 10
    assert isinstance(run(teller.hold(customer.hold(90))), Granted)
    run(teller.capture(customer.capture(running, 8)))  # counts in the day in which it ends
    made.refresh_from_db()
    assert (made.used_cost_nanos, made.held_cost_nanos) == (8, 90)


@pytest.mark.parametrize(
    ("period", "zone", "moment", "start", "end"),
    [
        ("day", "UTC", "2026-11-20 23:59:59+00", "2026-11-20 00:00+00", "2026-11-21 00:00+00"),
        ("day", "Asia/Tokyo", "2026-11-20 15:00+00", "2026-11-20 15:00+00", "2026-11-21 15:00+00"),
        ("day", "Asia/Tokyo", "2026-11-20 14:59:59+00", "2026-11-19 15:00+00", "2026-11-20 15:00+00"),
        # The clocks go back: this day has 25 hours.
        ("day", "America/New_York", "2026-11-01 20:00+00", "2026-11-01 04:00+00", "2026-11-02 05:00+00"),
        ("month", "America/New_York", "2026-11-20 00:00+00", "2026-11-01 04:00+00", "2026-12-01 05:00+00"),
        ("month", "Pacific/Auckland", "2026-11-30 12:00+00", "2026-11-30 11:00+00", "2026-12-31 11:00+00"),
        ("day", "Nowhere/Land", "2026-11-20 12:00+00", "2026-11-20 00:00+00", "2026-11-21 00:00+00"),
    ],
)
def test_periods_are_calendar_periods_of_the_zone(db, period, zone, moment, start, end):
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT s = %s::timestamptz, billing_period_end(%s, %s, s) = %s::timestamptz "
            "FROM billing_period_start(%s, %s, %s::timestamptz) s",
            [start, period, zone, end, period, zone, moment],
        )
        assert cursor.fetchone() == (True, True)


def test_the_zone_of_the_organization_decides_when_the_day_begins(run, teller, customer):
    made = budget(customer, cost=10)
    spend(run, teller, customer, 10, 10)
    with connection.cursor() as cursor:  # the period began an hour before the midnight that the zone has now
        cursor.execute(
            "UPDATE billing_budget SET period_started_at = date_trunc('day', now(), 'Asia/Tokyo') - interval '1 h'"
        )
    Organization.objects.update(timezone="Asia/Tokyo")
    assert isinstance(run(teller.hold(customer.hold(10))), Granted)
    made.refresh_from_db()
    with connection.cursor() as cursor:
        cursor.execute("SELECT date_trunc('day', now(), 'Asia/Tokyo')")
        assert made.period_started_at == cursor.fetchone()[0]


def test_an_unknown_zone_counts_in_utc(run, teller, customer):
    Organization.objects.update(timezone="Nowhere/Land")
    budget(customer, cost=10)
    assert isinstance(run(teller.hold(customer.hold(10))), Granted)
    assert run(teller.hold(customer.hold(1))).reason == "budget"


def test_changing_and_removing_the_budgets_of_a_key(run, teller, customer):
    first = budgets.set_for_key(key=customer.key, period="day", cost_cap_nanos=10, token_cap=None)
    spend(run, teller, customer, 5, 5)
    again = budgets.set_for_key(key=customer.key, period="day", cost_cap_nanos=20, token_cap=7)
    assert (again.pk, again.used_cost_nanos, again.token_cap) == (first.pk, 5, 7)
    assert list(budgets.of_key(customer.key)) == [again]
    held = customer.hold(10)
    run(teller.hold(held))
    assert budgets.set_for_key(key=customer.key, period="day", cost_cap_nanos=None, token_cap=None) is None
    assert run(teller.capture(customer.capture(held, 10))).recorded
    assert not budgets.of_key(customer.key).exists()


def test_a_rotated_key_leaves_its_budgets_and_what_they_have_used(run, teller, customer):
    budgets.set_for_key(key=customer.key, period="day", cost_cap_nanos=100, token_cap=50)
    spend(run, teller, customer, 30, 30, 5)
    issued = keys.rotate(key=customer.key, by=None, grace=timedelta(hours=1))
    (carried,) = budgets.of_key(issued.key)
    assert (carried.cost_cap_nanos, carried.token_cap) == (100, 50)
    assert (carried.used_cost_nanos, carried.used_tokens) == (30, 5)
    successor = replace(customer, key=issued.key)
    assert isinstance(run(teller.hold(successor.hold(71))), Refused)
    assert isinstance(run(teller.hold(successor.hold(70))), Granted)
    assert isinstance(run(teller.hold(customer.hold(70))), Granted)  # until it ends, the old one has what was left, too
    assert reconciliation.check() == []


def test_a_budget_names_what_it_is_about(customer):
    with pytest.raises(IntegrityError):
        Budget.objects.create(organization=customer.organization, scope="key", period="day", cost_cap_nanos=1)


def test_a_member_s_limit_counts_all_keys_that_they_made_and_no_other(run, teller, customer):
    ada, bob = (User.objects.create_user(f"{name}@example.com") for name in ("ada", "bob"))
    first, second = (keys.issue(organization=customer.organization, name=name, by=ada).key for name in ("a", "b"))
    others = keys.issue(organization=customer.organization, name="c", by=bob).key
    hold = customer.hold(40, key_id=first.pk)
    assert isinstance(run(teller.hold(hold)), Granted)
    run(teller.capture(replace(customer.capture(hold, 30), key_id=first.pk)))
    running = customer.hold(20, key_id=second.pk)
    assert isinstance(run(teller.hold(running)), Granted)
    made = budget(customer, scope="member", period="month", cost=100, member=ada)
    assert (made.used_cost_nanos, made.held_cost_nanos) == (30, 20)
    assert isinstance(run(teller.hold(customer.hold(30, key_id=first.pk))), Granted)
    refused = run(teller.hold(customer.hold(21, key_id=second.pk)))
    assert (refused.reason, refused.rule["scope"], refused.rule["subject"]) == ("budget", "member", str(ada.public_id))
    assert isinstance(run(teller.hold(customer.hold(500, key_id=others.pk))), Granted)
    assert isinstance(run(teller.hold(customer.hold(200))), Granted)  # a key that nobody made
    assert budget(customer, scope="member", period="month", cost=5, member=bob) is not None
    run(teller.capture(customer.capture(running, 10)))
    made.refresh_from_db()
    assert (made.used_cost_nanos, made.held_cost_nanos) == (40, 30)
    caps = standings.caps_of(customer.organization, key=second)
    assert [(cap.scope, cap.subject, cap.used) for cap in caps] == [("member", "ada@example.com", 40)]
    assert reconciliation.check() == []


def test_usage_without_a_hold_counts_for_the_member_who_made_the_key(run, teller, customer):
    ada = User.objects.create_user("ada@example.com")
    key = keys.issue(organization=customer.organization, name="a", by=ada).key
    made = budget(customer, scope="member", period="month", cost=100, member=ada)
    run(teller.capture(replace(customer.capture(customer.hold(1).request_id, 70), key_id=key.pk)))
    run(teller.capture(customer.capture(customer.hold(1).request_id, 9)))  # a key that nobody made
    made.refresh_from_db()
    assert made.used_cost_nanos == 70
    assert reconciliation.check() == []


def test_a_run_s_ceiling_still_begins_its_budget_once(run, teller, customer):
    for _ in range(2):
        assert isinstance(run(teller.hold(customer.hold(10, run_id="r", run_cap=50))), Granted)
    assert Budget.objects.get(scope="run").held_cost_nanos == 20
