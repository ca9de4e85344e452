"""Lots: which credit was spent on what. Kept behind the transfers, never before them: no balance waits for lots.

`sync` brings an account's lots up to its transfers: each one that came in is a lot, each one that went out takes from
the lots in burn order (soonest to expire, then given before paid, then oldest). What goes out beyond all lots is a debt
that the next lots pay first. The sum of what is left minus the debt is the account's `posted`.
"""

from datetime import datetime, timedelta

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
    done = 0
    while True:
        with transaction.atomic():
            _lock(account)
            for transfer in _without_lot(account):
                add(transfer, _KINDS.get(Transfer.Kind(transfer.kind), Lot.Kind.GOODWILL))
                done += 1
            _pay_debts(account)
            pending = _unallocated(account)
            for transfer in pending:
                _take(account, transfer)
            done += len(pending)
        if len(pending) < BATCH:
            return done


def sync_all() -> int:
    """Bring every customer's lots up to date; returns how many accounts had news."""
    with connection.cursor() as cursor:
        cursor.execute(
            """SELECT DISTINCT a.id FROM billing_account a JOIN billing_transfer t ON a.id IN (t.debit_id, t.credit_id)
               WHERE a.kind = 'customer'
                 AND (t.credit_id = a.id AND NOT EXISTS (SELECT FROM billing_lot l WHERE l.transfer_id = t.id)
                      OR t.debit_id = a.id AND NOT EXISTS (SELECT FROM billing_lotuse u WHERE u.transfer_id = t.id))"""
        )
        ids = [row[0] for row in cursor.fetchall()]
    for account in Account.objects.filter(pk__in=ids):
        sync(account)
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


def soon_to_expire(account: Account, within: timedelta) -> int:
    """How much of what is left expires within this time."""
    rows = account.lots.filter(remaining__gt=0, expires_at__lte=timezone.now() + within)
    total: int | None = rows.aggregate(total=models.Sum("remaining"))["total"]
    return total or 0


def _lock(account: Account) -> Account:
    return Account.objects.select_for_update(no_key=True).get(pk=account.pk)


def _without_lot(account: Account) -> list[Transfer]:
    return list(Transfer.objects.filter(credit=account, lot=None).order_by("pk"))


def _unallocated(account: Account) -> list[Transfer]:
    return list(Transfer.objects.filter(debit=account, lot_uses=None).order_by("pk")[:BATCH])


def _in_burn_order(account: Account) -> models.QuerySet[Lot]:
    rows = Lot.objects.select_for_update(no_key=True).filter(account=account, remaining__gt=0)
    return rows.order_by(models.F("expires_at").asc(nulls_last=True), _PAID_LAST, "pk")


def _take(account: Account, transfer: Transfer, amount: int | None = None) -> None:
    left = transfer.amount if amount is None else amount
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


def _pay_debts(account: Account) -> None:
    for debt in LotUse.objects.filter(account=account, lot=None).select_related("transfer").order_by("pk"):
        left = debt.amount
        for lot in _in_burn_order(account):
            if not left:
                break
            left = _take_from(lot, debt.transfer, account, left)
        if left == debt.amount:
            return
        if left:
            debt.amount = left
            debt.save(update_fields=["amount"])
        else:
            debt.delete()
