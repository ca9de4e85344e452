"""The teller when things fail: unknown commits, poison rows, PostgreSQL away, callers that leave."""

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from django.db import connection

from billing import lanes, reconciliation
from billing.models import DeadLetter, Hold, IdempotencyKey, UsageRecord, Worker
from billing.teller import Capture, Granted, RowRefused, StoredResponse, Teller, TellerUnavailable
from billing.tests.conftest import new_id
from billing.tests.door import Door


@contextmanager
def account_locked(dsn: str, account_id: int) -> Iterator[psycopg.Connection]:
    with psycopg.connect(dsn) as other:
        other.execute("SELECT 1 FROM billing_account WHERE id = %s FOR UPDATE", [account_id])
        yield other


@pytest.fixture
def door(dsn):
    options = psycopg.conninfo.conninfo_to_dict(dsn)
    door = Door(options["host"], int(options["port"] or 5432))
    yield door
    door.close()


@pytest.fixture
def through_door(dsn, door, run):
    teller = Teller(psycopg.conninfo.make_conninfo(dsn, host="127.0.0.1", port=door.port))
    run(teller.start())
    yield teller
    door.is_open = True
    run(teller.close())


def test_backends_killed_in_the_middle_change_nothing(run, teller, customer, dsn):
    hold = customer.hold(100)
    run(teller.hold(hold))

    async def scene() -> list:
        with account_locked(dsn, customer.account_id):
            waiting = [asyncio.create_task(teller.capture(customer.capture(hold, 60)))]
            waiting.append(asyncio.create_task(teller.hold(customer.hold(200))))
            await asyncio.sleep(0.3)
            await asyncio.to_thread(kill_backends_directly, dsn)
        return await asyncio.gather(*waiting)

    settled, granted = run(scene())
    assert settled.recorded
    assert isinstance(granted, Granted)
    assert customer.available == 1000 - 60 - 200
    assert UsageRecord.objects.count() == 1


def kill_backends_directly(dsn: str) -> None:
    with psycopg.connect(dsn, autocommit=True) as other:
        killed = other.execute(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity "
            "WHERE application_name LIKE 'tuppence %' AND datname = current_database()"
        ).fetchone()
        assert killed[0] == 2


def test_a_commit_whose_answer_was_lost_is_repeated_with_the_same_ids(run, through_door, door, customer):
    first = customer.hold(100)
    door.swallows_answers = True
    granted = run(through_door.hold(first))
    assert isinstance(granted, Granted)
    assert (customer.account.held, Hold.objects.count()) == (100, 1)
    door.swallows_answers = True
    settled = run(through_door.capture(customer.capture(first, 30)))
    assert settled.available == 970  # it was recorded by the commit whose answer was lost
    assert (customer.account.held, customer.account.unsettled, UsageRecord.objects.count()) == (0, 30, 1)


def test_postgresql_away_fails_holds_fast_and_keeps_captures(run, through_door, door, customer):
    running = customer.hold(100)
    run(through_door.hold(running))

    async def scene() -> None:
        door.shut()
        capture = asyncio.create_task(through_door.capture(customer.capture(running, 40)))
        started = time.monotonic()
        with pytest.raises(TellerUnavailable):
            await through_door.hold(customer.hold(1))
        assert time.monotonic() - started < 3
        assert not through_door.healthy
        started = time.monotonic()
        with pytest.raises(TellerUnavailable):
            await through_door.hold(customer.hold(1))
        assert time.monotonic() - started < 2.5
        assert not capture.done()
        door.is_open = True
        assert (await asyncio.wait_for(capture, 5)).recorded
        for _ in range(50):
            if through_door.healthy:
                break
            await asyncio.sleep(0.1)
        assert isinstance(await through_door.hold(customer.hold(1)), Granted)

    run(scene())
    for _ in range(200):  # a hold that was under way when its caller gave up may have come about: it is voided
        if Hold.objects.count() == 1:
            break
        run(asyncio.sleep(0.1))
    assert customer.available == 1000 - 40 - 1
    assert Hold.objects.count() == 1


def test_it_starts_while_postgresql_is_away(run, dsn, door, customer):
    door.is_open = False
    teller = Teller(psycopg.conninfo.make_conninfo(dsn, host="127.0.0.1", port=door.port))
    run(teller.start())
    assert not teller.healthy
    with pytest.raises(TellerUnavailable):
        run(teller.hold(customer.hold(1)))
    door.is_open = True
    run(asyncio.sleep(1.5))
    assert teller.healthy
    assert isinstance(run(teller.hold(customer.hold(1))), Granted)
    run(teller.close())


def test_a_hold_that_nobody_waits_for_any_more_is_voided(run, teller, customer, dsn):
    hold = customer.hold(100)

    async def scene() -> None:
        with account_locked(dsn, customer.account_id), pytest.raises(TellerUnavailable):  # after two seconds
            await teller.hold(hold)
        await settle_down(teller)

    run(scene())
    assert customer.available == 1000
    assert not Hold.objects.exists()
    assert list(UsageRecord.objects.values_list("outcome", "cost_nanos", "error_code")) in (
        [],
        [("refused", 0, "admission_abandoned")],
    )


def test_a_caller_cancelled_during_the_hold_leaves_none_behind(run, teller, customer, dsn):
    async def scene() -> None:
        with account_locked(dsn, customer.account_id):
            waiting = asyncio.create_task(teller.hold(customer.hold(100)))
            await asyncio.sleep(0.2)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
        await settle_down(teller)
        # Cancelled in the very moment in which the answer is there.
        late = asyncio.create_task(teller.hold(customer.hold(100)))
        await until(lambda: teller._admit._in_flight)
        await until(lambda: not teller._admit._in_flight)
        late.cancel()
        await asyncio.gather(late, return_exceptions=True)
        await settle_down(teller)

    run(scene())
    assert not Hold.objects.exists()
    assert customer.available == 1000


async def until(condition: Callable[[], Any]) -> None:
    while not condition():  # noqa: ASYNC110 - the very next turn of the loop is wanted
        await asyncio.sleep(0)


async def settle_down(teller: Teller) -> None:
    for _ in range(100):
        await asyncio.sleep(0.02)
        if not teller._admit.size and not teller._settle.size:
            return


def test_a_cancelled_caller_of_capture_loses_nothing(run, teller, customer, dsn):
    hold = customer.hold(100)
    run(teller.hold(hold))

    async def scene() -> None:
        with account_locked(dsn, customer.account_id):
            waiting = asyncio.create_task(teller.capture(customer.capture(hold, 77)))
            await asyncio.sleep(0.1)
            waiting.cancel()
        await settle_down(teller)

    run(scene())
    assert UsageRecord.objects.get().cost_nanos == 77
    assert customer.available == 923


def test_a_poison_row_is_found_and_kept_and_the_others_pass(run, teller, customer):
    holds = [customer.hold(10) for _ in range(9)]
    run.together(*(teller.hold(hold) for hold in holds))
    captures = [customer.capture(hold, 5) for hold in holds]
    captures[4] = customer.capture(holds[4], 2**70, usage={"prompt_tokens": 3})
    results = run.together(*(teller.capture(capture) for capture in captures), return_exceptions=True)
    assert isinstance(results.pop(4), RowRefused)
    assert all(settled.recorded for settled in results)
    assert UsageRecord.objects.count() == 8
    assert Hold.objects.get().request_id == holds[4].request_id  # kept until people have looked
    letter = DeadLetter.objects.get()
    assert (letter.request_id, letter.payload["cost"]) == (holds[4].request_id, str(2**70))
    assert [drift.check for drift in reconciliation.check()] == ["dead_letters"]
    run(teller.capture(customer.capture(holds[4], 5)))
    assert customer.available == 1000 - 45


def test_a_capture_for_no_account_is_a_dead_letter(run, teller, customer):
    stray = Capture(request_id=new_id(), account_id=2**40, organization_id=1, key_id=1, cost=1)
    with pytest.raises(RowRefused):
        run(teller.capture(stray))
    assert DeadLetter.objects.get().request_id == stray.request_id


def test_a_hold_that_makes_no_sense_is_refused_alone(run, teller, customer):
    results = run.together(
        teller.hold(customer.hold(5)), teller.hold(customer.hold(-5)), teller.hold(customer.hold(2**80)),
        teller.hold(customer.hold(6)), return_exceptions=True,
    )  # fmt: skip
    assert [type(result) for result in results] == [Granted, RowRefused, RowRefused, Granted]
    assert customer.account.held == 11


def test_text_that_postgresql_cannot_store_is_cleaned(run, teller, customer):
    hold = customer.hold(10, end_user="a\0b\ud800c", run_id="r" * 5000)
    run(teller.hold(hold))
    deep: dict = {}
    for _ in range(300):
        deep = {"deeper": deep}
    usage = {"text\0": "\udfff", "huge": 10**40, "nan": float("nan"), "deep": deep, "\\u0000": 1}
    ending = customer.capture(hold, 1, usage=usage, error_code="x" * 9000, org_label="l" * 300)
    assert run(teller.capture(ending)).recorded
    record = UsageRecord.objects.get()
    assert record.end_user == "a\ufffdb?c"
    assert (len(record.run_id), record.org_label) == (256, "l" * 256)
    assert record.usage["huge"] == str(10**40)
    assert record.usage["nan"] is None


def test_clean_leaves_what_is_fine_alone():
    fine = {"a": [1, 2.5, None, True, "ü"], "b": -(2**63)}
    assert lanes.clean(fine) == fine


def test_a_repeated_capture_charges_once(run, teller, customer):
    hold = customer.hold(100)
    run(teller.hold(hold))
    capture = customer.capture(hold, 50)
    assert [settled.recorded for settled in run.together(*(teller.capture(capture) for _ in range(3)))] == [
        True, False, False,
    ]  # fmt: skip
    again = run(teller.capture(customer.capture(hold, 999)))
    assert (again.recorded, again.available) == (False, 950)


def test_a_capture_without_a_hold_is_charged(run, teller, customer):
    assert run(teller.capture(customer.capture(new_id(), 70))).available == 930


def test_closing_sends_what_is_queued_and_marks_the_worker(run, dsn, customer):
    teller = Teller(dsn)
    run(teller.start())
    hold = customer.hold(100)
    run(teller.hold(hold))

    async def scene() -> None:
        waiting = asyncio.create_task(teller.capture(customer.capture(hold, 12)))
        await asyncio.sleep(0)
        await teller.close()
        assert (await waiting).recorded

    run(scene())
    assert Worker.objects.get(pk=teller.worker_id).stopped_at is not None
    with pytest.raises(TellerUnavailable):
        run(teller.hold(customer.hold(1)))


def test_full_queues_refuse_holds(run, dsn, customer):
    teller = Teller(dsn, max_queue=5, max_batch=2)
    run(teller.start())
    answers = run.together(*(teller.hold(customer.hold(1)) for _ in range(20)), return_exceptions=True)
    run(teller.close())
    assert sum(isinstance(answer, Granted) for answer in answers) == Hold.objects.count() >= 5
    assert any(isinstance(answer, TellerUnavailable) for answer in answers)


# ---------------------------------------------------------------- Idempotency keys


def claim(run, teller, customer, key="k", body=b"body", request_id=None):
    return run(
        teller.claim(
            organization_id=customer.organization.pk, key=key, body_sha=body, request_id=request_id or new_id()
        )
    )


def test_an_idempotency_key_answers_with_the_stored_response(run, teller, customer, new_customer):
    hold = customer.hold(10)
    assert claim(run, teller, customer, request_id=hold.request_id).state == "new"
    run(teller.hold(hold))
    running = claim(run, teller, customer)
    assert (running.state, running.request_id) == ("running", hold.request_id)
    assert claim(run, teller, customer, body=b"other").state == "mismatch"
    assert claim(run, teller, new_customer()).state == "new"  # never across organizations
    response = StoredResponse(200, [("content-type", "text/plain")], b"\x00\xff body")
    run(teller.capture(customer.capture(hold, 3, response=response)))
    done = claim(run, teller, customer)
    assert (done.state, done.response) == ("done", response)


def test_50_parallel_claims_have_one_winner(run, teller, customer):
    ids = [new_id() for _ in range(50)]
    claims = run.together(
        *(
            teller.claim(organization_id=customer.organization.pk, key="k", body_sha=b"b", request_id=each)
            for each in ids
        )
    )
    assert sorted({each.state for each in claims}) == ["new", "running"]
    assert sum(each.state == "new" for each in claims) == 1
    assert {each.request_id for each in claims} == {ids[0]}


def test_a_charged_answer_that_was_not_kept_is_lost(run, teller, customer):
    hold = customer.hold(10)
    claim(run, teller, customer, request_id=hold.request_id)
    run(teller.hold(hold))
    run(teller.capture(customer.capture(hold, 3)))
    assert claim(run, teller, customer).state == "lost"


def test_a_released_key_can_be_claimed_again(run, teller, customer):
    hold = customer.hold(10)
    claim(run, teller, customer, request_id=hold.request_id)
    run(teller.hold(hold))
    run(teller.void(customer.capture(hold, 0, outcome="upstream_error")))
    run(teller.release(organization_id=customer.organization.pk, key="k", request_id=hold.request_id))
    assert claim(run, teller, customer).state == "new"


def test_a_claim_whose_worker_died_before_the_hold_is_taken_over(run, teller, customer):
    claim(run, teller, customer)
    IdempotencyKey.objects.update(worker=uuid4())
    assert claim(run, teller, customer).state == "running"  # it may be about to hold
    with connection.cursor() as cursor:
        cursor.execute("UPDATE billing_idempotencykey SET created_at = now() - interval '11 s'")
    assert claim(run, teller, customer).state == "new"


def test_a_key_is_forgotten_after_a_day(run, teller, customer):
    hold = customer.hold(10)
    claim(run, teller, customer, request_id=hold.request_id)
    run(teller.hold(hold))
    run(teller.capture(customer.capture(hold, 3)))
    with connection.cursor() as cursor:
        cursor.execute("UPDATE billing_idempotencykey SET created_at = now() - interval '25 h'")
    assert claim(run, teller, customer, body=b"other").state == "new"
