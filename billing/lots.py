"""Lots: which credit was spent on what. Kept behind the transfers, never before them: no balance waits for lots.

`sync` brings an account's lots up to its transfers: each one that came in is a lot, each one that went out takes from
the lots in burn order (soonest to expire, then given before paid, then oldest). What goes out beyond all lots is a debt
that the next lots pay first. The sum of what is left minus the debt is the account's `posted`.
"""

import json
from datetime import datetime
from itertools import batched

from django.db import connection, models, transaction
from django.utils import timezone

from billing import ledger
from billing.models import Account, AccountKind, Lot, LotUse, Transfer

_KINDS = {
    Transfer.Kind.PURCHASE: Lot.Kind.PAID,
    Transfer.Kind.MOVE: Lot.Kind.PAID,
    Transfer.Kind.REFUND: Lot.Kind.PAID,
    Transfer.Kind.DISPUTE: Lot.Kind.PAID,
    Transfer.Kind.BONUS: Lot.Kind.BONUS,
    Transfer.Kind.PROMOTION: Lot.Kind.PROMOTIONAL,
}
_PAID_LAST = models.Case(models.When(kind=Lot.Kind.PAID, then=1), default=0)
BATCH = 1_000
ACCOUNTS_TOGETHER = 50  # locked at once while their lots follow: requests of theirs wait so long

_LOCK = "SELECT id FROM billing_account WHERE id = ANY(%s) ORDER BY id FOR NO KEY UPDATE"
_LOCK_FREE = f"{_LOCK} SKIP LOCKED"
_NEW_LOTS = """
INSERT INTO billing_lot (account_id, transfer_id, kind, amount, remaining)
SELECT t.credit_id, t.id, coalesce(%s::jsonb ->> t.kind, %s), t.amount, t.amount FROM billing_transfer t
WHERE t.credit_id = ANY(%s) AND NOT EXISTS (SELECT FROM billing_lot l WHERE l.transfer_id = t.id)
ORDER BY t.id
ON CONFLICT (transfer_id) DO NOTHING
"""
# Lots in burn order lie side by side on a line, and so do what is owed and then what went out since: what lies above
# what is what is taken from what. Beyond the lots' end lies what is still owed.
_USES = """
WITH lots AS (
    SELECT id, account_id, sum(remaining) OVER burning - remaining AS low, sum(remaining) OVER burning AS high
    FROM billing_lot WHERE account_id = ANY(%(ids)s) AND remaining > 0
    WINDOW burning AS (
        PARTITION BY account_id ORDER BY expires_at NULLS LAST, kind = %(paid)s, id ROWS UNBOUNDED PRECEDING)),
pending AS (
    SELECT t.id, t.debit_id, t.amount FROM billing_transfer t
    WHERE t.debit_id = ANY(%(ids)s) AND NOT EXISTS (SELECT FROM billing_lotuse u WHERE u.transfer_id = t.id)
    ORDER BY t.id LIMIT %(batch)s),
claims AS (
    SELECT u.id AS debt_id, u.transfer_id, u.account_id, u.amount FROM billing_lotuse u
    WHERE u.account_id = ANY(%(ids)s) AND u.lot_id IS NULL
    UNION ALL SELECT NULL, p.id, p.debit_id, p.amount FROM pending p),
placed AS (
    SELECT c.*, sum(amount) OVER claiming - amount AS low, sum(amount) OVER claiming AS high
    FROM claims c
    WINDOW claiming AS (
        PARTITION BY account_id ORDER BY debt_id NULLS LAST, transfer_id ROWS UNBOUNDED PRECEDING)),
owed AS (
    SELECT p.*, least(p.amount, p.high - coalesce(e.high, 0)) AS rest FROM placed p
    LEFT JOIN (SELECT account_id, max(high) AS high FROM lots GROUP BY 1) e USING (account_id)
    WHERE p.high > coalesce(e.high, 0)),
taken AS (
    SELECT p.transfer_id, p.account_id, l.id AS lot_id, p.low AS claim, l.low AS place,
        least(p.high, l.high) - greatest(p.low, l.low) AS amount
    FROM placed p JOIN lots l ON l.account_id = p.account_id AND l.low < p.high AND p.low < l.high),
burned AS (
    UPDATE billing_lot b SET remaining = b.remaining - t.amount
    FROM (SELECT lot_id, sum(amount) AS amount FROM taken GROUP BY 1) t WHERE b.id = t.lot_id),
paid AS (
    DELETE FROM billing_lotuse u USING placed p
    WHERE u.id = p.debt_id AND NOT EXISTS (SELECT FROM owed o WHERE o.debt_id = p.debt_id)),
partly AS (
    UPDATE billing_lotuse u SET amount = o.rest FROM owed o WHERE u.id = o.debt_id AND o.rest < u.amount),
made AS (
    INSERT INTO billing_lotuse (transfer_id, account_id, lot_id, amount)
    SELECT transfer_id, account_id, lot_id, amount FROM (
        SELECT transfer_id, account_id, lot_id, amount, claim, place FROM taken
        UNION ALL SELECT transfer_id, account_id, NULL, rest, low, NULL FROM owed WHERE debt_id IS NULL) u
    ORDER BY account_id, claim, place NULLS LAST)
SELECT count(*) FROM pending
"""


def add(transfer: Transfer, kind: str, *, expires_at: datetime | None = None) -> Lot:
    """The lot of a transfer to a customer, in the transfer's transaction; the one that is there if it was added."""
    lot, _ = Lot.objects.get_or_create(
        transfer=transfer,
        defaults={
            "account_id": transfer.credit_id,
            "kind": kind,
            "amount": transfer.amount,
            "remaining": transfer.amount,
            "expires_at": expires_at,
        },
    )
    return lot


def sync(account: Account) -> int:
    """Bring the lots up to the transfers; returns how many transfers were new. May run twice, and at the same time."""
    done, _ = _sync([account.pk], _LOCK)
    return done


def sync_all() -> int:
    """Bring every customer's lots up to date; returns how many accounts had news."""
    with connection.cursor() as cursor:
        cursor.execute(
            """SELECT DISTINCT a.id FROM billing_account a JOIN billing_transfer t ON a.id IN (t.debit_id, t.credit_id)
               WHERE a.kind = 'customer'
                 AND (t.credit_id = a.id AND NOT EXISTS (SELECT FROM billing_lot l WHERE l.transfer_id = t.id)
                      OR t.debit_id = a.id AND NOT EXISTS (SELECT FROM billing_lotuse u WHERE u.transfer_id = t.id))
               ORDER BY a.id"""
        )
        ids = [row[0] for row in cursor.fetchall()]
    for together in batched(ids, ACCOUNTS_TOGETHER, strict=False):
        _, busy = _sync(list(together), _LOCK_FREE)
        for account_id in busy:
            _sync([account_id], _LOCK)
    return len(ids)


def take_from(lots: list[Lot], transfer: Transfer) -> None:
    """Let a transfer, such as a refund, take from these lots first and then from the others. Lots are in sync."""
    account = transfer.debit
    _lock(account)
    left = transfer.amount
    for lot in Lot.objects.select_for_update(no_key=True).filter(pk__in=[lot.pk for lot in lots]).order_by("pk"):
        left = _take_from(lot, transfer, account, left)
    if left:
        _take(account, transfer, left)


def expire(now: datetime | None = None) -> int:
    """Move what is left of expired lots to breakage; returns how many lots.

    What was used and is not settled, and what running requests hold, would burn these lots first: so much of them stays
    until it is known, however much other credit there is.
    """
    now = now or timezone.now()
    expired = 0
    accounts = Account.objects.filter(lots__expires_at__lte=now, lots__remaining__gt=0, kind=AccountKind.CUSTOMER)
    for account in accounts.distinct():
        with transaction.atomic():
            breakage = ledger.house(AccountKind.BREAKAGE)
            locked = ledger.lock(account, breakage)[account.pk]
            sync(account)
            outstanding = locked.unsettled + locked.held
            free = locked.posted - outstanding
            for lot in account.lots.filter(expires_at__lte=now, remaining__gt=0).order_by("expires_at", "pk"):
                kept = min(outstanding, lot.remaining)
                outstanding -= kept
                amount = min(lot.remaining - kept, free)
                if amount <= 0:
                    continue
                gone = ledger.transfer(
                    debit=account,
                    credit=breakage,
                    amount=amount,
                    kind=Transfer.Kind.EXPIRY,
                    idempotency_key=f"expiry:{lot.pk}:{lot.remaining}",
                    memo=f"Expired: {lot.kind} credit of {lot.created_at:%Y-%m-%d}",
                )
                _take_from(lot, gone, account, amount)
                free -= amount
                expired += 1
    return expired


def summary(account: Account) -> list[dict[str, object]]:
    """What is left, by kind and expiry, in burn order."""
    rows = account.lots.filter(remaining__gt=0).values("kind", "expires_at")
    return list(
        rows.annotate(left=models.Sum("remaining"), last=_PAID_LAST).order_by(
            models.F("expires_at").asc(nulls_last=True), "last", "kind"
        )
    )


def _lock(account: Account) -> Account:
    return Account.objects.select_for_update(no_key=True).get(pk=account.pk)


def _sync(account_ids: list[int], lock: str) -> tuple[int, list[int]]:
    """How many transfers were new, and the accounts that were left, because another held them.

    Accounts are locked together, in the order of their ids; none waits for another's lock with `_LOCK_FREE`.
    """
    done, busy = 0, set[int]()
    while True:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(lock, [account_ids])
            locked = [row[0] for row in cursor.fetchall()]
            busy |= set(account_ids) - set(locked)
            cursor.execute(_NEW_LOTS, [json.dumps(_KINDS), Lot.Kind.GOODWILL, locked])
            done += cursor.rowcount
            cursor.execute(_USES, {"ids": locked, "paid": Lot.Kind.PAID, "batch": BATCH})
            taken = cursor.fetchone()[0]
        done += taken
        if taken < BATCH:
            return done, sorted(busy)


def _in_burn_order(account: Account) -> models.QuerySet[Lot]:
    rows = Lot.objects.select_for_update(no_key=True).filter(account=account, remaining__gt=0)
    return rows.order_by(models.F("expires_at").asc(nulls_last=True), _PAID_LAST, "pk")


def _take(account: Account, transfer: Transfer, left: int) -> None:
    for lot in _in_burn_order(account):
        if not left:
            return
        left = _take_from(lot, transfer, account, left)
    if left:
        LotUse.objects.create(transfer=transfer, account=account, lot=None, amount=left)


def _take_from(lot: Lot, transfer: Transfer, account: Account, wanted: int) -> int:
    """Returns what is still wanted."""
    taken = min(lot.remaining, wanted)
    if taken:
        lot.remaining -= taken
        lot.save(update_fields=["remaining"])
        LotUse.objects.create(transfer=transfer, account=account, lot=lot, amount=taken)
    return wanted - taken
