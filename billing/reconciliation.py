"""Reconciliation proves the books: every derived figure equals the sum of the rows behind it, in one snapshot."""

from collections.abc import Iterator
from dataclasses import dataclass

import structlog
from django.conf import settings
from django.db import connection, transaction

from billing import slices
from billing.models import Account
from billing.proofs import CHECKS, FIGURES, NAMES, ROLLED, ROLLUP_KEY, Check

__all__ = ["NAMES", "Drift", "check", "drifting_accounts", "repair"]

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Drift:
    """A figure that is not what its rows say. `subject` is an id; a derived figure can be computed anew."""

    check: str
    subject: str
    expected: str
    actual: str
    is_derived: bool
    account_id: int | None = None

    def __str__(self) -> str:
        return f"{self.check} {self.subject}: {self.actual}, expected {self.expected}"


def check() -> list[Drift]:
    """Everything that is wrong, in one snapshot; an empty list is the proof. Changes nothing, locks nothing."""
    with transaction.atomic(durable=True), connection.cursor() as cursor:
        cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
        found = [drift for each in CHECKS for drift in _found(cursor, each)]
    for drift in found:
        log.error("books_drift", check=drift.check, subject=drift.subject, expected=drift.expected, actual=drift.actual)
    return found


def repair() -> list[Drift]:
    """Compute anew the derived figures that drifted, each under its account's lock; returns what was repaired.

    Transfers, usage records, holds and dead letters are never touched: what is wrong there, people must look at.
    """
    repaired = []
    checks = {each.name: each for each in CHECKS}
    for drift in check():
        if not drift.is_derived:
            continue
        with transaction.atomic(), connection.cursor() as cursor:
            if drift.check in _SUMMED_AGAIN:
                _SUMMED_AGAIN[drift.check](cursor, drift.subject)
            else:
                cursor.execute(_LOCK_ACCOUNT if drift.account_id else _LOCK_BUDGETS_ACCOUNT, [drift.subject])
                cursor.execute(checks[drift.check].repair, [drift.subject])
        log.warning("books_repaired", check=drift.check, subject=drift.subject)
        repaired.append(drift)
    return repaired


def drifting_accounts(found: list[Drift]) -> list[Account]:
    """The customers' accounts that a drift concerns."""
    ids = {drift.account_id for drift in found if drift.account_id}
    return list(Account.objects.filter(pk__in=ids, kind="customer"))


_LOCK_ACCOUNT = "SELECT 1 FROM billing_account WHERE id = %s FOR NO KEY UPDATE"
_LOCK_BUDGETS_ACCOUNT = """
SELECT 1 FROM billing_account WHERE organization_id = (SELECT organization_id FROM billing_budget WHERE id = %s)
FOR NO KEY UPDATE
"""


def _found(cursor, each: Check) -> Iterator[Drift]:  # noqa: ANN001 - Django's cursor wrapper has no public type
    cursor.execute(each.sql, {"overdue": f"{2 * settings.REAPER_WORKER_TIMEOUT_S + 300} seconds"})
    for subject, expected, actual in cursor.fetchall():
        yield Drift(
            each.name,
            str(subject),
            str(expected),
            str(actual),
            is_derived=bool(each.repair) or each.name in _SUMMED_AGAIN,
            account_id=int(subject) if each.is_of_account else None,
        )


def _roll_again(cursor, subject: str) -> None:  # noqa: ANN001
    """Compute the rollups of one organization and hour anew, while nobody settles it."""
    where = _keep_from_settling(cursor, subject)
    cursor.execute(
        "DELETE FROM billing_usagerollup WHERE organization_id = %(organization)s AND hour = %(start)s", where
    )
    columns = f"{ROLLUP_KEY}, {', '.join(FIGURES)}"
    cursor.execute(
        f"INSERT INTO billing_usagerollup ({columns}) SELECT {columns} FROM ({ROLLED} "  # noqa: S608
        "AND organization_id = %(organization)s AND created_at >= %(start)s::timestamptz "
        "AND created_at < %(start)s::timestamptz + interval '1 hour' GROUP BY 1, 2, 3, 4, 5, 6) s",
        where,
    )


def _slice_again(cursor, subject: str) -> None:  # noqa: ANN001
    """Compute the slices of one organization and day (UTC) anew, while nobody settles it."""
    where = _keep_from_settling(cursor, subject)
    cursor.execute(
        "DELETE FROM billing_usageslice WHERE organization_id = %(organization)s "
        "AND starts_at >= %(start)s::timestamptz AND starts_at < %(start)s::timestamptz + interval '1 day'",
        where,
    )
    rows = """(SELECT * FROM billing_usagerecord WHERE settled_at IS NOT NULL AND organization_id = %(organization)s
        AND created_at >= %(start)s::timestamptz AND created_at < %(start)s::timestamptz + interval '1 day') settled"""
    cursor.execute(
        f"INSERT INTO billing_usageslice ({', '.join(slices.COLUMNS)}) {slices.sliced(rows)}",
        where,
    )


def _keep_from_settling(cursor, subject: str) -> dict[str, object]:  # noqa: ANN001
    """Take the lock of settlement for `organization start`; what the statements about it take."""
    organization_id, _, start = subject.partition(" ")
    where = {"organization": int(organization_id), "start": start}
    cursor.execute(
        "SELECT pg_advisory_xact_lock(hashtextextended('billing.post_usage', a.id)) FROM billing_account a "
        "WHERE a.organization_id = %(organization)s AND a.kind = 'customer'",
        where,
    )
    return where


_SUMMED_AGAIN = {"rollups": _roll_again, "slices": _slice_again}
