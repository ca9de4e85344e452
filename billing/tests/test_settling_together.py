"""Many organizations are settled while everything else goes on, by several workers of two releases that get killed."""

import random
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack

from django.db import DatabaseError, connection, connections

from billing import ledger, moves, reconciliation, settlement
from billing.models import Account, Transfer, UsageRecord
from billing.teller import Refused, Teller

CUSTOMERS = 16
CREDIT = 100_000
SECONDS = 2.0
KILLED = (None, "57P01")  # what the connection says then, or PostgreSQL


def until(ends: float, act: Callable[[], None], failed: list[BaseException]) -> None:
    """Act again and again; a connection that was cut is made anew."""
    try:
        while time.monotonic() < ends:
            try:
                act()
            except DatabaseError as error:
                if getattr(error.__cause__, "sqlstate", None) not in KILLED:
                    raise
                if not connection.is_usable():
                    connection.close()
    except BaseException as error:
        failed.append(error)
    finally:
        connections.close_all()


def settle_as_before() -> None:
    """As the release before does, which runs beside this one while it is replaced."""
    waiting = UsageRecord.objects.filter(settled_at=None).values_list("account_id", flat=True)
    for account_id in list(waiting.order_by().distinct()[:3]):
        with connection.cursor() as cursor:
            cursor.execute("SELECT billing_post_usage(%s, 5)", [account_id])


def kill_one() -> None:
    """End a session that settles, wherever it is."""
    time.sleep(0.05)
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() "
            "AND state = 'active' AND query LIKE 'SELECT billing_post%' AND pid <> pg_backend_pid() LIMIT 1"
        )


def test_the_books_are_right_whatever_meets(run, dsn, new_customer, monkeypatch):
    monkeypatch.setattr(settlement, "ACCOUNTS", 5)
    monkeypatch.setattr(settlement, "BATCH", 20)
    seed = random.randrange(10**6)
    print(f"seed {seed}")
    dice = random.Random(seed)
    customers = [new_customer(CREDIT) for _ in range(CUSTOMERS)]
    ends, failed, spent = time.monotonic() + SECONDS, list[BaseException](), dict.fromkeys(range(CUSTOMERS), 0)

    def move() -> None:
        sender, recipient = random.sample(customers, 2)
        moves.send(sender=sender.organization, recipient=recipient.organization, amount=7, by=None)

    def prove() -> None:
        assert reconciliation.check() == []

    work = [settlement.settle_all] * 3 + [settle_as_before, move, prove, kill_one]
    threads = [threading.Thread(target=until, args=(ends, act, failed)) for act in work]
    with ExitStack() as stack:
        tellers = [Teller(dsn) for _ in range(2)]
        for teller in tellers:
            run(teller.start())
            stack.callback(lambda one=teller: run(one.close()))
        for thread in threads:
            thread.start()
        while time.monotonic() < ends:
            numbers = [dice.randrange(CUSTOMERS) for _ in range(12)]
            holds = [customers[number].hold(10) for number in numbers]
            teller = dice.choice(tellers)
            granted = run.together(*(teller.hold(hold) for hold in holds))
            assert not any(isinstance(one, Refused) for one in granted)
            costs = [dice.randrange(10) for _ in holds]
            captures = [customers[n].capture(hold, cost) for n, hold, cost in zip(numbers, holds, costs, strict=True)]
            run.together(*(teller.capture(capture) for capture in captures))
            for number, cost in zip(numbers, costs, strict=True):
                spent[number] += cost
        for thread in threads:
            thread.join()
    assert failed == []
    settlement.settle_all()
    assert not UsageRecord.objects.filter(settled_at=None).exists()
    assert not Account.objects.filter(unsettled__gt=0).exists()
    for number, customer in enumerate(customers):
        moved = Transfer.objects.filter(kind="move")
        given = sum(moved.filter(debit=customer.account_id).values_list("amount", flat=True))
        got = sum(moved.filter(credit=customer.account_id).values_list("amount", flat=True))
        assert customer.account.posted == CREDIT + got - given - spent[number]
    assert ledger.house("revenue").posted == sum(spent.values())
    assert reconciliation.check() == []
