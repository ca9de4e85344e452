"""`pixie admin`: what the operator does. With PIXIE_ADMIN_TOKEN, or signed in as staff."""

import secrets
from typing import Annotated

import typer

from pixie.access import Who
from pixie.session import Session, with_session
from pixie.texts import credits

app = typer.Typer(
    no_args_is_help=True, help="For the operator: with PIXIE_ADMIN_TOKEN in the environment, or signed in as staff."
)


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
