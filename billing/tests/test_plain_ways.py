"""The short ways of admission and settlement answer and write what the way for everything does, or leave it to that."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import timedelta
from typing import Any
from uuid import UUID

import psycopg
import pytest
from django.db import connection, transaction
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from billing import ledger, reconciliation
from billing.lanes import encode
from billing.models import Budget
from billing.tests.conftest import Customer, make_customer, new_id
from billing.tests.plain_kit import (
    CASES,
    WORKER,
    Case,
    Row,
    block_bad,
    both_ways,
    call,
    held,
    outcome,
    revoke,
    set_budget,
    undone,
)


@pytest.fixture
def two(db: None) -> tuple[Customer, Customer]:
    """Two customers with 1,000 n$. The session plans as the teller's do."""
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL plan_cache_mode = force_generic_plan")
    return make_customer(1000), make_customer(1000)


def other(verb: str, customer: Customer) -> Row:
    return customer.hold(5) if verb == "admit" else customer.capture(held(customer.hold(5)), 2)


@pytest.mark.parametrize("verb", CASES)
def test_every_case_is_the_same_both_ways_alone_and_with_others(two, verb):
    for case in CASES[verb]:
        with undone():
            rows = case.rows(*two)
            plain = [both_ways(verb, rows), both_ways(verb, [*rows, other(verb, two[1])])]
            has_failed = isinstance(outcome(f"billing_{verb}", rows)[0], str)
        assert has_failed or plain == [case.is_plain] * 2, case.name


@pytest.mark.parametrize("verb", CASES)
def test_any_mixture_is_the_same_both_ways(two, verb):
    @settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(st.lists(st.tuples(st.sampled_from(CASES[verb]), st.booleans()), min_size=2, max_size=4))
    def mixture(picks: list[tuple[Case, bool]]) -> None:
        with undone():
            rows: list[Row] = []
            with suppress(AssertionError):  # a customer whom an earlier pick took the right to hold
                for case, is_turned in picks:
                    rows += case.rows(*(two[::-1] if is_turned else two))
            both_ways(verb, rows)

    mixture()


@pytest.mark.parametrize("verb", CASES)
@pytest.mark.parametrize("batch", ["[]", "{}", "1", "[1]", "[null]", "[[]]", "[1, 2]", '[{"account_id": 1}, null]'])
def test_what_is_no_batch_is_the_same_both_ways(two, verb, batch):
    with undone():
        assert outcome(f"billing_{verb}", batch) == outcome(f"billing_{verb}_any", batch)


def test_a_block_concerns_only_whom_it_names_when_one_asks(two):
    a, b = two
    block_bad(a)
    assert both_ways("admit", [a.hold(1, end_user="good")])
    assert not both_ways("admit", [a.hold(1, end_user="good"), b.hold(1)])
    assert both_ways("admit", [b.hold(1), b.hold(1, end_user="bad")])


def test_the_answer_tells_what_each_account_has_after_the_batch(two):
    a, b = two
    granted = call("billing_admit", holds := [a.hold(100), b.hold(1), a.hold(50)])
    assert [(free, version - before) for (*_, free, version), before in zip(granted, (1, 1, 1), strict=True)] == [
        (850, 1), (999, 1), (850, 1)
    ]  # fmt: skip
    settled = call(
        "billing_settle", [customer.capture(hold, 40) for customer, hold in zip((a, b, a), holds, strict=True)]
    )
    assert [answer[0] for answer in settled] == [920, 960, 920]


# Where an index would be walked through, or an organization's whole part of it: it does not begin with what is known.
WALKS = """
SELECT c.relname || ' ' || pg_stat_get_xact_numscans(c.oid) FROM pg_class c
WHERE pg_stat_get_xact_numscans(c.oid) > 0 AND (
    (c.relkind = 'r' AND c.relname ~ '^(billing|accounts)_') OR (c.relkind = 'i' AND c.relname ~ 'usagerecord|apikey'
        AND c.relname !~ 'pkey$')) ORDER BY 1
"""
RECORDS = """
INSERT INTO billing_usagerecord (
    request_id, account_id, organization_id, key_id, cost_nanos, model, endpoint, outcome)
SELECT (substr(%s::uuid::text, 1, 14) || '7' || substr(md5(n::text), 1, 19))::uuid,
    %s, %s, %s, 1, 'm', 'e', 'completed' FROM generate_series(1, %s) n
"""


def id_of_a_new_month() -> UUID:
    """Of a month in which nothing was ever written, as tests before this one have in the present one."""
    return UUID(int=new_id().int + (int(timedelta(days=300).total_seconds()) * 1000 << 80))


@pytest.mark.parametrize("records", [0, 60])
def test_tables_are_read_by_the_index_that_begins_with_what_is_known(two, records):
    """A plan that is made while tables are small, as they are here, serves them for long: it must suit big ones."""
    a, b = two
    capped = make_customer(1000)
    set_budget("organization")(capped)
    with connection.cursor() as cursor:
        cursor.execute("SELECT billing_ensure_partitions(12)")
        cursor.execute(RECORDS, [id_of_a_new_month(), a.account_id, a.organization.pk, a.key.pk, records])
        cursor.execute("ANALYZE billing_usagerecord")
        cursor.execute("DISCARD PLANS")

    def walks() -> list[str]:
        with connection.cursor() as cursor:
            cursor.execute(WALKS)
            return [name for (name,) in cursor.fetchall()]

    for customers in ([a], [a, b], [capped], [capped, a]):
        before = walks()
        holds = [customer.hold(5, end_user="u", request_id=id_of_a_new_month()) for customer in customers]
        assert all(reason is None for reason, *_ in call("billing_admit", holds))
        captures = [customer.capture(hold, 5) for customer, hold in zip(customers, holds, strict=True)]
        assert all(recorded for _, _, recorded, _ in call("billing_settle", captures))
        assert walks() == before


# ---------------------------------------------------------------- what changes while a batch waits for its account


def meanwhile(dsn: str, act: Callable[[], Any], function: str, rows: list[Row]) -> Any:
    """The answers of a call that began before `act` was committed, and waited for its lock."""
    kinds, parameters = ("%s::json, %s", [WORKER]) if "admit" in function else ("%s::json", [])
    with psycopg.connect(dsn, autocommit=True) as waiting, ThreadPoolExecutor(1) as pool:
        with transaction.atomic():
            act()
            answer = pool.submit(
                lambda: waiting.execute(f"SELECT {function}({kinds})", [encode(rows).decode(), *parameters]).fetchone()
            )
            with connection.cursor() as cursor:
                is_waiting = False
                while not is_waiting:
                    cursor.execute(
                        "SELECT EXISTS (SELECT FROM pg_locks WHERE pid = %s AND NOT granted)",
                        [waiting.info.backend_pid],
                    )
                    (is_waiting,) = cursor.fetchone()
        return answer.result()[0]


@pytest.mark.parametrize("count", [1, 2])
def test_what_was_committed_while_a_hold_waited_decides(dsn, count):
    def rows(customer: Customer) -> list[Row]:
        return [customer.hold(10), *[customer.hold(10) for _ in range(count - 1)]]

    def locked(customer: Customer, act: Callable[[Customer], Any]) -> Callable[[], Any]:
        return lambda: (ledger.lock(customer.account), act(customer))

    revoked, poor, capped = make_customer(100), make_customer(100), make_customer(100)
    answers = meanwhile(dsn, locked(revoked, revoke), "billing_admit", rows(revoked))
    assert [reason for reason, *_ in answers] == ["key_revoked"] * count
    answers = meanwhile(dsn, lambda: held(poor.hold(95)), "billing_admit", rows(poor))
    assert [answer[:2] for answer in answers] == [["insufficient_credit", 5]] * count
    answers = meanwhile(dsn, locked(capped, set_budget("organization")), "billing_admit", rows(capped))
    assert [reason for reason, *_ in answers] == [None] * count
    assert list(Budget.objects.values_list("held_cost_nanos", flat=True)) == [10 * count]
    again = rows(capped)
    answers = meanwhile(dsn, lambda: call("billing_admit", again), "billing_admit", again)
    assert [reason for reason, *_ in answers] == [None] * count
    assert capped.account.held == 20 * count
    assert reconciliation.check() == []


@pytest.mark.parametrize("count", [1, 2])
def test_what_was_committed_while_a_capture_waited_counts(dsn, count):
    def captures(customer: Customer) -> list[Row]:
        return [customer.capture(held(customer.hold(10)), 7) for _ in range(count)]

    def extended(rows: list[Row]) -> Callable[[], Any]:
        return lambda: call(
            "billing_extend", [{"request_id": row.request_id, "amount": 5, "tokens": 0, "seq": 1} for row in rows]
        )

    longer, twice, capped = make_customer(100), make_customer(100), make_customer(100)
    rows = captures(longer)
    answers = meanwhile(dsn, extended(rows), "billing_settle", rows)
    assert [available for available, *_ in answers] == [100 - 7 * count] * count
    rows = captures(twice)
    answers = meanwhile(dsn, lambda: call("billing_settle", rows), "billing_settle", rows)
    assert [recorded for _, _, recorded, _ in answers] == [False] * count
    rows = captures(capped)
    meanwhile(dsn, lambda: set_budget("organization")(capped), "billing_settle", rows)
    assert list(Budget.objects.values_list("held_cost_nanos", "used_cost_nanos")) == [(0, 7 * count)]
    assert reconciliation.check() == []
