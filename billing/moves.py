"""Credit from one organization to another, and what staff add or take. Nobody can give what they have not."""

from uuid import uuid4

from django.db import transaction

from accounts import audit
from accounts.models import Organization, User
from billing import ledger, lots
from billing.models import Account, AccountKind, Transfer
from billing.money import format_credits


class NotEnough(ValueError):
    """The sender has less available than it wants to give."""

    def __init__(self, available: int) -> None:
        super().__init__(f"Only {format_credits(max(0, available))} credits are available.")
        self.available = available


class InvalidMove(ValueError):
    """The two organizations are one, the recipient is being deleted, or the amount is not positive."""


_ENDING = (Organization.Status.CLOSING, Organization.Status.DELETED)


def send(
    *,
    sender: Organization,
    recipient: Organization,
    amount: int,
    by: User | None,
    origin: audit.Origin | None = None,
    idempotency_key: str = "",
    memo: str = "",
) -> Transfer:
    """Give `amount` nano-dollars to another organization; both see it. A second call with the same key is the first.

    One that is frozen, itself or its account, has nothing to give.
    Raises `NotEnough`, `InvalidMove`, `ledger.IdempotencyMismatch`.
    """
    if sender.pk == recipient.pk or amount <= 0:
        raise InvalidMove
    key = f"move:{sender.pk}:{idempotency_key or uuid4().hex}"
    debit, credit = ledger.account_of(sender), ledger.account_of(recipient)
    with transaction.atomic():
        locked = ledger.lock(debit, credit)
        is_new = not Transfer.objects.filter(idempotency_key=key).exists()
        if is_new:
            statuses = dict(Organization.objects.filter(pk__in=[sender.pk, recipient.pk]).values_list("pk", "status"))
            if statuses[recipient.pk] in _ENDING:
                raise InvalidMove
            is_frozen = statuses[sender.pk] == Organization.Status.FROZEN
            if is_frozen or locked[debit.pk].status != Account.Status.OPEN:
                raise NotEnough(0)
            if locked[debit.pk].available < amount:
                raise NotEnough(locked[debit.pk].available)
        moved = ledger.transfer(
            debit=debit,
            credit=credit,
            amount=amount,
            kind=Transfer.Kind.MOVE,
            idempotency_key=key,
            memo=memo or f"{sender.name} to {recipient.name}",
            by=by,
        )
        if not is_new:
            return moved
        for organization, action in ((sender, "credits.send"), (recipient, "credits.receive")):
            audit.record(
                action=action,
                target=organization,
                organization=organization,
                by=by,
                origin=origin,
                credits=format_credits(amount),
                other=(recipient if organization is sender else sender).slug,
            )
    return moved


def adjust(
    *,
    organization: Organization,
    amount: int,
    reason: str,
    idempotency_key: str,
    by: User | None = None,
    origin: audit.Origin | None = None,
) -> Transfer:
    """Add `amount` nano-dollars by staff's word, or take as much where it is negative: never more than is available.

    A second call with the same key is the first. Raises `NotEnough`, `InvalidMove`, `ledger.IdempotencyMismatch`.
    """
    if not amount:
        raise InvalidMove
    account, house = ledger.account_of(organization), ledger.house(AccountKind.ADJUSTMENTS)
    with transaction.atomic():
        locked = ledger.lock(account, house)
        known = Transfer.objects.filter(idempotency_key=idempotency_key).exists()
        if amount < 0 and not known and locked[account.pk].available < -amount:
            raise NotEnough(locked[account.pk].available)
        moved = ledger.transfer(
            debit=house if amount > 0 else account,
            credit=account if amount > 0 else house,
            amount=abs(amount),
            kind=Transfer.Kind.GRANT if amount > 0 else Transfer.Kind.ADJUSTMENT,
            idempotency_key=idempotency_key,
            memo=reason,
            by=by,
        )
        if known:
            return moved
        if amount < 0:
            lots.sync(account)
        audit.record(
            action="credits.adjust",
            target=organization,
            organization=organization,
            by=by,
            origin=origin,
            credits=format_credits(amount),
            reason=reason,
        )
    return moved
