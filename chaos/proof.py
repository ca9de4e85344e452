"""What must be true: the clients' view against the books. Every function returns what is wrong, in words."""

import contextlib
from collections import Counter, defaultdict
from typing import Any

from billing.slips import rest_id
from chaos import spoken_proof
from chaos.asked import REALTIME, TRANSCRIPTIONS, Asked, Spoken
from chaos.ground import DEAD_AFTER_S, Ground, record
from chaos.load import Load
from chaos.records import Books, rows_of
from config.tests import books, storm
from config.tests.processes import wait_for

# Beat calls the reaper every 30 s and settlement every 5 s.
SETTLED_WITHIN_S = DEAD_AFTER_S + 100.0
# What a customer may meet while things are struck; everything else is our fault.
EXPECTED = {
    "rich": {0, 200, 409, 502, 503, 504},
    "poor": {0, 200, 429, 502, 503, 504},
    "capped": {0, 200, 429, 502, 503, 504},
    "hell": {0, 200, 400, 502, 503, 504},
}


def promptly(ground: Ground, load: Load, since: int) -> list[str]:
    """Every answer that was seen whole is on the books already, at its price: it was committed before its last byte."""
    whole = [asked for asked in load.asked[since:] if asked.is_whole]
    ids = [books.uuid_of(asked.request_id) for asked in whole if asked.request_id]
    found = rows_of(ground, "request_id = any(%s) or endpoint = %s", ids + [rest_id(id_) for id_ in ids], REALTIME)
    return [*found.wrong, *(wrong for asked in whole for wrong in _of_whole(found, asked)), *load.broken]


def finally_(ground: Ground, load: Load) -> list[str]:
    """After the load: Celery settles all by itself; then every request, customer and figure is looked at."""
    wrong = _settled_by_itself(ground)
    found = rows_of(ground)
    asked = load.asked
    called = {call.marker for call in ground.upstream.calls}
    wrong += found.wrong
    for one in asked:
        wrong += _of_whole(found, one) if one.is_whole else _of_broken(found, one, called)
        wrong += _of_status(one)
    wrong += _of_upstream(found, called)
    wrong += _of_uploads(ground, asked)
    wrong += spoken_proof.of_all(found, ground.upstream.calls)
    wrong += _of_repeated(found, asked)
    wrong += _of_customers(ground)
    wrong += load.broken
    letters = ground.site.query(
        "select error from billing_deadletter where (payload->>'organization_id')::bigint = any(%s)",
        ground.organization_ids,
    )
    wrong += [f"a dead letter: {letter['error']}" for letter in letters]
    return wrong


def reconciled(ground: Ground) -> list[str]:
    """What `manage.py reconcile` finds."""
    return [f"reconcile: {drift}" for drift in ground.site.clerk.reconcile()["drift"]]


def figures(ground: Ground, load: Load) -> dict[str, Any]:
    """For the record."""
    rows = ground.site.query(
        "select outcome, count(*) as n from billing_usagerecord where organization_id = any(%s) group by 1 order by 1",
        ground.organization_ids,
    )
    asked = load.asked
    return {
        "requests": len(asked),
        "answered whole": sum(one.is_whole for one in asked),
        "of them uploads": sum(one.is_whole and bool(one.sha256) for one in asked),
        "of them Realtime responses": sum(one.is_whole and isinstance(one, Spoken) for one in asked),
        "ends of sessions": spoken_proof.endings(asked),
        "statuses": dict(sorted(Counter(one.status for one in asked).items())),
        "calls upstream": len(ground.upstream.calls),
        "usage records": {row["outcome"]: row["n"] for row in rows},
        "snapshots checked": load.checks,
    }


# ---------------------------------------------------------------- one request


def _of_status(one: Asked) -> list[str]:
    if one.status not in EXPECTED[one.kind.customer]:
        return [f"{one} was answered {one.status}"]
    if one.status == 503 and not one.retry_after:
        return [f"{one} was answered 503 without Retry-After"]
    return spoken_proof.of_ending(one) if isinstance(one, Spoken) else []


def _of_whole(found: Books, one: Asked) -> list[str]:
    if isinstance(one, Spoken):
        return spoken_proof.of_whole(found, one)
    if one.kind.customer == "hell":
        row = found.by_id.get(books.uuid_of(one.request_id))
        return [] if row is not None else [f"{one} was seen whole and is not on the books"]
    if one.is_replay:
        return []  # its charge is the first one's: `_of_repeated`
    charged = found.charged(books.uuid_of(one.request_id))
    return [] if charged == one.price else [f"{one} was seen whole: charged {charged}, its price is {one.price}"]


def _of_broken(found: Books, one: Asked, called: set[str]) -> list[str]:
    charged = found.charged(books.uuid_of(one.request_id)) if one.request_id else None
    if not charged:
        return []
    if one.marker not in called:
        return [f"{one} never reached the upstream and was charged {charged}"]
    row = found.by_id.get(books.uuid_of(one.request_id))
    held = row["hold_nanos"] if row is not None else 0
    most = max(held, one.kind.price(one.tokens * (10 if one.kind.customer == "hell" else 1)))
    return [f"{one} was charged {charged}, more than {most}"] if charged > most else []


def _of_upstream(found: Books, called: set[str]) -> list[str]:
    """Each request is charged once, and only what the upstream was asked."""
    wrong = []
    for marker, rows in found.by_marker.items():
        # An adjustment charges the rest of a row of no cost, or of a checkpoint that knows no upstream.
        if len(rows) > 1:
            wrong.append(f"{marker} was charged {len(rows)} times: {[row['outcome'] for row in rows]}")
        if marker not in called:
            wrong.append(f"{marker} was charged and never asked of the upstream")
    return wrong


def _of_uploads(ground: Ground, asked: list[Asked]) -> list[str]:
    """What the upstream heard is the file that the client sent, every byte of it."""
    sent = {one.marker: one.sha256 for one in asked if one.sha256}
    heard = [call for call in ground.upstream.calls if call.path == TRANSCRIPTIONS]
    return [
        f"{call.marker}: {call.body['file']['size']} bytes went upstream, and not those that were sent"
        for call in heard
        if call.body["file"]["sha256"] != sent.get(call.marker)
    ]


def _of_repeated(found: Books, asked: list[Asked]) -> list[str]:
    """Under one Idempotency-Key at most one charge, and exactly one where an answer was seen."""
    tries: dict[str, list[Asked]] = defaultdict(list)
    for one in asked:
        if one.kind.is_repeated:
            tries[one.marker].append(one)
    wrong = []
    for marker, ones in tries.items():
        costs = [row["cost_nanos"] for row in found.by_marker.get(marker, [])]
        if any(one.is_whole for one in ones) and costs != [ones[0].price]:
            wrong.append(f"{marker}, repeated {len(ones)} times under its key, was charged {costs}")
    return wrong


# ---------------------------------------------------------------- all of it


def _settled_by_itself(ground: Ground) -> list[str]:
    """The reaper and settlement, driven by beat, end what was left; without Celery they are called here."""

    def is_settled() -> bool:
        if not ground.has_celery:
            ground.site.clerk.reap(dead_after_s=storm.DEAD_AFTER_S)
            ground.site.clerk.settle()
        left = ground.site.query(
            "select 1 as n from billing_account where (unsettled <> 0 or held <> 0) and organization_id = any(%s)",
            ground.organization_ids,
        )
        return not left

    with contextlib.suppress(AssertionError):
        wait_for(is_settled, timeout_s=SETTLED_WITHIN_S, what="all is settled", every_s=0.5)
        return []
    holds = books.holds(ground.site)
    return [f"not settled within {SETTLED_WITHIN_S:.0f} s by beat and worker; {holds} holds are left"]


def _of_customers(ground: Ground) -> list[str]:
    wrong = []
    for name, customer in ground.customers.items():
        spent = sum(row["cost_nanos"] for row in books.usage(ground.site, customer.id))
        if name == "capped" and spent > customer.cap:
            wrong.append(f"the capped key spent {spent}, its budget is {customer.cap}")
        try:
            books.prove(ground.site, record(customer), credit=customer.credit, spent=spent)
        except AssertionError as error:
            wrong.append(f"{name}: {error or 'the account is not what was given less what was spent'}")
        left = ground.site.query(
            "select posted + credit_limit - unsettled - held as available, overdrawn_reason as reason "
            "from billing_account where id = %s",
            customer.account_id,
        )[0]
        if left["available"] < 0 and not left["reason"]:
            wrong.append(f"{name} is at {left['available']} without a reason")
    return wrong
