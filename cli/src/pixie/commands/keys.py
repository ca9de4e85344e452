"""`pixie keys`: API keys of the organization."""

from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import typer
from rich.text import Text

from pixie.access import Who
from pixie.errors import UsageError
from pixie.session import Session, with_session
from pixie.texts import shortened

app = typer.Typer(no_args_is_help=True, help="List, create and revoke API keys. Needs a sign-in, not a key.")
_PATH = "/v1/auth/api-keys"
_BUDGET = "A budget; takes the role of an admin."


@app.command("list")
@with_session
def list_keys(
    session: Session,
    *,
    limit: Annotated[int, typer.Option(min=1, max=200)] = 50,
    after: Annotated[str, typer.Option(help="The page after this one: what a page before named.")] = "",
) -> None:
    """The keys, the newest first. A key itself is shown once, when it is made."""
    params = {"limit": str(limit), **({"after": after} if after else {})}
    told = session.client.get(_PATH, params=params, who=Who.PERSON)
    if session.out.is_json:
        session.out.data(told)
    elif session.out.is_quiet:
        session.out.lines(key["id"] for key in told["data"])
    elif not told["data"]:
        session.out.note("No keys yet: `pixie keys create NAME` makes one.")
    else:
        session.out.table("", ["id", "name", "key", "state", "scopes", "last used (UTC)"],
                          [_row(key) for key in told["data"]])  # fmt: skip
        if told.get("next"):
            session.out.note(f"More: --after {told['next']}")


@app.command()
@with_session
def create(
    session: Session,
    name: Annotated[str, typer.Argument(help="What it is for.", show_default=False)],
    *,
    scope: Annotated[list[str] | None, typer.Option(help="Only this, such as chat or images; repeatable.")] = None,
    model: Annotated[list[str] | None, typer.Option(help="Only this model; repeatable.")] = None,
    ip: Annotated[list[str] | None, typer.Option(help="Only from this address or network; repeatable.")] = None,
    endpoint: Annotated[list[str] | None, typer.Option(help="Only this, such as /v1/embeddings; repeatable.")] = None,
    rpm: Annotated[int | None, typer.Option(min=1, help="Requests a minute.")] = None,
    tpm: Annotated[int | None, typer.Option(min=1, help="Tokens a minute.")] = None,
    concurrent: Annotated[int | None, typer.Option(min=1, help="Requests at once.")] = None,
    credits_per_day: Annotated[str, typer.Option(metavar="CREDITS", help=_BUDGET)] = "",
    credits_per_month: Annotated[str, typer.Option(metavar="CREDITS", help=_BUDGET)] = "",
    tokens_per_day: Annotated[int | None, typer.Option(min=1, help=_BUDGET)] = None,
    tokens_per_month: Annotated[int | None, typer.Option(min=1, help=_BUDGET)] = None,
    expires_in: Annotated[int | None, typer.Option(min=1, metavar="DAYS", help="When it ends.")] = None,
) -> None:
    """Make a key. It is shown once, on stdout; what is not limited is allowed."""
    body: dict[str, Any] = {"name": name, "scopes": scope, "allowed_models": model, "allowed_ips": ip}
    body |= {"allowed_endpoints": endpoint, "rpm": rpm, "tpm": tpm, "max_concurrent": concurrent}
    caps = [
        ("day", "credits", credits_per_day),
        ("month", "credits", credits_per_month),
        ("day", "tokens", tokens_per_day),
        ("month", "tokens", tokens_per_month),
    ]
    body["budgets"] = [{"period": period, "unit": unit, "cap": cap} for period, unit, cap in caps if cap]
    if expires_in:
        body["expires_at"] = (datetime.now(UTC) + timedelta(days=expires_in)).isoformat()
    given = {field: value for field, value in body.items() if value}
    told = session.client.post(_PATH, given, who=Who.PERSON)
    if session.out.is_json:
        session.out.data(told)
        return
    session.out.line(told["secret"])
    session.out.note("This is the only time that it is shown. Keep it where nobody else reads.", "yellow")


@app.command()
@with_session
def revoke(
    session: Session,
    key: Annotated[str, typer.Argument(help="The key's id, or its name if only one has it.", show_default=False)],
    *,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """End a key: whoever uses it is refused within a second."""
    found = _find(session, key)
    session.out.confirm(f"Revoke the key {found['name']} ({found['key']})?", is_sure=yes)
    told = session.client.json("DELETE", f"{_PATH}/{found['id']}", who=Who.PERSON)
    if session.out.is_json:
        session.out.data(told)
    session.out.done(f"Revoked {found['name']}.")


def _find(session: Session, wanted: str) -> dict[str, Any]:
    """The key with this id, or the one live key of this name. Raises `UsageError`."""
    found, after = [], ""
    while True:
        params = {"limit": "200", **({"after": after} if after else {})}
        told = session.client.get(_PATH, params=params, who=Who.PERSON)
        for key in told["data"]:
            if key["id"] == wanted:
                return dict(key)
            if key["name"] == wanted and key.get("is_live", True):
                found.append(dict(key))
        after = told.get("next") or ""
        if not after:
            break
    if len(found) != 1:
        what = "no live key" if not found else f"{len(found)} live keys"
        raise UsageError(f"There is {what} called {wanted!r}.", "Give the id: `pixie keys list` shows it.")
    return found[0]


def _row(key: dict[str, Any]) -> list[object]:
    state = Text("live", style="green") if key.get("is_live") else Text("ended", style="dim")
    scopes = ", ".join(key.get("scopes") or []) or "all"
    used = str(key.get("last_used_at") or "never")[:16].replace("T", " ")
    return [key["id"], shortened(key["name"], 30), key["key"], state, scopes, used]
