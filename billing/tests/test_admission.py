"""Who gets a hold: credit, revocation, repeats, and races."""

from datetime import timedelta

from django.db import connection
from django.utils import timezone

from accounts import keys
from accounts.models import ApiKey, Organization
from billing import ledger, reconciliation
from billing.models import Account, Hold, UsageRecord
from billing.teller import Granted, Refused, Teller


def test_a_hold_and_its_capture_move_the_figures(run, teller, customer):
    hold = customer.hold(300)
    granted = run(teller.hold(hold))
    assert isinstance(granted, Granted)
    assert granted.available == 700
    account = customer.account
    assert (account.posted, account.held, account.unsettled) == (1000, 300, 0)
    settled = run(teller.capture(customer.capture(hold, 120, input_tokens=5, output_tokens=7)))
    assert (settled.available, settled.recorded) == (880, True)
    account = customer.account
    assert (account.posted, account.held, account.unsettled) == (1000, 0, 120)
    record = UsageRecord.objects.get(pk=hold.request_id)
    assert (record.cost_nanos, record.hold_nanos, record.input_tokens, record.output_tokens) == (120, 300, 5, 7)
    assert not Hold.objects.exists()


def test_a_void_releases_everything(run, teller, customer):
    hold = customer.hold(300)
    run(teller.hold(hold))
    settled = run(teller.void(customer.capture(hold, 99, outcome="rejected")))
    assert settled.available == 1000
    assert (UsageRecord.objects.get(pk=hold.request_id)).cost_nanos == 0


def test_500_parallel_holds_on_a_balance_for_37(dsn, run, new_customer):
    customer = new_customer(37 * 10)
    tellers = [Teller(dsn, max_batch=40) for _ in range(3)]
    run.together(*(teller.start() for teller in tellers))
    answers = run.together(*(tellers[n % 3].hold(customer.hold(10)) for n in range(500)))
    run.together(*(teller.close() for teller in tellers))
    assert sum(isinstance(answer, Granted) for answer in answers) == 37
    assert {answer.reason for answer in answers if isinstance(answer, Refused)} == {"insufficient_credit"}
    account = customer.account
    assert (account.held, account.available) == (370, 0)
    assert Hold.objects.count() == 37


def test_a_big_hold_that_is_refused_does_not_block_small_ones_behind_it(run, teller, customer):
    sizes = [400, 5000, 400, 300, 200, 1]
    answers = run.together(*(teller.hold(customer.hold(size)) for size in sizes))
    assert [isinstance(answer, Granted) for answer in answers] == [True, False, True, False, True, False]
    assert answers[1].affordable == 600  # what was left when its turn came
    assert answers[5].affordable == 0


def test_accounts_in_one_batch_do_not_touch_each_other(run, teller, new_customer):
    rich, poor = new_customer(1000), new_customer(10)
    answers = run.together(
        *(teller.hold(each.hold(9)) for _ in range(3) for each in (rich, poor)), teller.hold(rich.hold(100))
    )
    assert [isinstance(answer, Granted) for answer in answers] == [True, True, True, False, True, False, True]
    assert answers[6].available == 1000 - 127


def test_a_repeated_hold_is_granted_once(run, teller, customer):
    hold = customer.hold(600)
    answers = [run(teller.hold(hold)), *run.together(teller.hold(hold), teller.hold(hold))]
    assert all(isinstance(answer, Granted) for answer in answers)
    assert customer.available == 400
    twice = customer.hold(100)
    answers = run.together(teller.hold(twice), teller.hold(customer.hold(50)), teller.hold(twice))
    assert all(isinstance(answer, Granted) for answer in answers)
    assert customer.available == 250
    over = customer.hold(251)
    answers = run.together(teller.hold(over), teller.hold(over))
    assert [answer.reason for answer in answers] == ["insufficient_credit"] * 2


def test_an_id_that_has_ended_is_not_held_again(run, teller, customer):
    hold = customer.hold(10)
    run(teller.hold(hold))
    run(teller.capture(customer.capture(hold, 1)))
    assert (run(teller.hold(hold))).reason == "id_taken"


def test_another_accounts_request_id_is_refused(run, teller, customer, new_customer):
    other = new_customer(1000)
    hold = customer.hold(10)
    run(teller.hold(hold))
    assert (run(teller.hold(other.hold(10, request_id=hold.request_id)))).reason == "id_taken"


def test_revoked_and_expired_keys_are_refused(run, teller, customer):
    assert isinstance(run(teller.hold(customer.hold(1))), Granted)
    keys.revoke(key=customer.key, by=None)
    assert (run(teller.hold(customer.hold(1)))).reason == "key_revoked"
    second = (keys.issue(organization=customer.organization, name="second")).key
    assert isinstance(run(teller.hold(customer.hold(1, key_id=second.pk))), Granted)
    ApiKey.objects.filter(pk=second.pk).update(revoked_at=timezone.now() + timedelta(hours=1))
    assert isinstance(run(teller.hold(customer.hold(1, key_id=second.pk))), Granted)  # its grace period
    ApiKey.objects.filter(pk=second.pk).update(revoked_at=None, expires_at=timezone.now())
    assert (run(teller.hold(customer.hold(1, key_id=second.pk)))).reason == "key_revoked"


def test_a_key_of_another_organization_opens_nothing(run, teller, customer, new_customer):
    other = new_customer()
    assert (run(teller.hold(customer.hold(1, key_id=other.key.pk)))).reason == "key_revoked"
    stolen = customer.hold(1)
    stolen = type(stolen)(stolen.request_id, customer.account_id, other.organization.pk, other.key.pk, 1, 0, "m", "e")
    assert (run(teller.hold(stolen))).reason == "account_frozen"


def test_frozen_accounts_and_organizations_are_refused_but_settle(run, teller, customer):
    running = customer.hold(10)
    run(teller.hold(running))
    account = customer.account
    assert ledger.freeze(account=account, reason="test")
    assert (run(teller.hold(customer.hold(1)))).reason == "account_frozen"
    assert (run(teller.capture(customer.capture(running, 4)))).recorded
    ledger.unfreeze(account=account)
    assert isinstance(run(teller.hold(customer.hold(1))), Granted)
    Organization.objects.filter(pk=customer.organization.pk).update(status="closing")
    assert (run(teller.hold(customer.hold(1)))).reason == "account_frozen"


def test_a_credit_limit_lets_an_account_go_below_zero(run, teller, customer):
    ledger.set_credit_limit(organization=customer.organization, amount=500)
    assert isinstance(run(teller.hold(customer.hold(1500))), Granted)
    assert isinstance(run(teller.hold(customer.hold(1))), Refused)


def test_extending_a_hold(run, teller, customer):
    hold = customer.hold(100, tokens=10)
    run(teller.hold(hold))
    assert (run(teller.extend(hold.request_id, 400, 5))).available == 500
    both = run.together(teller.extend(hold.request_id, 100), teller.extend(hold.request_id, 100))
    assert [type(answer) for answer in both] == [Granted, Granted]
    refused = run(teller.extend(hold.request_id, 301))
    assert (refused.reason, refused.affordable) == ("insufficient_credit", 300)
    row = Hold.objects.get(pk=hold.request_id)
    assert (row.amount, row.tokens) == (700, 15)
    keys.revoke(key=customer.key, by=None)
    assert (run(teller.extend(hold.request_id, 1))).reason == "key_revoked"
    assert (run(teller.capture(customer.capture(hold, 650)))).available == 350
    assert (run(teller.extend(hold.request_id, 1))).reason == "no_hold"


def test_a_repeated_extension_batch_adds_nothing_again(run, teller, customer):
    hold = customer.hold(100)
    run(teller.hold(hold))
    run(teller.extend(hold.request_id, 50))

    def again() -> list:
        with connection.cursor() as cursor:
            batch = f'[{{"request_id": "{hold.request_id}", "amount": 50, "tokens": 0, "seq": 1}}]'
            cursor.execute("SELECT billing_extend(%s::json)", [batch])
            return cursor.fetchone()[0]

    again()
    assert (Hold.objects.get(pk=hold.request_id)).amount == 150
    assert customer.available == 850


def test_a_cost_above_the_hold_is_charged_tagged_and_cleared(run, teller, customer):
    hold = customer.hold(900)
    run(teller.hold(hold))
    settled = run(teller.capture(customer.capture(hold, 1300)))
    assert settled.available == -300
    account = customer.account
    assert account.overdrawn_reason == "cost_above_hold"
    assert (run(teller.hold(customer.hold(1)))).reason == "insufficient_credit"
    assert reconciliation.check() == []
    ledger.grant(organization=customer.organization, amount=300, reason="debt", idempotency_key="debt")
    assert (Account.objects.get(pk=account.pk)).overdrawn_reason is None
