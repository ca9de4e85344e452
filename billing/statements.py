"""The statement of a month: opening balance, what came in, usage by model, what else went out, closing balance.

It is made of transfers, so it always adds up: opening + in - out = closing, and a closed month never changes.
"""

import csv
import io
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime
from zoneinfo import ZoneInfo

from django.db import connection, models

from accounts.models import Organization
from billing import ledger
from billing.models import Account, Transfer
from billing.money import format_credits

_LABELS = {
    Transfer.Kind.PURCHASE: "Purchase",
    Transfer.Kind.BONUS: "Bonus",
    Transfer.Kind.GRANT: "Credit given",
    Transfer.Kind.PROMOTION: "Promotion",
    Transfer.Kind.REFUND: "Refund",
    Transfer.Kind.DISPUTE: "Dispute",
    Transfer.Kind.EXPIRY: "Expired",
    Transfer.Kind.ADJUSTMENT: "Adjustment",
    Transfer.Kind.MOVE: "Transfer",
    Transfer.Kind.USAGE: "Usage",
}


@dataclass(frozen=True, slots=True)
class Line:
    """One line; `nanos` is signed: what came in is positive."""

    at: datetime | None
    label: str
    detail: str
    requests: int
    nanos: int


@dataclass(frozen=True, slots=True)
class Statement:
    organization: Organization
    month: date
    opening: int
    movements: list[Line]
    usage: list[Line]
    closing: int

    @property
    def received(self) -> int:
        return sum(line.nanos for line in self.movements if line.nanos > 0)

    @property
    def spent(self) -> int:
        return -sum(line.nanos for line in self.usage)

    @property
    def lines(self) -> Iterator[Line]:
        yield from self.movements
        yield from self.usage


def label_of(kind: str) -> str:
    """A transfer's kind in words."""
    return _LABELS[Transfer.Kind(kind)]


def months(organization: Organization) -> list[date]:
    """The months with a statement, the newest first: from the first transfer to the present one."""
    account = ledger.account_of(organization)
    zone = ZoneInfo(organization.timezone)
    first = Transfer.objects.filter(_of(account)).order_by("created_at").values_list("created_at", flat=True).first()
    today = datetime.now(zone).date().replace(day=1)
    start = first.astimezone(zone).date().replace(day=1) if first else today
    found = []
    while start <= today:
        found.append(start)
        start = _next(start)
    return found[::-1]


def of_month(organization: Organization, month: date) -> Statement:
    """The statement of the month that begins at `month`, in the organization's time zone."""
    account = ledger.account_of(organization)
    zone = ZoneInfo(organization.timezone)
    start = datetime(month.year, month.month, 1, tzinfo=zone)
    end_month = _next(month.replace(day=1))
    end = datetime(end_month.year, end_month.month, 1, tzinfo=zone)
    rows = Transfer.objects.filter(_of(account), created_at__gte=start, created_at__lt=end).order_by("pk")
    movements = [
        Line(row.created_at, label_of(row.kind), row.memo, 0, _signed(row, account))
        for row in rows.exclude(kind=Transfer.Kind.USAGE)
    ]
    usage = _usage(account, start, end)
    opening = _balance_before(account, start)
    closing = opening + sum(line.nanos for line in movements) + sum(line.nanos for line in usage)
    return Statement(organization, month.replace(day=1), opening, movements, usage, closing)


def as_csv(statement: Statement) -> str:
    """One line each, amounts in credits; opening first, closing last."""
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(["time", "type", "detail", "requests", "credits"])
    writer.writerow(["", "Opening balance", "", "", format_credits(statement.opening)])
    for line in statement.lines:
        at = line.at.isoformat() if line.at else ""
        writer.writerow([at, line.label, plain(line.detail), line.requests or "", format_credits(line.nanos)])
    writer.writerow(["", "Closing balance", "", "", format_credits(statement.closing)])
    return out.getvalue()


def as_pdf(statement: Statement, *, site_name: str) -> bytes:
    """The same on paper."""
    from fpdf import FPDF, FontFace  # noqa: PLC0415 - with its fonts 20 MB of every process that never writes one

    pdf = FPDF()
    pdf.set_title(f"Statement {statement.month:%Y-%m}")
    pdf.add_page()
    pdf.set_font("helvetica", "B", 16)
    pdf.cell(0, 10, _latin(f"{site_name}: statement of {statement.month:%B %Y}"), new_x="LMARGIN", new_y="NEXT")
    pdf.set_font("helvetica", "", 10)
    for text in (
        f"{statement.organization.name} ({statement.organization.slug})",
        f"Amounts in credits of 0.01 USD; times in {statement.organization.timezone}",
    ):
        pdf.cell(0, 6, _latin(text), new_x="LMARGIN", new_y="NEXT")
    pdf.ln(4)
    zone = ZoneInfo(statement.organization.timezone)
    pdf.set_font("helvetica", "", 9)
    with pdf.table(
        col_widths=(30, 30, 70, 20, 35),
        text_align=("LEFT", "LEFT", "LEFT", "RIGHT", "RIGHT"),
        headings_style=FontFace(emphasis="BOLD"),
    ) as table:
        table.row(["Time", "Type", "Detail", "Requests", "Credits"])
        table.row(["", "Opening balance", "", "", format_credits(statement.opening)])
        for line in statement.lines:
            at = f"{line.at.astimezone(zone):%Y-%m-%d %H:%M}" if line.at else ""
            table.row([at, line.label, _latin(line.detail), str(line.requests or ""), format_credits(line.nanos)])
        table.row(["", "Closing balance", "", "", format_credits(statement.closing)])
    return bytes(pdf.output())


def _of(account: Account) -> models.Q:
    return models.Q(debit=account) | models.Q(credit=account)


def _signed(row: Transfer, account: Account) -> int:
    return row.amount if row.credit_id == account.pk else -row.amount


def _balance_before(account: Account, moment: datetime) -> int:
    rows = Transfer.objects.filter(created_at__lt=moment)
    came = rows.filter(credit=account).aggregate(total=models.Sum("amount"))["total"] or 0
    went = rows.filter(debit=account).aggregate(total=models.Sum("amount"))["total"] or 0
    return int(came) - int(went)


def _usage(account: Account, start: datetime, end: datetime) -> list[Line]:
    """What was settled in the month, by model, the dearest first; last what was used more than a week before it."""
    with connection.cursor() as cursor:
        cursor.execute(
            """SELECT u.model, count(*), sum(u.cost_nanos)::bigint
               FROM billing_transfer t JOIN billing_usagerecord u ON u.transfer_id = t.id AND u.account_id = t.debit_id
               WHERE t.debit_id = %s AND t.kind = 'usage' AND t.created_at >= %s AND t.created_at < %s
                 AND u.organization_id = %s AND u.request_id >= billing_uuid7_floor(%s - interval '7 days')
               GROUP BY 1 ORDER BY 3 DESC, 1""",
            [account.pk, start, end, account.organization_id, start],
        )
        lines = [Line(None, "Usage", model, requests, -cost) for model, requests, cost in cursor.fetchall()]
    settled = Transfer.objects.filter(
        debit=account, kind=Transfer.Kind.USAGE, created_at__gte=start, created_at__lt=end
    )
    total = settled.aggregate(total=models.Sum("amount"))["total"] or 0
    earlier = int(total) + sum(line.nanos for line in lines)
    return [*lines, Line(None, "Usage", "of earlier requests", 0, -earlier)] if earlier else lines


def _next(month: date) -> date:
    return date(month.year + month.month // 12, month.month % 12 + 1, 1)


def plain(text: str) -> str:
    """A text that no spreadsheet takes for a formula."""
    return f"'{text}" if text[:1] in {"=", "+", "-", "@", "\t", "\r"} else text


def _latin(text: str) -> str:
    """What the PDF's built-in fonts can show."""
    return text.encode("latin-1", "replace").decode("latin-1")
