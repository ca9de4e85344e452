"""The books: accounts, and the transfers between them. What else moves a balance is a hold or a usage record."""

from collections.abc import Collection
from dataclasses import dataclass
from uuid import UUID

import structlog
from django.conf import settings
from django.db import IntegrityError, models, transaction

from accounts.models import Organization, User
from billing.models import HOUSE_KINDS, Account, AccountKind, Transfer
from billing.money import MAX_NANOS

log = structlog.get_logger(__name__)

# The credit limit of accounts where no credit is sold: a billion dollars.
UNLIMITED = 10**18
# Why an account is frozen whose spent credit was refunded or disputed: until credit, of whatever kind, covers it.
CLAWED_BACK = "credit_clawed_back"


class LedgerError(Exception):
    """Base of what this module raises."""


class InvalidTransfer(LedgerError):
    """The amount is not positive or out of range, or both sides are the same account."""

    def __init__(self, debit: Account, credit: Account, amount: int) -> None:
        super().__init__(f"{amount} from account {debit.pk} to {credit.pk}")
        self.amount = amount


class IdempotencyMismatch(LedgerError):
    """The idempotency key belongs to another transfer, `existing`."""

    def __init__(self, existing: Transfer) -> None:
        super().__init__(f"{existing.idempotency_key} is {existing}")
        self.existing = existing


@dataclass(frozen=True, slots=True)
class Balance:
    """An account's figures, in nano-dollars, at one moment."""

    posted: int
    unsettled: int
    held: int
    credit_limit: int = 0

    @property
    def available(self) -> int:
        """What new requests may use."""
        return self.posted + self.credit_limit - self.unsettled - self.held


def account_of(organization: Organization) -> Account:
    """The organization's account; opened at the first call."""
    account, _ = Account.objects.get_or_create(
        organization=organization, kind=AccountKind.CUSTOMER, defaults={"credit_limit": _first_limit()}
    )
    return account


def account_ids_of(organizations: Collection[Organization]) -> dict[int, int]:
    """The account of each organization, by its id; those that have none get one."""
    accounts = Account.objects.filter(organization__in=organizations, kind=AccountKind.CUSTOMER)
    found = dict(accounts.values_list("organization_id", "pk"))
    return {one.pk: found.get(one.pk) or account_of(one).pk for one in organizations}


def apply_deployment_mode() -> None:
    """Let no account run out where no credit is sold, and let none have that limit where it is. Called at the start.

    Usage is charged in both modes alike, so budgets, reports and proofs do not differ.
    """
    unlimited = Account.objects.filter(kind=AccountKind.CUSTOMER, credit_limit=UNLIMITED)
    if settings.IS_SELF_HOSTED:
        limited = Account.objects.filter(kind=AccountKind.CUSTOMER).exclude(credit_limit=UNLIMITED)
        limited.update(credit_limit=UNLIMITED, overdrawn_reason=None, version=models.F("version") + 1)
        return
    for organization in Organization.objects.filter(accounts__in=unlimited):
        set_credit_limit(organization=organization, amount=0)


def _first_limit() -> int:
    return UNLIMITED if settings.IS_SELF_HOSTED else 0


def house(kind: str) -> Account:
    """The house's own account of `kind`."""
    if kind not in HOUSE_KINDS:
        raise ValueError(kind)
    account, _ = Account.objects.get_or_create(organization=None, kind=kind)
    return account


def lock(*accounts: Account) -> dict[int, Account]:
    """Lock accounts in the order of their ids, as everywhere, and read them anew; by id.

    Whoever makes several transfers in one transaction, or locks an account before one, begins with this: a transfer
    locks its own two in that order, so a second one could deadlock with somebody else's first.
    """
    ids = [account.pk for account in accounts]
    return {one.pk: one for one in Account.objects.select_for_update(no_key=True).filter(pk__in=ids).order_by("pk")}


def transfer(
    *,
    debit: Account,
    credit: Account,
    amount: int,
    kind: str,
    idempotency_key: str,
    memo: str = "",
    by: User | None = None,
    group: UUID | None = None,
) -> Transfer:
    """Move `amount` nano-dollars from `debit` to `credit`; a second call with the same key returns the first transfer.

    A customer's account may go below zero by it, and is tagged with `kind`; one that was frozen for a claw-back opens
    again once it is covered. Raises `InvalidTransfer`, or `IdempotencyMismatch` when the key was used for another one.
    """
    if not 0 < amount <= MAX_NANOS or debit.pk == credit.pk:
        raise InvalidTransfer(debit, credit, amount)
    try:
        with transaction.atomic():
            made = Transfer.objects.create(
                debit=debit,
                credit=credit,
                amount=amount,
                kind=kind,
                idempotency_key=idempotency_key,
                memo=memo,
                created_by=by,
                group=group,
            )
            if credit.kind == AccountKind.CUSTOMER:
                thaw(account=credit)
            return made
    except IntegrityError:
        existing = Transfer.objects.filter(idempotency_key=idempotency_key).first()
        if existing is None:
            raise
    if (existing.debit_id, existing.credit_id, existing.amount, existing.kind) != (debit.pk, credit.pk, amount, kind):
        raise IdempotencyMismatch(existing)
    return existing


def grant(
    *, organization: Organization, amount: int, reason: str, idempotency_key: str, by: User | None = None
) -> Transfer:
    """Give an organization `amount` nano-dollars out of adjustments. May be called twice, as `transfer`."""
    return transfer(
        debit=house(AccountKind.ADJUSTMENTS),
        credit=account_of(organization),
        amount=amount,
        kind=Transfer.Kind.GRANT,
        idempotency_key=idempotency_key,
        memo=reason,
        by=by,
    )


def balance_of(organization: Organization) -> Balance:
    """The organization's balance; zeros if it has no account yet."""
    figures = (
        Account.objects.filter(organization=organization, kind=AccountKind.CUSTOMER)
        .values_list("posted", "unsettled", "held", "credit_limit")
        .first()
    )
    return Balance(*figures) if figures else Balance(0, 0, 0)


def set_credit_limit(*, organization: Organization, amount: int) -> None:
    """Let an organization go `amount` nano-dollars below zero. Below what it already owes, no new request passes."""
    account = account_of(organization)
    with transaction.atomic():
        locked = Account.objects.select_for_update(no_key=True).get(pk=account.pk)
        free = locked.available - locked.credit_limit + amount
        reason = None if free >= 0 else locked.overdrawn_reason or "limit_lowered"
        Account.objects.filter(pk=account.pk).update(
            credit_limit=amount, overdrawn_reason=reason, version=models.F("version") + 1
        )
        thaw(account=account)


def freeze(*, account: Account, reason: str) -> bool:
    """Refuse new holds on an open account; False if it was not open. What runs is settled as ever."""
    changed = Account.objects.filter(pk=account.pk, status=Account.Status.OPEN).update(
        status=Account.Status.FROZEN, frozen_reason=reason, version=models.F("version") + 1
    )
    if changed:
        log.error("account_frozen", account_id=account.pk, organization_id=account.organization_id, reason=reason)
    return bool(changed)


def thaw(*, account: Account) -> bool:
    """Open an account that was frozen for a claw-back which is covered by now; False for any other."""
    owing = models.F("unsettled") - models.F("credit_limit")
    rows = Account.objects.filter(pk=account.pk, frozen_reason=CLAWED_BACK, posted__gte=owing)
    return any(unfreeze(account=row) for row in rows)


def unfreeze(*, account: Account) -> bool:
    """Open a frozen account; False if it was not frozen."""
    return bool(
        Account.objects.filter(pk=account.pk, status=Account.Status.FROZEN).update(
            status=Account.Status.OPEN, frozen_reason=None, version=models.F("version") + 1
        )
    )
