"""Lots follow the transfers: burn order, debts, expiry, codes, moves; and a state machine that shuffles all of it."""

import random
from datetime import timedelta
from typing import Any

import pytest
from django.db import OperationalError, connection, transaction
from django.utils import timezone
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from accounts.models import AuditEntry, Event, Organization
from accounts.tests.factories import OrganizationFactory
from billing import codes, ledger, lots, low_balance, moves, statements
from billing.models import Account, AccountKind, Lot, LotUse, Transfer
from billing.money import NANOS_PER_CREDIT
from billing.tests.proofs_kit import drift

pytestmark = pytest.mark.django_db


def give(organization: Organization, amount: int, key: str, *, kind: str = "grant", house: str = "adjustments") -> Any:
    return ledger.transfer(
        debit=ledger.house(house),
        credit=ledger.account_of(organization),
        amount=amount,
        kind=kind,
        idempotency_key=key,
    )


def spend(organization: Organization, amount: int, key: str) -> Transfer:
    return ledger.transfer(
        debit=ledger.account_of(organization),
        credit=ledger.house(AccountKind.REVENUE),
        amount=amount,
        kind="adjustment",
        idempotency_key=key,
    )


def left(organization: Organization) -> dict[str, int]:
    account = ledger.account_of(organization)
    lots.sync(account)
    return {lot.kind: lot.remaining for lot in account.lots.all()}


def test_what_expires_first_burns_first_then_what_was_given() -> None:
    one = OrganizationFactory()
    lots.add(give(one, 100, "paid", kind="purchase", house="stripe_clearing"), Lot.Kind.PAID)
    lots.add(give(one, 100, "good"), Lot.Kind.GOODWILL)
    soon = timezone.now() + timedelta(days=3)
    lots.add(give(one, 100, "promo", kind="promotion", house="promotions"), Lot.Kind.PROMOTIONAL, expires_at=soon)
    used = spend(one, 150, "u1")
    assert left(one) == {"paid": 100, "goodwill": 50, "promotional": 0}
    assert {use.lot.kind: use.amount for use in used.lot_uses.all() if use.lot} == {"promotional": 100, "goodwill": 50}
    assert [row["kind"] for row in lots.summary(ledger.account_of(one))] == ["goodwill", "paid"]


def test_a_debt_is_paid_by_the_next_credit() -> None:
    one = OrganizationFactory()
    give(one, 100, "a")
    spend(one, 130, "u")
    assert left(one) == {"goodwill": 0}
    assert LotUse.objects.get(lot=None).amount == 30
    give(one, 100, "b", kind="purchase", house="stripe_clearing")
    assert left(one) == {"goodwill": 0, "paid": 70}
    assert not LotUse.objects.filter(lot=None).exists()


class ByHand:
    """What the lots of an organization must be: one transfer after the other takes from one lot after the other."""

    def __init__(self, seed: int) -> None:
        self.organization, self.random = OrganizationFactory(), random.Random(seed)
        self.lots: list[list[Any]] = []  # how it burns, what is left
        self.new: list[tuple[Transfer, bool]] = []
        self.owing: list[tuple[Transfer, int]] = []
        self.uses: dict[int, list[int]] = {}

    def live(self, number: int) -> None:
        amount, key = self.random.randint(1, 100), f"{self.organization.pk}:{number}"
        if self.random.random() < 0.5:
            self.owing.append((spend(self.organization, amount, key), amount))
            return
        is_paid = self.random.random() < 0.5
        kind, house = ("purchase", "stripe_clearing") if is_paid else ("grant", "adjustments")
        came = give(self.organization, amount, key, kind=kind, house=house)
        if is_paid or self.random.random() < 0.5:
            self.new.append((came, is_paid))
        else:
            days = self.random.randint(-1, 2)
            lots.add(came, Lot.Kind.PROMOTIONAL, expires_at=timezone.now() + timedelta(days=days))
            self.lots.append([(days, 0, len(self.lots)), amount])

    def follow(self) -> None:
        for came, is_paid in self.new:
            self.lots.append([(99, int(is_paid), len(self.lots)), came.amount])
        self.new, owing, self.owing = [], self.owing, []
        for transfer, amount in owing:
            left = amount
            for lot in sorted(self.lots):
                taken = min(left, lot[1])
                lot[1] -= taken
                left -= taken
                self.uses.setdefault(transfer.pk, []).extend([taken] * bool(taken))
            if left:
                self.owing.append((transfer, left))

    def assert_agrees(self) -> None:
        account = ledger.account_of(self.organization)
        assert list(account.lots.order_by("pk").values_list("remaining", flat=True)) == [left for _, left in self.lots]
        uses = LotUse.objects.filter(account=account).order_by("pk")
        debts = [(use.transfer_id, use.amount) for use in uses if use.lot_id is None]
        assert debts == [(transfer.pk, left) for transfer, left in self.owing]
        for pk, amounts in self.uses.items():
            assert [use.amount for use in uses if use.transfer_id == pk and use.lot_id] == amounts


def test_many_accounts_together_are_what_one_transfer_after_the_other_makes_of_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(lots, "BATCH", 5)
    monkeypatch.setattr(lots, "ACCOUNTS_TOGETHER", 3)
    everyone = [ByHand(seed) for seed in range(5)]
    for turn in range(4):
        for one in everyone:
            for number in range(one.random.randint(0, 8)):
                one.live(turn * 100 + number)
        with_news = sum(bool(one.new) for one in everyone)
        assert lots.sync_all() >= with_news
        for one in everyone:
            one.follow()
            one.assert_agrees()
        assert lots.sync_all() == 0
    assert drift() == []


def test_more_accounts_need_no_more_statements(django_assert_num_queries: Any) -> None:
    for count in (1, 4):
        for number in range(count):
            one = OrganizationFactory()
            give(one, 100, f"a{count}{number}")
            spend(one, 30, f"u{count}{number}")
        with django_assert_num_queries(6):  # who has news; a transaction's begin and end; lock, lots, uses
            assert lots.sync_all() == count


@pytest.mark.django_db(transaction=True)
def test_an_account_that_another_holds_keeps_none_of_the_others_waiting() -> None:
    held, free = OrganizationFactory(), OrganizationFactory()
    for one in (held, free):
        give(one, 100, f"a{one.pk}")
    another = connection.copy()
    try:
        another.set_autocommit(False)
        with another.cursor() as cursor:
            cursor.execute("SELECT FROM billing_account WHERE id = %s FOR NO KEY UPDATE", [ledger.account_of(held).pk])
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute("SET LOCAL lock_timeout = '100ms'")
            with pytest.raises(OperationalError, match="lock timeout"), transaction.atomic():
                lots.sync_all()  # the one that is held comes last, alone
            account = ledger.account_of(free)
            assert lots._sync([ledger.account_of(held).pk, account.pk], lots._LOCK_FREE)[0] == 1
            assert account.lots.get().remaining == 100
        another.rollback()
    finally:
        another.close()
    assert lots.sync_all() == 1
    assert lots.sync_all() == 0


def test_credit_expires_but_not_what_runs() -> None:
    one = OrganizationFactory()
    account = ledger.account_of(one)
    lots.add(give(one, 100, "promo"), Lot.Kind.PROMOTIONAL, expires_at=timezone.now() - timedelta(seconds=1))
    type(account).objects.filter(pk=account.pk).update(held=40)
    assert lots.expire() == 1
    assert ledger.balance_of(one).posted == 40
    type(account).objects.filter(pk=account.pk).update(held=0)
    assert lots.expire() == 1
    assert ledger.balance_of(one).posted == 0
    assert ledger.house(AccountKind.BREAKAGE).posted == 100
    assert lots.expire() == 0
    assert drift() == []


def test_what_was_used_before_it_expired_is_paid_by_the_credit_that_expires() -> None:
    one = OrganizationFactory()
    account = ledger.account_of(one)
    lots.add(give(one, 1_000, "paid", kind="purchase", house="stripe_clearing"), Lot.Kind.PAID)
    for number in (1, 2):
        expired = timezone.now() - timedelta(seconds=5 - number)
        lots.add(give(one, 100, f"promo{number}"), Lot.Kind.PROMOTIONAL, expires_at=expired)
    type(account).objects.filter(pk=account.pk).update(held=70, unsettled=50)
    assert lots.expire() == 1
    assert ledger.house(AccountKind.BREAKAGE).posted == 80
    type(account).objects.filter(pk=account.pk).update(held=0, unsettled=0)
    spend(one, 50, "u")
    assert lots.expire() == 2
    assert ledger.balance_of(one).posted == 1_000
    assert drift() == []


def test_a_code_gives_credit_once_to_each_organization() -> None:
    one, other, third = OrganizationFactory(), OrganizationFactory(), OrganizationFactory()
    code = codes.create(credits=50, max_uses=2, credit_days=30)
    assert codes.redeem(organization=one, code=code.lower().replace("-", " "), by=None).amount == 50 * NANOS_PER_CREDIT
    with pytest.raises(codes.CodeRefused, match="already"):
        codes.redeem(organization=one, code=code, by=None)
    codes.redeem(organization=other, code=code, by=None)
    with pytest.raises(codes.CodeRefused, match="used up"):
        codes.redeem(organization=third, code=code, by=None)
    with pytest.raises(codes.CodeRefused, match="does not exist"):
        codes.redeem(organization=third, code="AAAA-BBBB", by=None)
    lot = Lot.objects.get(account=ledger.account_of(one))
    assert lot.kind == "promotional"
    assert lot.expires_at is not None
    assert ledger.balance_of(third).posted == 0


def test_credit_moves_between_organizations_and_both_see_it() -> None:
    one, other = OrganizationFactory(), OrganizationFactory()
    give(one, 100, "a", kind="purchase", house="stripe_clearing")
    moves.send(sender=one, recipient=other, amount=60, by=None, idempotency_key="k")
    moves.send(sender=one, recipient=other, amount=60, by=None, idempotency_key="k")
    assert (ledger.balance_of(one).posted, ledger.balance_of(other).posted) == (40, 60)
    with pytest.raises(moves.NotEnough):
        moves.send(sender=one, recipient=other, amount=41, by=None)
    with pytest.raises(moves.InvalidMove):
        moves.send(sender=one, recipient=one, amount=1, by=None)
    audited = AuditEntry.objects.filter(action__in=["credits.send", "credits.receive"])
    assert sorted(audited.values_list("action", flat=True)) == ["credits.receive", "credits.send"]
    assert left(other) == {"paid": 60}


@pytest.mark.parametrize(
    ("who", "status", "refusal"),
    [
        ("sender", Organization.Status.FROZEN, moves.NotEnough),
        ("recipient", Organization.Status.CLOSING, moves.InvalidMove),
        ("recipient", Organization.Status.DELETED, moves.InvalidMove),
    ],
)
def test_nothing_moves_out_of_a_frozen_organization_or_into_one_that_ends(
    who: str, status: str, refusal: type[Exception]
) -> None:
    one, other = OrganizationFactory(), OrganizationFactory()
    give(one, 100, "a")
    Organization.objects.filter(pk=one.pk if who == "sender" else other.pk).update(status=status)
    with pytest.raises(refusal):
        moves.send(sender=one, recipient=other, amount=1, by=None)
    assert ledger.balance_of(one).posted == 100


def test_any_credit_that_covers_a_claw_back_opens_the_account() -> None:
    one = OrganizationFactory()
    account = ledger.account_of(one)
    spend(one, 100, "u")
    ledger.freeze(account=account, reason=ledger.CLAWED_BACK)
    statuses = []
    for number in range(2):
        give(one, 50, f"a{number}")
        account.refresh_from_db()
        statuses.append(account.status)
    assert statuses == [Account.Status.FROZEN, Account.Status.OPEN]
    ledger.freeze(account=account, reason="books_drift")
    give(one, 50, "b")
    account.refresh_from_db()
    assert (account.status, account.frozen_reason) == (Account.Status.FROZEN, "books_drift")


def test_a_low_balance_is_told_once(mailoutbox: list[Any]) -> None:
    one = OrganizationFactory()
    give(one, 100 * NANOS_PER_CREDIT, "a")
    low_balance.set_threshold(organization=one, nanos=50 * NANOS_PER_CREDIT)
    assert low_balance.tell() == 0
    spend(one, 60 * NANOS_PER_CREDIT, "u")
    assert low_balance.tell() == 1
    assert low_balance.tell() == 0
    assert Event.objects.get(kind="credits.low").data == {"available": "40.0000", "threshold": "50.0000"}
    give(one, 100 * NANOS_PER_CREDIT, "b")
    assert low_balance.tell() == 0
    spend(one, 120 * NANOS_PER_CREDIT, "u2")
    assert low_balance.tell() == 1


def test_a_statement_adds_up_in_all_three_shapes() -> None:
    one = OrganizationFactory()
    give(one, 100 * NANOS_PER_CREDIT, "a", kind="purchase", house="stripe_clearing")
    moves.adjust(organization=one, amount=-30 * NANOS_PER_CREDIT, reason="=cmd()", idempotency_key="x")
    month = statements.months(one)[0]
    made = statements.of_month(one, month)
    assert (made.opening, made.closing) == (0, 70 * NANOS_PER_CREDIT)
    assert made.closing == ledger.balance_of(one).posted
    text = statements.as_csv(made)
    assert "'=cmd()" in text
    assert text.splitlines()[-1] == ",Closing balance,,,70.0000"
    assert statements.as_pdf(made, site_name="Tuppence").startswith(b"%PDF-")


class Books(RuleBasedStateMachine):
    """Purchases, gifts, spending, moves, refunds and expiry, in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.organizations = [OrganizationFactory(), OrganizationFactory()]
        self.number = 0

    def key(self) -> str:
        self.number += 1
        return f"{id(self)}:{self.number}"

    @rule(who=st.integers(0, 1), amount=st.integers(1, 1_000), is_paid=st.booleans(), days=st.integers(-1, 2))
    def receive(self, who: int, amount: int, is_paid: bool, days: int) -> None:
        kind, house = ("purchase", "stripe_clearing") if is_paid else ("promotion", "promotions")
        came = give(self.organizations[who], amount, self.key(), kind=kind, house=house)
        if not is_paid:
            lots.add(came, Lot.Kind.PROMOTIONAL, expires_at=timezone.now() + timedelta(days=days))

    @rule(who=st.integers(0, 1), amount=st.integers(1, 1_000))
    def use(self, who: int, amount: int) -> None:
        spend(self.organizations[who], amount, self.key())

    @rule(who=st.integers(0, 1), amount=st.integers(1, 500))
    def move(self, who: int, amount: int) -> None:
        sender, recipient = self.organizations[who], self.organizations[1 - who]
        available = ledger.balance_of(sender).available
        try:
            moves.send(sender=sender, recipient=recipient, amount=amount, by=None)
        except moves.NotEnough:
            assert amount > available
        else:
            assert amount <= available

    @rule(who=st.integers(0, 1))
    def refund_the_newest(self, who: int) -> None:
        account = ledger.account_of(self.organizations[who])
        lots.sync(account)
        lot = account.lots.filter(kind="paid").order_by("-pk").first()
        if lot is not None:
            back = ledger.transfer(
                debit=account,
                credit=ledger.house(AccountKind.STRIPE_CLEARING),
                amount=lot.amount,
                kind="refund",
                idempotency_key=self.key(),
            )
            lots.take_from([lot], back)

    @rule()
    def expire(self) -> None:
        lots.expire()

    @rule()
    def follow(self) -> None:
        lots.sync_all()

    @invariant()
    def the_books_agree(self) -> None:
        for organization in self.organizations:
            account = ledger.account_of(organization)
            lots.sync(account)
            rest = sum(lot.remaining for lot in account.lots.all())
            debt = sum(use.amount for use in LotUse.objects.filter(account=account, lot=None))
            assert rest - debt == ledger.balance_of(organization).posted
            assert not (rest and debt)
        assert drift() == []


@pytest.mark.django_db(transaction=False)
def test_the_books_agree_whatever_happens() -> None:
    settings_ = settings(
        max_examples=12, stateful_step_count=15, deadline=None, suppress_health_check=list(HealthCheck)
    )
    run_state_machine_as_test(Books, settings=settings_)
