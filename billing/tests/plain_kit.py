"""Rows for admission and settlement, plain and unusual, and what both ways through each make of them."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import orjson
import psycopg
from django.db import DatabaseError, connection, transaction
from django.utils import timezone

from accounts import keys
from accounts.models import ApiKey, Organization
from billing import blocks, budgets, end_users, ledger
from billing.lanes import encode
from billing.models import Budget, IdempotencyKey
from billing.slips import Capture, HoldRequest, StoredResponse
from billing.tests.conftest import Customer, new_id

Row = HoldRequest | Capture | dict[str, Any]
Rows = Callable[[Customer, Customer], list[Row]]

# What a call may change. Ids that a sequence gives differ from try to try, and so do moments.
STATE = """
SELECT jsonb_build_array(
    (SELECT jsonb_agg(to_jsonb(a) ORDER BY a.id) FROM billing_account a),
    (SELECT jsonb_agg(to_jsonb(h) - '{budget_ids,created_at}'::text[] || jsonb_build_object(
        'budgets', coalesce(cardinality(h.budget_ids), 0)) ORDER BY h.request_id) FROM billing_hold h),
    (SELECT jsonb_agg(to_jsonb(u) - '{budget_ids,created_at}'::text[] || jsonb_build_object(
        'budgets', coalesce(cardinality(u.budget_ids), 0)) ORDER BY u.request_id) FROM billing_usagerecord u),
    (SELECT jsonb_agg(to_jsonb(b) - '{id,created_at,period_started_at}'::text[]
        ORDER BY b.organization_id, b.scope, b.run_id, b.end_user)
        FROM billing_budget b),
    (SELECT jsonb_agg(to_jsonb(i) ORDER BY i.id) FROM billing_idempotencykey i))::text
"""
WORKER = UUID("00000000-0000-7000-8000-0000000000aa")


@dataclass(frozen=True)
class Case:
    """Rows, made after the world was made ready for them; `is_plain`: whether the short way takes them."""

    name: str
    rows: Rows
    is_plain: bool = False


def far_id() -> UUID:
    """Of a moment that has no month yet: the default partition's."""
    return UUID(int=0xFFFF << 112 | 7 << 76 | new_id().int & 0xFFFF)


class Undo(Exception):
    """Takes back what was done since the savepoint."""


@contextmanager
def undone() -> Iterator[None]:
    with suppress(Undo), transaction.atomic():
        yield
        raise Undo


def call(function: str, rows: list[Row] | str) -> Any:
    payload = rows if isinstance(rows, str) else encode(rows).decode()
    parameters = [payload, WORKER] if "admit" in function else [payload]
    if function.endswith("_one"):
        payload, *others = parameters
        parameters = [orjson.dumps(orjson.loads(payload)[0]).decode(), *others]
    kinds = "%s::json, %s" if "admit" in function else "%s::json"
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT {function}({kinds})::text", parameters)
        (answer,) = cursor.fetchone()
    return None if answer is None else orjson.loads(answer)


def state() -> Any:
    with connection.cursor() as cursor:
        cursor.execute(STATE)
        return orjson.loads(cursor.fetchone()[0])


def outcome(function: str, rows: list[Row] | str) -> tuple[Any, Any]:
    """What it answers, or with which SQLSTATE it fails, and what there is then; all of it is taken back."""
    try:
        with undone():
            answer = call(function, rows)
            if "admit" in function:
                for _, _, rule, _, _ in answer or ():
                    (rule or {}).pop("id", None)  # a sequence gives it, and takes nothing back
            return answer, state()
    except DatabaseError as error:
        cause = error.__cause__
        assert isinstance(cause, psycopg.Error)
        return cause.sqlstate, None


def both_ways(verb: str, rows: list[Row] | str) -> bool:
    """Assert that the short way and the one for everything agree; whether the short way took it."""
    before = state()
    is_one = not isinstance(rows, str) and len(rows) == 1
    short, after = outcome(f"billing_{verb}_{'one' if is_one else 'plain'}", rows)
    assert short is not None or after == before  # what it leaves to the other way is as it was
    chosen, usual = outcome(f"billing_{verb}", rows), outcome(f"billing_{verb}_any", rows)
    if chosen != usual:  # of several bad rows each may find another first: any of them divides the batch
        assert len(rows) > 1
        assert {str(chosen[0])[:2], str(usual[0])[:2]} == {"22", "23"}
    if short is not None:
        assert (short, after) == chosen
    return short is not None


# ---------------------------------------------------------------- admission


def held(row: HoldRequest) -> HoldRequest:
    assert call("billing_admit_any", [row])[0][0] is None
    return row


def ended(row: HoldRequest, customer: Customer, **more: Any) -> HoldRequest:
    call("billing_settle_any", [customer.capture(held(row), 1, **more)])
    return row


def after(act: Callable[[Customer], Any], **more: Any) -> Rows:
    def rows(a: Customer, b: Customer) -> list[Row]:
        act(a)
        return [a.hold(10, **more)]

    return rows


def strip(row: HoldRequest | Capture, *names: str, **more: Any) -> dict[str, Any]:
    """The row as JSON, without some of its fields and with others."""
    return {name: value for name, value in asdict(row).items() if name not in names} | more


def set_budget(scope: str, **subject: Any) -> Callable[[Customer], Any]:
    return lambda a: budgets.set_budget(
        organization=a.organization, scope=scope, period="day", cost_cap_nanos=100, token_cap=None, **subject
    )


def _default(a: Customer) -> None:
    end_users.set_default(organization=a.organization, period="day", cost_cap_nanos=5, token_cap=None)


def _site_default(a: Customer) -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO billing_enduserdefault (period, cost_cap_nanos) VALUES ('day', 100) ON CONFLICT DO NOTHING"
        )


def revoke(a: Customer) -> None:
    keys.revoke(key=a.key, by=None)


def _key(**values: Any) -> Callable[[Customer], Any]:
    return lambda a: ApiKey.objects.filter(pk=a.key.pk).update(**values)


def block_bad(a: Customer) -> None:
    blocks.block(organization=a.organization, end_user="bad", reason="spam")


def _freeze(a: Customer) -> None:
    ledger.freeze(account=a.account, reason="test")


def _close(a: Customer) -> None:
    Organization.objects.filter(pk=a.organization.pk).update(status="closing")


def _rich_house() -> int:
    house = ledger.house("revenue")
    type(house).objects.filter(pk=house.pk).update(credit_limit=100)
    return house.pk


def _nothing(a: Customer) -> None:
    pass


HOUR = timedelta(hours=1)
LONG = "ü" * 600
TEXTS = ("deployment", "end_user", "run_id", "run_cap")
ADMISSIONS = [
    Case("plain", after(_nothing, tokens=7), True),
    Case("all of it", lambda a, b: [a.hold(1000)], True),
    Case("on credit", after(lambda a: ledger.set_credit_limit(organization=a.organization, amount=5)), True),
    Case("beyond the credit, within the limit",
         lambda a, b: [ledger.set_credit_limit(organization=a.organization, amount=5), a.hold(1005)][1:], True),
    Case("far in the future", lambda a, b: [a.hold(1, request_id=far_id())], True),
    Case("long texts", after(_nothing, end_user=LONG, run_id=LONG, model=LONG, endpoint=LONG, deployment=LONG), True),
    Case("only what must be there",
         lambda a, b: [strip(a.hold(3), "tokens", "model", "endpoint", "price_version", "stream", *TEXTS)],
         True),
    Case("unknown fields", lambda a, b: [strip(a.hold(3), more=[1], budget_ids="{1}", reason="new", n=4)], True),
    Case("a budget", after(set_budget("organization"))),
    Case("a budget of an end user", after(set_budget("end_user", end_user="u"), end_user="u")),
    Case("a run with a cap", after(_nothing, run_id="r", run_cap=9)),
    Case("a cap without a run", after(_nothing, run_cap=9)),
    Case("a run with a budget", after(set_budget("run", run_id="r"), run_id="r")),
    Case("a default budget", after(_default, end_user="u")),
    Case("a default budget, nobody", after(_default), True),
    Case("a default for all", after(_site_default, end_user="u")),
    Case("a default for all, nobody", after(_site_default), True),
    Case("blocked", after(block_bad, end_user="bad")),
    Case("repeated", lambda a, b: [held(a.hold(10))]),
    Case("another's id", lambda a, b: [b.hold(9, request_id=held(a.hold(10)).request_id)]),
    Case("ended", lambda a, b: [ended(a.hold(10), a)]),
    Case("twice in one batch", lambda a, b: [a.hold(10)] * 2),
    Case("revoked", after(revoke)),
    Case("revoked soon", after(_key(revoked_at=timezone.now() + HOUR)), True),
    Case("expired", after(_key(expires_at=timezone.now()))),
    Case("expires soon", after(_key(expires_at=timezone.now() + HOUR)), True),
    Case("another's key", lambda a, b: [replace(a.hold(1), key_id=b.key.pk)]),
    Case("no key", lambda a, b: [replace(a.hold(1), key_id=2**40)]),
    Case("another's organization", lambda a, b: [replace(b.hold(1), account_id=a.account_id)]),
    Case("a house account", lambda a, b: [replace(a.hold(1), account_id=_rich_house())]),
    Case("no account", lambda a, b: [replace(a.hold(1), account_id=2**40)]),
    Case("no account given", lambda a, b: [strip(a.hold(1), "account_id")]),
    Case("no id given", lambda a, b: [strip(a.hold(1), "request_id")]),
    Case("frozen", after(_freeze)),
    Case("closing", after(_close)),
    Case("too much", lambda a, b: [a.hold(1001)]),
    Case("too much together", lambda a, b: [a.hold(600), b.hold(1), a.hold(401), a.hold(400)]),
    Case("nothing", lambda a, b: [a.hold(0)]),
    Case("less than nothing", lambda a, b: [a.hold(-1)]),
    Case("no amount", lambda a, b: [strip(a.hold(1), "amount")]),
    Case("beyond all numbers", lambda a, b: [a.hold(2**80)]),
    Case("beyond all sums", lambda a, b: [a.hold(2**62), a.hold(2**62), a.hold(2**62)]),
    Case("less than no tokens", lambda a, b: [a.hold(1, tokens=-1)]),
    Case("no id at all", lambda a, b: [strip(a.hold(1), request_id="x")]),
]  # fmt: skip


# ---------------------------------------------------------------- settlement


def capture(cost: int = 6, **more: Any) -> Rows:
    return lambda a, b: [a.capture(held(a.hold(10)), cost, **more)]


def _claimed(state: str = "running") -> Rows:
    def rows(a: Customer, b: Customer) -> list[Row]:
        hold = held(a.hold(10))
        IdempotencyKey.objects.create(
            organization=a.organization,
            key=uuid4().hex,
            body_sha=b"b",
            request_id=hold.request_id,
            worker=WORKER,
            state=state,
        )
        return [a.capture(hold, 3, response=StoredResponse(200, [], b"answer"))]

    return rows


def _held_then(act: Callable[[Customer], Any], **more: Any) -> Rows:
    def rows(a: Customer, b: Customer) -> list[Row]:
        hold = held(a.hold(10, **more))
        act(a)
        return [a.capture(hold, 6, input_tokens=5, output_tokens=2)]

    return rows


def _in_debt(a: Customer, b: Customer) -> list[Row]:
    """An account whose reason of being overdrawn goes again when a hold ends."""
    big, small = held(a.hold(900)), held(a.hold(100))
    call("billing_settle_any", [a.capture(small, 500)])
    return [a.capture(big, 0)]


def _with_budgets(a: Customer, b: Customer) -> list[Row]:
    """Rows of several budgets each, which they share, and one of none."""
    set_budget("organization")(a)
    set_budget("key", key=a.key)(a)
    return [
        a.capture(held(a.hold(10, tokens=9, run_id="r", run_cap=80)), 5, input_tokens=3, run_id="r"),
        a.capture(held(a.hold(11, tokens=8, run_id="r")), 12, input_tokens=3, output_tokens=2, run_id="r"),
        b.capture(held(b.hold(10)), 5),
    ]


def _held_yesterday(a: Customer, b: Customer) -> list[Row]:
    set_budget("organization")(a)
    capture = a.capture(held(a.hold(10)), 5)
    Budget.objects.update(period_started_at=timezone.now() - 25 * HOUR, used_cost_nanos=9)
    return [capture]


MANY = {
    "upstream_cost": 5, "status_code": 206, "price_version": 3, "provider": LONG, "deployment": LONG, "org_label": LONG,
    "stream": True, "input_tokens": 1, "cached_tokens": 2, "cache_write_tokens": 3, "output_tokens": 4,
    "reasoning_tokens": 5, "audio_input_tokens": 6, "audio_output_tokens": 7, "image_input_tokens": 8,
    "image_output_tokens": 9, "units": {"seconds": 1.5}, "usage": {"a": [1, None]}, "estimated": True,
    "service_tier": LONG, "latency_ms": 2**40, "ttft_ms": 2**40, "upstream_request_id": LONG, "error_code": LONG,
    "attempts": [{"ms": 1}], "outcome": LONG,
}  # fmt: skip
SETTLEMENTS = [
    Case("plain", capture(), True),
    Case("a void", capture(0), True),
    Case("everything", capture(**MANY), True),
    Case("what the reaper sends", lambda a, b: [{
        name: value for name, value in asdict(a.capture(held(a.hold(10)), 1, stream=True)).items()
        if name in {"request_id", "account_id", "organization_id", "key_id", "model", "endpoint", "outcome", "cost"}}],
        True),
    Case("no key", lambda a, b: [replace(a.capture(held(a.hold(10)), 1), key_id=None)], True),
    Case("above the hold", capture(1500), True),
    Case("out of debt", _in_debt, True),
    Case("far in the future",
         lambda a, b: [a.capture(held(a.hold(1, request_id=far_id())), 1)], True),
    Case("frozen meanwhile", _held_then(_freeze), True),
    Case("a response that nobody waits for", capture(response=StoredResponse(200, [], b"x")), True),
    Case("no hold", lambda a, b: [a.capture(new_id(), 5)]),
    Case("no hold, with a budget", lambda a, b: [set_budget("organization")(a), a.capture(new_id(), 5)][1:]),
    Case("another's hold", lambda a, b: [b.capture(held(a.hold(10)), 5)]),
    Case("repeated", lambda a, b: [a.capture(ended(a.hold(10), a), 5)]),
    Case("repeated, and held by another", lambda a, b: [a.capture(_taken(a, b), 5)]),
    Case("reaped", lambda a, b: [a.capture(ended(a.hold(10), a, error_code="worker_lost"), 5)]),
    Case("twice in one batch", lambda a, b: [a.capture(held(a.hold(10)), 5)] * 2),
    Case("with a budget", lambda a, b: [set_budget("organization")(a), a.capture(held(a.hold(10)), 5)][1:], True),
    Case("with budgets", _with_budgets, True),
    Case("a budget that a new period begins for", _held_yesterday, True),
    Case("a budget since", _held_then(set_budget("organization")), True),
    Case("a run", lambda a, b: [a.capture(held(a.hold(10, run_id="r", run_cap=50)), 5, run_id="r")], True),
    Case("claimed", _claimed()),
    Case("claimed and done", _claimed("done")),
    Case("no account", lambda a, b: [replace(a.capture(held(a.hold(10)), 5), account_id=2**40)]),
    Case("no account given", lambda a, b: [strip(a.capture(held(a.hold(10)), 5), "account_id")]),
    Case("no id given", lambda a, b: [strip(a.capture(held(a.hold(10)), 5), "request_id")]),
    Case("no cost", lambda a, b: [strip(a.capture(held(a.hold(10)), 5), "cost")]),
    Case("no model", lambda a, b: [strip(a.capture(held(a.hold(10)), 5), "model")]),
    Case("less than nothing", capture(-1)),
    Case("beyond all numbers", capture(2**70)),
    Case("a fortune", capture(2**63 - 1), True),
    Case("beyond all sums", lambda a, b: [a.capture(held(a.hold(1)), 2**63 - 1) for _ in "ab"]),
    Case("beyond all codes", capture(status_code=2**40)),
]  # fmt: skip


def _taken(a: Customer, b: Customer) -> HoldRequest:
    """A hold of one's own whose record another has written: nobody does that, and one charge is still enough."""
    hold = held(a.hold(10))
    call("billing_settle_any", [b.capture(hold.request_id, 1)])
    return hold


CASES = {"admit": ADMISSIONS, "settle": SETTLEMENTS}
