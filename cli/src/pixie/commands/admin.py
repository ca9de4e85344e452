"""`pixie admin`: what the operator does. With PIXIE_ADMIN_TOKEN, or signed in as staff."""

import secrets
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any
from urllib.parse import quote

import typer
from rich.text import Text

from pixie.access import Who
from pixie.session import Session, with_session
from pixie.texts import credits, shortened

app = typer.Typer(
    no_args_is_help=True, help="For the operator: with PIXIE_ADMIN_TOKEN in the environment, or signed in as staff."
)
_USERS = "/v1/admin/users"
Organization = Annotated[
    str, typer.Option("--organization", "--org", help="Whose, by slug; needed where there are several.")
]
EndUser = Annotated[str, typer.Argument(help="The end user: what callers send as x-user-id.", show_default=False)]


@app.command(context_settings={"ignore_unknown_options": True})
@with_session
def adjust(
    session: Session,
    organization: Annotated[str, typer.Argument(help="The organization's slug.", show_default=False)],
    amount: Annotated[str, typer.Argument(metavar="CREDITS", help="12.5 gives, -12.5 takes.", show_default=False)],
    *,
    reason: Annotated[str, typer.Option(help="What the organization is shown.", show_default=False)],
    idempotency_key: Annotated[str, typer.Option(help="The same one again moves nothing twice.")] = "",
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask before taking.")] = False,
) -> None:
    """Give an organization credit, or take some."""
    if amount.startswith("-"):
        session.out.confirm(f"Take {amount.lstrip('-')} credits from {organization}?", is_sure=yes)
    body = {
        "organization": organization,
        "credits": amount,
        "reason": reason,
        "idempotency_key": idempotency_key or f"pixie-{secrets.token_hex(16)}",
    }
    told = session.client.post("/v1/admin/credits/adjust", body, who=Who.OPERATOR)
    if session.out.is_json:
        session.out.data(told)
    elif session.out.is_quiet:
        session.out.line(told["available"])
    else:
        session.out.done(
            f"{told['organization']}: {credits(told['credits'])} credits; {credits(told['available'])} are available."
        )


@app.command()
@with_session
def stats(session: Session) -> None:
    """The installation's credit: what customers have, bought, were given and spent."""
    told = session.client.get("/v1/admin/credits/stats", who=Who.OPERATOR)
    if session.out.is_json:
        session.out.data(told)
        return
    if session.out.is_quiet:
        session.out.line(told["outstanding"])
        return
    paid = told["orders"]
    session.out.facts(
        [
            ("outstanding", f"{credits(told['outstanding'])} credits"),
            ("held by running calls", f"{credits(told['held'])} credits"),
            ("accounts", f"{told['accounts']:,}"),
            ("overdrawn", f"{told['overdrawn_accounts']:,}"),
            ("frozen", f"{told['frozen_accounts']:,}"),
            ("orders paid", f"{paid['paid']:,}, ${paid['paid_cents'] // 100:,}.{paid['paid_cents'] % 100:02d}"),
        ]
    )
    moved = [[kind, credits(amount)] for kind, amount in told["by_type"].items() if float(amount)]
    if moved:
        session.out.table("", ["what moved", "credits"], moved, right=[1])


@app.command()
@with_session
def users(
    session: Session,
    *,
    organization: Organization = "",
    search: Annotated[str, typer.Option("--search", "-s", help="Part of a name.")] = "",
    blocked: Annotated[bool, typer.Option("--blocked", help="Those that are blocked now.")] = False,
    limit: Annotated[int, typer.Option(min=1, max=500)] = 50,
    after: Annotated[str, typer.Option(help="The page after this one: what a page before named.")] = "",
) -> None:
    """The end users of an organization: what they used this month, their caps, who is blocked."""
    params = {"organization": organization, "q": "" if blocked else search, "limit": str(limit), "after": after}
    told = session.client.get(
        "/v1/admin/blocked" if blocked else _USERS,
        params={name: value for name, value in params.items() if value},
        who=Who.OPERATOR,
    )
    if session.out.is_json:
        session.out.data(told)
    elif session.out.is_quiet:
        session.out.lines(user["userId"] for user in told["data"])
    elif not told["data"]:
        session.out.note("Nobody.")
    elif blocked:
        rows = [[user["userId"], _moment(user["blockedAt"]), _moment(user["expiresAt"]) or "for good",
                 shortened(user["reason"], 60)] for user in told["data"]]  # fmt: skip
        session.out.table("", ["end user", "blocked (UTC)", "until", "reason"], rows)
    else:
        columns = ["end user", "tokens", "cost in $", "at most $", "at most tokens", "state"]
        session.out.table("", columns, [_row(user) for user in told["data"]], right=[1, 2, 3, 4])
    if told.get("next"):
        session.out.note(f"More: --after {told['next']}")


@app.command()
@with_session
def block(
    session: Session,
    end_user: EndUser,
    *,
    reason: Annotated[str, typer.Option(help="Why: the organization is told.", show_default=False)],
    hours: Annotated[int, typer.Option("--hours", min=0, help="For so long; else until unblocked.")] = 0,
    organization: Organization = "",
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Refuse an end user, running answers included."""
    session.out.confirm(f"Block {end_user}?", is_sure=yes)
    body: dict[str, Any] = {"reason": reason}
    if hours:
        body["expiresAt"] = (datetime.now(UTC) + timedelta(hours=hours)).isoformat()
    _change(session, end_user, "block", body, organization)


@app.command()
@with_session
def unblock(session: Session, end_user: EndUser, *, organization: Organization = "") -> None:
    """Let an end user in again."""
    _change(session, end_user, "unblock", {}, organization)


def _change(session: Session, end_user: str, verb: str, body: dict[str, Any], organization: str) -> None:
    if organization:
        body["organization"] = organization
    told = session.client.post(f"{_USERS}/{quote(end_user, safe='')}/{verb}", body, who=Who.OPERATOR)
    if session.out.is_json:
        session.out.data(told)
    session.out.done(f"{told['userId']} of {told['organization']} is {'' if told['blocked'] else 'not '}blocked.")


def _row(user: dict[str, Any]) -> list[object]:
    usage, threshold = user["usage"], user["threshold"]
    state = Text("blocked", style="red") if user["blocked"] else Text("")
    most_usd, most_tokens = threshold["maxCostUsd"], threshold["maxTotalTokens"]
    return [
        user["userId"],
        f"{usage['totalTokens']:,}",
        credits(usage["costUsd"]),
        credits(most_usd) if float(most_usd) else "",
        f"{most_tokens:,}" if most_tokens else "",
        state,
    ]


def _moment(value: str | None) -> str:
    return (value or "")[:16].replace("T", " ")
