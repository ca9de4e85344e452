"""Any sequence of holds, extensions, captures, reapings, settlements and grants, against the books kept by hand."""

from uuid import UUID, uuid4

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from billing import budgets, ledger, reaper, reconciliation, settlement
from billing.models import Worker
from billing.teller import Granted

CAP = 700
amounts = st.integers(1, 400)
picks = st.integers(0, 10**6)


def machine(run, teller, new_customer) -> type[RuleBasedStateMachine]:
    """The machine over one database; each example has a customer of its own, with a budget of its own."""

    class Books(RuleBasedStateMachine):
        def __init__(self) -> None:
            super().__init__()
            self.customer = new_customer(1000)
            budgets.set_budget(organization=self.customer.organization, scope="organization", period="total",
                               cost_cap_nanos=CAP, token_cap=None)  # fmt: skip
            self.credit, self.spent = 1000, 0
            self.open: dict[UUID, int] = {}
            self.charged: dict[UUID, int] = {}
            self.reaped: set[UUID] = set()

        @property
        def held(self) -> int:
            return sum(self.open.values())

        def fits(self, amount: int) -> bool:
            return amount <= self.credit - self.spent - self.held and self.spent + self.held + amount <= CAP

        @rule(sizes=st.lists(amounts, min_size=1, max_size=4))
        def hold(self, sizes: list[int]) -> None:
            holds = [self.customer.hold(size) for size in sizes]
            answers = run.together(*(teller.hold(hold) for hold in holds))
            for hold, answer in zip(holds, answers, strict=True):
                assert isinstance(answer, Granted) == self.fits(hold.amount)
                if isinstance(answer, Granted):
                    self.open[hold.request_id] = hold.amount

        @rule(pick=picks, amount=amounts)
        def extend(self, pick: int, amount: int) -> None:
            if self.open:
                request_id = sorted(self.open)[pick % len(self.open)]
                answer = run(teller.extend(request_id, amount))
                assert isinstance(answer, Granted) == self.fits(amount)
                if isinstance(answer, Granted):
                    self.open[request_id] += amount

        @rule(pick=picks, cost=st.integers(0, 500), is_repeated=st.booleans())
        def capture(self, pick: int, cost: int, is_repeated: bool) -> None:
            if self.open:
                request_id = sorted(self.open)[pick % len(self.open)]
                for expected in [True, False] if is_repeated else [True]:
                    assert run(teller.capture(self.customer.capture(request_id, cost))).recorded is expected
                del self.open[request_id]
                self.charged[request_id] = cost
                self.spent += cost

        @rule(pick=picks, cost=st.integers(0, 500))
        def capture_again(self, pick: int, cost: int) -> None:
            ended = sorted({*self.charged} - self.reaped)
            if ended:
                assert not run(teller.capture(self.customer.capture(ended[pick % len(ended)], cost))).recorded

        @rule(progress=st.integers(0, 100))
        def the_worker_dies(self, progress: int) -> None:
            for request_id in self.open:
                teller.checkpoint(request_id, progress)
            run(teller._chores(teller._settle))
            Worker.objects.update(stopped_at=Worker.objects.first().seen_at)
            reaper.reap()
            Worker.objects.update(stopped_at=None)
            self.reaped |= self.open.keys()
            self.spent += progress * len(self.open)
            self.charged |= dict.fromkeys(self.open, progress)
            self.open = {}

        @rule(pick=picks, cost=st.integers(0, 500))
        def the_worker_comes_back(self, pick: int, cost: int) -> None:
            if self.reaped:
                request_id = sorted(self.reaped)[pick % len(self.reaped)]
                self.reaped.remove(request_id)
                run(teller.capture(self.customer.capture(request_id, cost)))
                self.spent += max(0, cost - self.charged[request_id])
                self.charged[request_id] = max(cost, self.charged[request_id])

        @rule()
        def settle(self) -> None:
            settlement.settle_all()

        @rule(amount=amounts)
        def grant(self, amount: int) -> None:
            key = uuid4().hex
            for _ in range(2):
                ledger.grant(organization=self.customer.organization, amount=amount, reason="", idempotency_key=key)
            self.credit += amount

        @invariant()
        def the_figures_are_right(self) -> None:
            account = self.customer.account
            assert (account.held, account.available) == (self.held, self.credit - self.spent - self.held)
            assert (account.overdrawn_reason is not None) == (account.available < 0)

        def teardown(self) -> None:
            assert reconciliation.check() == []
            for request_id in self.open:
                run(teller.void(self.customer.capture(request_id, 0)))

    return Books


def test_the_books_agree_with_those_kept_by_hand(run, teller, new_customer):
    run_state_machine_as_test(
        machine(run, teller, new_customer),
        settings=settings(
            max_examples=25,
            stateful_step_count=25,
            deadline=None,
            print_blob=True,
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
        ),
    )
