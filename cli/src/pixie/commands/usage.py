"""`pixie usage`: what was used and what it cost, day by day."""

import sys
from datetime import UTC, date, datetime, timedelta
from typing import Annotated, Any

import typer
from rich.text import Text

from pixie.errors import UsageError
from pixie.session import Session, with_session
from pixie.texts import credits, shortened, sparkline

MAX_DAYS = 366
_GROUPS = {"model": "model", "key": "key_name", "endpoint": "endpoint", "end-user": "end_user"}
_TOP = 10


@with_session
def usage(
    session: Session,
    *,
    days: Annotated[int, typer.Option(min=1, max=MAX_DAYS, help="The last so many days (UTC).")] = 30,
    start: Annotated[str, typer.Option("--from", metavar="DAY", help="From this day on, such as 2026-11-01.")] = "",
    end: Annotated[str, typer.Option("--to", metavar="DAY", help="To this day; else today.")] = "",
    model: Annotated[str, typer.Option(help="Of this model alone.")] = "",
    key: Annotated[str, typer.Option(help="Of the key with this id alone.")] = "",
    endpoint: Annotated[str, typer.Option(help="Of this endpoint alone.")] = "",
    end_user: Annotated[str, typer.Option(help="Of this end user of yours alone.")] = "",
    by: Annotated[str, typer.Option(help="How to divide it: model, key, endpoint or end-user.")] = "model",
    log: Annotated[int, typer.Option("--log", min=0, max=1000, help="The last so many requests instead.")] = 0,
    csv: Annotated[bool, typer.Option("--csv", help="The days, or with --log the requests, as CSV.")] = False,
) -> None:
    """What was used and what it cost, day by day, with a bar for each day."""
    if by not in _GROUPS:
        raise UsageError(f"--by is {by!r}.", f"Choose one of {', '.join(_GROUPS)}.")
    params = {
        "start": start or _day_before(end, days - 1),
        "end": end,
        "model": model,
        "key": key,
        "endpoint": endpoint,
        "end_user": end_user,
    }
    params = {name: value for name, value in params.items() if value}
    if csv:
        path, more = ("/v1/usage/logs", {"limit": str(log)}) if log else ("/v1/usage/daily", {})
        sys.stdout.write(session.client.ask("GET", path, params={**params, **more, "format": "csv"}).text)
    elif log:
        _show_log(session, session.client.get("/v1/usage/logs", params={**params, "limit": str(log)}))
    else:
        _overview(session, params, by)


def _overview(session: Session, params: dict[str, str], by: str) -> None:
    stats = session.client.get("/v1/usage/stats", params=params)
    if session.out.is_quiet and not session.out.is_json:
        session.out.line(stats["credits"])
        return
    daily = session.client.get("/v1/usage/daily", params=params)
    if session.out.is_json:
        session.out.data({"stats": stats, "daily": daily["data"]})
        return
    rows = daily["data"]
    session.out.facts(
        [
            ("days", f"{stats['start']} to {stats['end']} (UTC)"),
            ("cost", Text(f"{credits(stats['credits'])} credits", style="bold")),
            ("requests", f"{stats['requests']:,}, {stats['errors']:,} of them failed"),
            ("tokens", f"{stats['input_tokens']:,} in, {stats['output_tokens']:,} out"),
            ("time to answer", _times(stats)),
        ]
    )
    session.out.table(
        "",
        ["a day", "", "most"],
        [
            ["credits", _bars(rows, "credits"), _most(rows, "credits")],
            ["requests", _bars(rows, "requests"), _most(rows, "requests")],
            ["tokens", _bars(rows, "total_tokens"), _most(rows, "total_tokens")],
        ],
        right=[2],
    )
    parts = stats[f"by_{by.replace('-', '_')}"]
    if parts:
        _show_parts(session, parts, by)
    else:
        session.out.note("Nothing was used in these days.")


def _show_parts(session: Session, parts: list[dict[str, Any]], by: str) -> None:
    parts = sorted(parts, key=lambda part: float(part["credits"]), reverse=True)
    rows = [
        [shortened(part[_GROUPS[by]] or "-", 40), f"{part['requests']:,}", f"{part['total_tokens']:,}",
         credits(part["credits"])] for part in parts[:_TOP]
    ]  # fmt: skip
    session.out.table("", [by, "requests", "tokens", "credits"], rows, right=[1, 2, 3])
    if len(parts) > _TOP:
        session.out.note(f"{len(parts) - _TOP} more: --json has them all.")


def _show_log(session: Session, told: dict[str, Any]) -> None:
    if session.out.is_json:
        session.out.data(told)
    elif session.out.is_quiet:
        session.out.lines(row["id"] for row in told["data"])
    elif not told["data"]:
        session.out.note("No requests in these days.")
    else:
        rows = [
            [row["created_at"][:19].replace("T", " "), row["model"], row["outcome"], f"{row['total_tokens']:,}",
             credits(row["credits"]), f"{row['latency_ms'] or 0:,}", row["id"]] for row in told["data"]
        ]  # fmt: skip
        columns = ["when (UTC)", "model", "ended", "tokens", "credits", "ms", "request"]
        session.out.table("", columns, rows, right=[3, 4, 5])
        session.out.note("`pixie receipt show REQUEST` says why one cost what it did.")


def _bars(rows: list[dict[str, Any]], name: str) -> Text:
    return Text(sparkline([float(row[name]) for row in rows]), style="cyan")


def _most(rows: list[dict[str, Any]], name: str) -> str:
    most = max((float(row[name]) for row in rows), default=0.0)
    return f"{most:,.2f}" if name == "credits" else f"{most:,.0f}"


def _times(stats: dict[str, Any]) -> str:
    middle, slow = stats.get("latency_p50_ms"), stats.get("latency_p95_ms")
    return f"{middle:,} ms for half, {slow:,} ms for 95 %" if middle is not None and slow is not None else ""


def _day_before(end: str, days: int) -> str:
    """The day so many days before `end`, or today."""
    try:
        last = date.fromisoformat(end) if end else datetime.now(UTC).date()
    except ValueError:
        raise UsageError(f"{end!r} is no day.", "Days look like 2026-11-20.") from None
    return (last - timedelta(days=days)).isoformat()
