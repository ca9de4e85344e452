"""Settlement, rollups, and what the reaper does with the requests of dead workers."""

import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from uuid import RFC_4122, uuid4

import pytest
from django.db import IntegrityError, OperationalError, connection, connections

from billing import ledger, partitions, reaper, reconciliation, settlement, tasks
from billing.models import Hold, IdempotencyKey, Transfer, UsageRecord, UsageRollup, Worker
from billing.money import format_credits
from billing.slips import rest_id
from billing.teller import Refused, StoredResponse
from billing.tests.conftest import new_id


def use(run, teller, customer, costs, **more):
    holds = [customer.hold(10) for _ in costs]
    run.together(*(teller.hold(hold) for hold in holds))
    run.together(
        *(teller.capture(customer.capture(hold, cost, **more)) for hold, cost in zip(holds, costs, strict=True))
    )


def test_settling_moves_unsettled_to_revenue_and_available_not_at_all(run, teller, customer):
    use(run, teller, customer, [3, 4, 0], input_tokens=5, latency_ms=20, ttft_ms=7)
    assert settlement.settle_all() == 3
    account = customer.account
    assert (account.posted, account.unsettled, account.available) == (993, 0, 993)
    transfer = Transfer.objects.get(kind="usage")
    assert (transfer.amount, transfer.debit_id, transfer.credit) == (7, account.pk, ledger.house("revenue"))
    assert ledger.house("revenue").posted == 7
    assert set(UsageRecord.objects.filter(cost_nanos__gt=0).values_list("transfer_id", flat=True)) == {transfer.pk}
    assert UsageRecord.objects.get(cost_nanos=0).transfer_id is None
    rollup = UsageRollup.objects.get()
    assert (rollup.requests, rollup.errors, rollup.cost_nanos, rollup.input_tokens) == (3, 0, 7, 15)
    assert (rollup.latency_ms_sum, rollup.ttft_ms_sum, rollup.ttft_count) == (60, 21, 3)
    assert settlement.settle_all() == 0
    use(run, teller, customer, [5], outcome="upstream_error")
    assert settlement.settle_account(account) == 1
    rollup.refresh_from_db()
    assert (rollup.requests, rollup.errors, rollup.cost_nanos) == (4, 1, 12)
    assert reconciliation.check() == []


def test_whoever_listens_is_told_what_was_settled_and_of_which_requests(run, teller, customer):
    told = []
    use(run, teller, customer, [3, 4])

    def listen(**sent):
        told.append(sent)

    settlement.posted.connect(listen)
    try:
        assert settlement.settle_all() == 2
        assert settlement.settle_all() == 0
    finally:
        settlement.posted.disconnect(listen)
    (sent,) = told
    assert (sent["account_id"], sent["summary"]["cost"]) == (customer.account_id, 7)
    assert set(sent["request_ids"]) == set(UsageRecord.objects.values_list("request_id", flat=True))


def test_settling_in_small_batches(run, teller, customer, monkeypatch):
    monkeypatch.setattr(settlement, "BATCH", 3)
    use(run, teller, customer, [1] * 10)
    assert settlement.settle_all() == 10
    assert Transfer.objects.filter(kind="usage").count() == 4
    assert reconciliation.check() == []


def test_an_account_that_cannot_be_settled_keeps_no_other_waiting(run, teller, new_customer, monkeypatch):
    broken, whole = new_customer(1000), new_customer(1000)
    for customer in (broken, whole):
        use(run, teller, customer, [10])

    def post(account_ids):
        if broken.account_id in account_ids:
            raise OperationalError
        return posting(account_ids)

    posting = settlement._post
    monkeypatch.setattr(settlement, "_post", post)
    with pytest.raises(OperationalError):
        settlement.settle_all()
    assert (broken.account.posted, whole.account.posted) == (1000, 990)


def test_what_the_database_refuses_of_one_account_is_all_that_is_left(run, teller, new_customer, monkeypatch):
    """One of seven in a commit: its books are wrong, so its balance would go below zero."""
    customers = [new_customer(1000) for _ in range(7)]
    for customer in customers:
        use(run, teller, customer, [10, 0])
    with connection.cursor() as cursor:
        cursor.execute("UPDATE billing_account SET unsettled = 3 WHERE id = %s", [customers[4].account_id])
    with pytest.raises(IntegrityError, match="unsettled_not_negative"):
        settlement.settle_all()
    assert [customer.account.posted for customer in customers] == [990] * 4 + [1000] + [990] * 2
    assert UsageRecord.objects.filter(settled_at=None).count() == 2
    assert {drift.check for drift in reconciliation.repair()} == {"unsettled"}
    assert settlement.settle_all() == 2
    assert reconciliation.check() == []


def test_many_accounts_share_a_commit_within_its_bounds(monkeypatch):
    monkeypatch.setattr(settlement, "BATCH", 10)
    monkeypatch.setattr(settlement, "ACCOUNTS", 3)
    waiting = [(1, 2), (2, 2), (3, 2), (4, 2), (5, 50), (6, 9), (7, 2), (8, 8)]
    assert list(settlement._batches(waiting)) == [[1, 2, 3], [4], [5], [6], [7, 8]]
    assert list(settlement._batches([])) == []


def test_each_organization_is_told_of_its_own_usage_and_its_dearest_models(run, teller, new_customer, monkeypatch):
    monkeypatch.setattr(settlement, "MODELS_TOLD", 1)
    customers = [new_customer(10**9) for _ in range(3)]
    costs = [[20_000_000, 12_345_678], [70_000_000], [0]]
    for customer, each in zip(customers, costs, strict=True):
        for number, cost in enumerate(each):
            capture = customer.capture(new_id(), cost, input_tokens=5, output_tokens=number)
            run(teller.capture(replace(capture, model=f"model-{number}")))
    assert settlement.settle_all() == 4
    assert Transfer.objects.filter(kind="usage").count() == 2
    told = [customer.organization.events.get(kind="usage.recorded").data for customer in customers]
    assert [(one["requests"], one["credits"], one["input_tokens"], one["output_tokens"]) for one in told] == [
        (2, "3.2345678", 10, 1),
        (1, "7.0000", 5, 0),
        (1, "0.0000", 5, 0),
    ]
    dearest = {"model": "model-0", "requests": 1, "credits": "2.0000", "input_tokens": 5, "output_tokens": 0}
    assert told[0]["models"] == [dearest]
    first, last = (datetime.fromisoformat(told[0][name]) for name in ("from", "until"))
    assert [first, last] == list(
        customers[0].organization.usage_records.order_by("pk").values_list("created_at", flat=True)
    )


def test_postgresql_formats_credits_as_we_do(db):
    amounts = [0, 1, 10, 999, 1_000, 1_234_500, 10_000_000, 123_456_789, 2**63 - 1]
    with connection.cursor() as cursor:
        cursor.execute("SELECT billing_format_credits(n) FROM unnest(%s) n", [amounts])
        assert [text for (text,) in cursor.fetchall()] == [format_credits(amount) for amount in amounts]


def test_settling_at_the_same_time_counts_once(run, teller, new_customer, monkeypatch):
    monkeypatch.setattr(settlement, "BATCH", 7)
    customers = [new_customer(1000) for _ in range(3)]
    for customer in customers:
        use(run, teller, customer, [2] * 40)
    settled, failed = [], []

    def work() -> None:
        try:
            settled.append(settlement.settle_all())
        except Exception as error:
            failed.append(error)
        finally:
            connections.close_all()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    use(run, teller, customers[0], [2] * 40)  # while admissions go on
    for thread in threads:
        thread.join()
    assert failed == []
    assert sum(settled) + settlement.settle_all() == 160
    assert [customer.account.posted for customer in customers] == [840, 920, 920]
    assert reconciliation.check() == []


def test_a_settlement_that_is_killed_leaves_nothing_half_done(run, teller, customer):
    use(run, teller, customer, [1] * 5)
    with connection.cursor() as cursor:
        cursor.execute(
            "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS "
            "$$ BEGIN PERFORM pg_sleep(5); RETURN NULL; END $$;"
            "CREATE TRIGGER slow AFTER INSERT ON billing_transfer FOR EACH ROW EXECUTE FUNCTION slow()"
        )
        try:
            cursor.execute("SET statement_timeout = 300")
            with pytest.raises(OperationalError, match="statement timeout"):
                settlement.settle_all()
        finally:
            cursor.execute("RESET statement_timeout")
            cursor.execute("DROP TRIGGER slow ON billing_transfer; DROP FUNCTION slow()")
    assert (customer.account.unsettled, customer.account.posted) == (5, 1000)
    assert not UsageRollup.objects.exists()
    assert reconciliation.check() == []
    assert settlement.settle_all() == 5
    assert reconciliation.check() == []


def test_checkpoints_only_rise(run, teller, customer):
    hold = customer.hold(100)
    run(teller.hold(hold))
    for progress in (10, 30, 20):
        teller.checkpoint(hold.request_id, progress)
        run(teller._chores(teller._settle))
    assert Hold.objects.get().progress == 30


def grow_old(seconds: int) -> None:
    with connection.cursor() as cursor:
        cursor.execute("UPDATE billing_worker SET seen_at = seen_at - make_interval(secs => %s)", [seconds])


def test_the_reaper_charges_the_last_checkpoint_of_a_dead_worker(run, teller, customer, settings):
    settings.REAPER_WORKER_TIMEOUT_S = 60
    hold = customer.hold(100, end_user="ann")
    run(teller.hold(hold))
    teller.checkpoint(hold.request_id, 33)
    run(teller._chores(teller._settle))
    assert reaper.reap() == 0
    grow_old(61)
    assert reaper.reap() == 1
    record = UsageRecord.objects.get()
    assert (record.outcome, record.cost_nanos, record.hold_nanos, record.end_user) == ("interrupted", 33, 100, "ann")
    assert customer.available == 967
    assert reaper.reap() == 0
    # The worker was only asleep: its capture charges the rest, and only once.
    final = customer.capture(hold, 80, output_tokens=9)
    assert run(teller.capture(final)).recorded is False
    assert run(teller.capture(final)).recorded is False
    rest = UsageRecord.objects.get(pk=rest_id(hold.request_id))
    assert (rest.cost_nanos, rest.outcome, rest.output_tokens) == (47, "adjustment", 9)
    assert (rest.pk.int >> 76, rest.pk.variant) == (hold.request_id.int >> 76, RFC_4122)  # a UUIDv7 of the same moment
    assert customer.available == 1000 - 80
    assert UsageRecord.objects.count() == 2
    assert settlement.settle_all() == 2
    assert UsageRollup.objects.get().requests == 1
    assert reconciliation.check() == []


def test_of_a_request_and_its_repetition_under_one_key_one_is_charged(run, teller, customer):
    """The worker was taken for dead, so its key was free for the client to ask again."""
    first, second = customer.hold(100), customer.hold(100)
    claim = partial(teller.claim, organization_id=customer.organization.pk, key="k", body_sha=b"b")
    run(claim(request_id=first.request_id))
    run(teller.hold(first))
    grow_old(601)
    assert reaper.reap() == 1
    assert run(claim(request_id=second.request_id)).state == "new"
    run(teller.hold(second))
    # Both come to their end; the first waits until it is known what becomes of the second.
    late, answered = run.together(
        teller.capture(customer.capture(first, 80)), teller.capture(customer.capture(second, 70))
    )
    assert (late.recorded, answered.recorded) == (False, True)
    assert customer.available == 1000 - 70
    assert UsageRecord.objects.filter(cost_nanos__gt=0).count() == 1
    assert reconciliation.check() == []


def test_a_request_that_was_reaped_and_not_repeated_keeps_its_answer_for_its_key(run, teller, customer):
    hold = customer.hold(100)
    claim = partial(teller.claim, organization_id=customer.organization.pk, key="k", body_sha=b"b")
    run(claim(request_id=hold.request_id))
    run(teller.hold(hold))
    grow_old(601)
    assert reaper.reap() == 1
    response = StoredResponse(200, [("a", "b")], b"answer")
    run(teller.capture(customer.capture(hold, 80, response=response)))
    assert customer.available == 1000 - 80
    repeated = run(claim(request_id=uuid4()))
    assert (repeated.state, repeated.response) == ("done", response)


def test_a_key_that_a_checkpoint_was_charged_under_is_not_free_and_the_rest_is_charged(run, teller, customer):
    hold = customer.hold(100)
    claim = partial(teller.claim, organization_id=customer.organization.pk, key="k", body_sha=b"b")
    run(claim(request_id=hold.request_id))
    run(teller.hold(hold))
    teller.checkpoint(hold.request_id, 33)
    run(teller._chores(teller._settle))
    grow_old(601)
    assert reaper.reap() == 1
    assert run(claim(request_id=uuid4())).state == "lost"
    run(teller.capture(customer.capture(hold, 80)))
    assert customer.available == 1000 - 80


def test_a_worker_that_comes_back_with_less_charges_nothing_more(run, teller, customer):
    hold = customer.hold(100)
    run(teller.hold(hold))
    teller.checkpoint(hold.request_id, 33)
    run(teller._chores(teller._settle))
    grow_old(601)
    tasks.reap()
    assert isinstance(run(teller.extend(hold.request_id, 1)), Refused)
    run(teller.capture(customer.capture(hold, 20)))
    assert customer.available == 967
    assert reconciliation.check() == []


def test_a_worker_that_stopped_is_reaped_at_once(run, teller, customer):
    run(teller.hold(customer.hold(100)))
    Worker.objects.update(stopped_at=Worker.objects.get().seen_at)
    assert reaper.reap() == 1
    assert customer.available == 1000


def test_holds_of_an_unknown_worker_wait_for_their_own_age(run, teller, customer):
    run(teller.hold(customer.hold(100)))
    Hold.objects.update(worker=uuid4())
    assert reaper.reap(dead_after=timedelta(minutes=1)) == 0
    with connection.cursor() as cursor:
        cursor.execute("UPDATE billing_hold SET created_at = created_at - interval '2 min'")
    assert reaper.reap(dead_after=timedelta(minutes=1)) == 1


def test_the_reaper_frees_the_key_of_what_cost_nothing_and_marks_the_other_lost(run, teller, customer):
    free, paid = customer.hold(10), customer.hold(10)
    for key, hold in (("free", free), ("paid", paid)):
        run(teller.claim(organization_id=customer.organization.pk, key=key, body_sha=b"b", request_id=hold.request_id))
        run(teller.hold(hold))
    teller.checkpoint(paid.request_id, 4)
    run(teller._chores(teller._settle))
    grow_old(601)
    assert reaper.reap() == 2
    assert list(IdempotencyKey.objects.values_list("key", "state")) == [("paid", "lost")]


def last_month() -> str:
    month = datetime.now(UTC).date().replace(day=1)
    for _ in range(partitions.AHEAD):
        month = (month + timedelta(days=31)).replace(day=1)
    return f"billing_usagerecord_{month:%Y_%m}"


def test_tidying_makes_partitions_and_forgets(run, teller, customer):
    hold = customer.hold(10)
    run(teller.claim(organization_id=customer.organization.pk, key="k", body_sha=b"b", request_id=hold.request_id))
    with connection.cursor() as cursor:
        cursor.execute("UPDATE billing_idempotencykey SET created_at = now() - interval '25 h'")
        cursor.execute("DROP TABLE " + last_month())
    assert [partitions.ensure(), partitions.ensure()] == [1, 0]
    Worker.objects.create(id=uuid4())
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE billing_worker SET seen_at = now() - interval '8 days' WHERE id <> %s", [teller.worker_id]
        )
    tasks.tidy()
    assert not IdempotencyKey.objects.exists()
    assert Worker.objects.count() == 1


def test_usage_lies_in_the_partition_of_its_month(run, teller, customer):
    use(run, teller, customer, [1])
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT tableoid::regclass::text = 'billing_usagerecord_' || to_char(now() AT TIME ZONE 'UTC', 'YYYY_MM') "
            "FROM billing_usagerecord"
        )
        assert cursor.fetchall() == [(True,)]
