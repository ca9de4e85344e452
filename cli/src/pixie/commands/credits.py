"""`pixie credits`: balance, packs, buying, movements, and what a call would cost."""

import json
import time
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.text import Text

from pixie.browser import open_page
from pixie.errors import ExitCode, PixieError, UsageError
from pixie.session import Session, with_session
from pixie.texts import credits, shortened

app = typer.Typer(help="Your organization's credit. Without a word after it: the balance.")
POLL_S = 2.0
_CENTS = 100


@app.callback(invoke_without_command=True)
@with_session
def default(session: Session) -> None:
    """Your organization's credit: 1 credit is 1 US cent of usage. Without a word after it: the balance."""
    _show_balance(session)


@app.command()
@with_session
def balance(session: Session) -> None:
    """What there is, what running calls hold, and what can be spent."""
    _show_balance(session)


@app.command()
@with_session
def packs(session: Session) -> None:
    """What can be bought."""
    told = session.client.get("/v1/credits/packs")
    if session.out.is_json:
        session.out.data(told)
    elif session.out.is_quiet:
        session.out.lines(pack["id"] for pack in told["data"])
    elif not told["data"]:
        session.out.note("Nothing is on sale here.")
    else:
        rows = [[pack["id"], pack["name"], f"{pack['credits']:,}", f"{pack['bonus_credits']:,}",
                 f"{pack['total_credits']:,}", _price(pack), _per_dollar(pack)] for pack in told["data"]]  # fmt: skip
        columns = ["pack", "name", "credits", "bonus", "in all", "price", "credits per $"]
        session.out.table("", columns, rows, right=[2, 3, 4, 5, 6])
        session.out.note("`pixie credits buy PACK` buys one.")


@app.command()
@with_session
def buy(
    session: Session,
    pack: Annotated[str, typer.Argument(help="The pack: see `pixie credits packs`.", show_default=False)],
    *,
    browser: Annotated[bool, typer.Option("--browser/--no-browser", help="Open the page to pay in a browser.")] = True,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Wait until the credit is there.")] = True,
    timeout: Annotated[int, typer.Option(min=1, metavar="SECONDS", help="How long to wait.")] = 900,
) -> None:
    """Buy a pack: pay on the page that opens; pixie waits until the credit is there."""
    before = _newest_purchase(session)
    order = session.client.post("/v1/credits/purchase", {"pack_id": pack, "payment_method": "stripe"})
    url = order.get("checkout_url") or ""
    session.out.err.print(Text(f"Pay here: {url}"), soft_wrap=True)  # without it nobody can go on
    if browser and open_page(url):
        session.out.note("Your browser shows the page.")
    paid = None
    if wait:
        with session.out.working("Waiting for the payment…"):
            paid = _wait_for_purchase(session, before, timeout)
    if session.out.is_json:
        told = {"order": order, "paid": paid is not None, "transaction": paid}
        session.out.data(told | ({"balance": session.client.get("/v1/credits/balance")} if paid else {}))
    elif paid is not None:
        session.out.done(f"{credits(order['pack']['total_credits'])} credits have been added.")
        _show_balance(session)


@app.command()
@with_session
def transactions(
    session: Session,
    *,
    kind: Annotated[str, typer.Option("--type", help="Of one kind alone, such as purchase or usage.")] = "",
    limit: Annotated[int, typer.Option(min=1, max=1000)] = 20,
    after: Annotated[str, typer.Option(help="The page after this one: what a page before named.")] = "",
) -> None:
    """Every movement of the balance, the newest first."""
    params = {"type": kind, "limit": str(limit), "after": after}
    told = session.client.get(
        "/v1/credits/transactions", params={name: value for name, value in params.items() if value}
    )
    if session.out.is_json:
        session.out.data(told)
    elif session.out.is_quiet:
        session.out.lines(f"{row['id']}\t{row['type']}\t{row['credits']}" for row in told["data"])
    elif not told["data"]:
        session.out.note("Nothing has moved yet.")
    else:
        rows = [[row["id"], row["created_at"][:16].replace("T", " "), row.get("label") or row["type"],
                 _signed(row["credits"]), shortened(row["memo"], 50)] for row in told["data"]]  # fmt: skip
        session.out.table("", ["id", "when (UTC)", "what", "credits", "for"], rows, right=[3])
        if told.get("next"):
            session.out.note(f"More: --after {told['next']}")


@app.command()
@with_session
def estimate(
    session: Session,
    prompt: Annotated[str, typer.Argument(help="The prompt of a picture, or with --chat of an answer.")] = "",
    *,
    chat: Annotated[bool, typer.Option("--chat", help="Of a chat, not of a picture.")] = False,
    model: Annotated[str, typer.Option("--model", "-m", show_default=False)] = "",
    quality: Annotated[str, typer.Option(show_default=False)] = "",
    size: Annotated[str, typer.Option(show_default=False)] = "",
    n: Annotated[int, typer.Option("-n", min=1, max=10)] = 1,
    max_tokens: Annotated[int, typer.Option(min=0, show_default=False)] = 0,
    body: Annotated[Path | None, typer.Option(help="A JSON file with the body of any call.", allow_dash=True)] = None,
    endpoint: Annotated[str, typer.Option(help="With --body: what it is for, such as /v1/embeddings.")] = "",
) -> None:
    """What a call would probably cost, and at most. Nothing is sent to a model."""
    if body is not None:
        asked = _body_of(body)
    elif not prompt:
        raise UsageError("There is nothing to estimate.", "Give a prompt, or --body FILE.")
    elif chat:
        message = {"role": "user", "content": prompt}
        asked = {"model": model or "gpt-fast", "messages": [message], "max_completion_tokens": max_tokens or None}
    else:
        endpoint = endpoint or "/v1/images/generations"
        asked = {"prompt": prompt, "model": model, "quality": quality, "size": size, "n": n}
    asked = {name: value for name, value in asked.items() if value not in ("", None)}
    told = session.client.post("/v1/credits/estimate", asked | ({"endpoint": endpoint} if endpoint else {}))
    if session.out.is_json:
        session.out.data(told)
    elif session.out.is_quiet:
        session.out.line(told["estimated_credits"])
    else:
        _show_estimate(session, told)


def _show_estimate(session: Session, told: dict[str, Any]) -> None:
    affordable = told.get("is_affordable")
    session.out.facts(
        [
            ("model", told["model"]),
            ("endpoint", told["endpoint"]),
            ("probably", f"{credits(told['estimated_credits'])} credits"),
            ("at most", f"{credits(told['max_credits'])} credits"),
            ("tokens", f"{told['input_tokens']:,} in, {told['output_tokens']:,} out"),
            ("available", f"{credits(told['available_credits'])} credits" if affordable is not None else ""),
        ]
    )
    if affordable is False:
        session.out.note("There is not enough credit for the most that it may cost.", "yellow")


def _show_balance(session: Session) -> None:
    told = session.client.get("/v1/credits/balance")
    if session.out.is_json:
        session.out.data(told)
        return
    if session.out.is_quiet:
        session.out.line(told["available"])
        return
    limit = "" if float(told["credit_limit"]) == 0 else f"{credits(told['credit_limit'])} credits"
    session.out.facts(
        [
            ("organization", told["organization"]),
            ("balance", f"{credits(told['balance'])} credits"),
            ("held by running calls", f"{credits(told['held'])} credits"),
            ("credit limit", limit),
            ("available", Text(f"{credits(told['available'])} credits", style="bold")),
        ]
    )


def _wait_for_purchase(session: Session, before: str, timeout_s: float) -> dict[str, Any]:
    """The movement of a purchase that was not there before. Raises `PixieError` after `timeout_s`."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        time.sleep(min(POLL_S, timeout_s))
        rows = _purchases(session)
        if rows and rows[0]["id"] != before:
            return rows[0]
    raise PixieError(
        "The payment has not come yet.",
        "If you paid, it will: see `pixie credits transactions`.",
        exit_code=ExitCode.TIMED_OUT,
    )


def _newest_purchase(session: Session) -> str:
    rows = _purchases(session)
    return str(rows[0]["id"]) if rows else ""


def _purchases(session: Session) -> list[dict[str, Any]]:
    told = session.client.get("/v1/credits/transactions", params={"type": "purchase", "limit": "1"})
    rows: list[dict[str, Any]] = told["data"]
    return rows


def _body_of(path: Path) -> dict[str, Any]:
    try:
        text = typer.get_text_stream("stdin").read() if str(path) == "-" else path.read_text("utf-8")
        told = json.loads(text)
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}.") from None
    except ValueError as error:
        raise UsageError(f"{path} is no JSON: {error}.") from None
    if not isinstance(told, dict):
        raise UsageError(f"{path} is no JSON object.")
    return told


def _price(pack: dict[str, Any]) -> str:
    currency = str(pack["currency"]).upper()
    amount = f"{pack['price_cents'] // _CENTS}.{pack['price_cents'] % _CENTS:02d}"
    return f"${amount}" if currency == "USD" else f"{amount} {currency}"


def _per_dollar(pack: dict[str, Any]) -> str:
    return f"{pack['total_credits'] * _CENTS / pack['price_cents']:.0f}" if pack["price_cents"] else ""


def _signed(amount: str) -> Text:
    text = credits(amount)
    return Text(text, style="red") if text.startswith("-") else Text(f"+{text}", style="green")
