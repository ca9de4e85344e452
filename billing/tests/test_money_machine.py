"""Purchases, refunds, disputes, transfers, credit that expires, requests and crashes in any order, against books kept
by hand. Every invariant is checked after every step."""

from datetime import timedelta
from uuid import UUID, uuid4

from django.utils import timezone
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from billing import codes, ledger, lots, moves, purchases, reaper, reconciliation, settlement
from billing.models import Account, Dispute, Lot, Order, Pack, Transfer, Worker
from billing.money import NANOS_PER_CREDIT
from billing.purchases import Payment
from billing.teller import Granted

PRICE, CREDITS, BONUS = 1_000, 800, 200
TOTAL = (CREDITS + BONUS) * NANOS_PER_CREDIT
amounts = st.integers(1, 900 * NANOS_PER_CREDIT)
picks = st.integers(0, 10**6)


def machine(run, teller, new_customer) -> type[RuleBasedStateMachine]:
    """The machine over one database; each example has two customers of its own."""
    pack = Pack.objects.create(slug="m", name="M", price_cents=PRICE, credits=CREDITS, bonus_credits=BONUS)

    class Money(RuleBasedStateMachine):
        def __init__(self) -> None:
            super().__init__()
            self.customers = [new_customer(), new_customer()]
            self.value = [0, 0]  # what each has, spent requests taken off
            self.open: dict[UUID, tuple[int, int]] = {}  # request: customer, hold
            self.orders: list[tuple[int, Order]] = []
            self.given = [0, 0]
            self.expired = [0, 0]

        def held(self, who: int) -> int:
            return sum(hold for customer, hold in self.open.values() if customer == who)

        # -------------------------------------------------- buying
        @rule(who=st.integers(0, 1))
        def order(self, who: int) -> None:
            made = purchases.order(organization=self.customers[who].organization, pack=pack, by=None)
            self.orders.append((who, made))

        @rule(pick=picks, times=st.integers(1, 3))
        def pay(self, pick: int, times: int) -> None:
            if self.orders:
                who, order = self.orders[pick % len(self.orders)]
                order.refresh_from_db()
                was_paid = order.status == Order.Status.PAID
                payment = Payment("", f"pi_{order.public_id}", PRICE, PRICE, "usd")
                paid = [purchases.pay(order, payment) for _ in range(times)]
                assert paid == [not was_paid, *[False] * (times - 1)]
                if not was_paid:
                    order.refresh_from_db()
                    self.value[who] += TOTAL - order.clawed_nanos

        @rule(pick=picks, cents=st.integers(0, PRICE), is_current=st.booleans())
        def refund(self, pick: int, cents: int, is_current: bool) -> None:
            if self.orders:
                who, order = self.orders[pick % len(self.orders)]
                self._claw(who, order, lambda: purchases.note_refunded(order, cents, is_current=is_current))

        @rule(pick=picks, number=st.integers(0, 1), cents=st.integers(1, PRICE), state=st.sampled_from(Dispute.State))
        def dispute(self, pick: int, number: int, cents: int, state: int) -> None:
            if self.orders:
                who, order = self.orders[pick % len(self.orders)]
                name = f"dp_{order.public_id}_{number}"
                self._claw(
                    who,
                    order,
                    lambda: purchases.note_dispute(order, stripe_id=name, amount_cents=cents, state=state),
                )

        def _claw(self, who: int, order: Order, act) -> None:
            order.refresh_from_db()
            before = order.clawed_nanos
            act()
            order.refresh_from_db()
            lost = min(order.paid_cents, order.refunded_cents + order.disputed_cents)
            assert order.clawed_nanos == (-(-TOTAL * lost // PRICE) if order.paid_cents else 0)
            self.value[who] -= order.clawed_nanos - before

        # -------------------------------------------------- giving
        @rule(sender=st.integers(0, 1), amount=amounts)
        def move(self, sender: int, amount: int) -> None:
            one, other = self.customers[sender], self.customers[1 - sender]
            fits = amount <= self.value[sender] - self.held(sender) and one.account.status == Account.Status.OPEN
            key = uuid4().hex
            for _ in range(2):
                try:
                    moves.send(sender=one.organization, recipient=other.organization, amount=amount, by=None,
                               idempotency_key=key)  # fmt: skip
                except moves.NotEnough:
                    assert not fits
                else:
                    assert fits
            if fits:
                self.value[sender] -= amount
                self.value[1 - sender] += amount

        @rule(who=st.integers(0, 1), amount=st.integers(1, 300))
        def redeem(self, who: int, amount: int) -> None:
            code = codes.create(credits=amount, credit_days=30)
            codes.redeem(organization=self.customers[who].organization, code=code, by=None)
            self.value[who] += amount * NANOS_PER_CREDIT
            self.given[who] += amount * NANOS_PER_CREDIT

        @rule()
        def expire(self) -> None:
            lots.expire(timezone.now() + timedelta(days=31))
            for who, customer in enumerate(self.customers):
                gone = sum(
                    Transfer.objects.filter(debit=customer.account, kind="expiry").values_list("amount", flat=True)
                )
                self.value[who] -= gone - self.expired[who]
                self.expired[who] = gone
                assert gone <= self.given[who]

        # -------------------------------------------------- using
        @rule(who=st.integers(0, 1), amount=amounts)
        def hold(self, who: int, amount: int) -> None:
            customer = self.customers[who]
            fits = amount <= self.value[who] - self.held(who) and customer.account.status == Account.Status.OPEN
            wanted = customer.hold(amount)
            answer = run(teller.hold(wanted))
            assert isinstance(answer, Granted) == fits
            if fits:
                self.open[wanted.request_id] = (who, amount)

        @rule(pick=picks, share=st.integers(0, 110))
        def capture(self, pick: int, share: int) -> None:
            """What it cost, in per cent of the hold: 0 is a void; an answer may cost more than its hold."""
            if self.open:
                request_id = sorted(self.open)[pick % len(self.open)]
                who, held = self.open.pop(request_id)
                cost = held * share // 100
                for expected in (True, False):
                    assert run(teller.capture(self.customers[who].capture(request_id, cost))).recorded is expected
                self.value[who] -= cost

        @rule(progress=st.integers(0, 1_000))
        def the_worker_dies(self, progress: int) -> None:
            for request_id in self.open:
                teller.checkpoint(request_id, progress)
            run(teller._chores(teller._settle))
            Worker.objects.update(stopped_at=Worker.objects.first().seen_at)
            reaper.reap()
            Worker.objects.update(stopped_at=None)
            for who, _ in self.open.values():
                self.value[who] -= progress
            self.open = {}

        @rule()
        def settle(self) -> None:
            settlement.settle_all()

        # -------------------------------------------------- what must always be so
        @invariant()
        def the_balances_are_right(self) -> None:
            for who, customer in enumerate(self.customers):
                account = customer.account
                assert (account.held, account.available) == (self.held(who), self.value[who] - self.held(who))
                if account.status == Account.Status.FROZEN:
                    assert account.frozen_reason == ledger.CLAWED_BACK

        @invariant()
        def the_lots_are_the_balance(self) -> None:
            for customer in self.customers:
                lots.sync(customer.account)
                left = sum(Lot.objects.filter(account=customer.account).values_list("remaining", flat=True))
                debt = sum(customer.account.lot_uses.filter(lot=None).values_list("amount", flat=True))
                assert left - debt == customer.account.posted

        @invariant()
        def the_books_prove_themselves(self) -> None:
            assert reconciliation.check() == []

        def teardown(self) -> None:
            for request_id, (who, _) in self.open.items():
                run(teller.void(self.customers[who].capture(request_id, 0)))
            for customer in self.customers:
                ledger.unfreeze(account=customer.account)

    return Money


def test_money_agrees_with_books_kept_by_hand(run, teller, new_customer):
    # The loop stands still between the steps, on a busy machine for longer than a statement may take.
    for lane in (teller._admit, teller._settle):
        lane._deadline_s = 600.0
    run_state_machine_as_test(
        machine(run, teller, new_customer),
        settings=settings(
            max_examples=10,
            stateful_step_count=20,
            deadline=None,
            print_blob=True,
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
        ),
    )
