"""`pixie receipt`: what a call cost and why, signed; and checking that without trusting the server."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.text import Text

from pixie import receipts
from pixie.access import Who
from pixie.errors import UsageError
from pixie.receipts import format_credits
from pixie.session import Session, with_session
from pixie.texts import credits

app = typer.Typer(no_args_is_help=True, help="Show and check signed receipts.")
Source = Annotated[
    str,
    typer.Argument(metavar="REQUEST|FILE", help="A request's id, a file with a receipt, or - for stdin.",
                   show_default=False),
]  # fmt: skip
_ID_LENGTH = 32


@app.command()
@with_session
def show(session: Session, source: Source) -> None:
    """What a request used, its price row and its cost. `--json > FILE` keeps it."""
    told = _receipt(session, source)
    if session.out.is_json:
        session.out.data(told)
    elif session.out.is_quiet:
        session.out.line(format_credits(told["document"]["charged_nanos"]))
    else:
        _show(session, told["document"])


@app.command()
@with_session
def verify(
    session: Session,
    source: Source,
    *,
    keys: Annotated[
        Path | None, typer.Option(help="The public keys from a file, not from the server: a JWK Set.")
    ] = None,
) -> None:
    """Check the signature, and reckon the price anew from the receipt alone. Exit code 9 if it is not right."""
    told = _receipt(session, source)
    known = _json(keys) if keys else session.client.get(receipts.KEYS_PATH, who=Who.NOBODY)
    good = receipts.verify(told, known)
    if session.out.is_json:
        session.out.data(
            {
                "verified": True,
                "request_id": told["document"].get("request_id"),
                "key_id": good.key_id,
                "computed_credits": format_credits(good.computed_nanos),
                "charged_credits": format_credits(good.charged_nanos),
            }
        )
        return
    if session.out.is_quiet:
        session.out.line("verified")
        return
    _show(session, told["document"])
    session.out.done(f"Signed by {good.key_id}.")
    why = "" if good.charged_nanos == good.computed_nanos else f" (charged less: {told['document'].get('outcome')})"
    session.out.done(
        f"Reckoned anew: {format_credits(good.computed_nanos)} credits; "
        f"charged {format_credits(good.charged_nanos)}{why}."
    )


def _receipt(session: Session, source: str) -> dict[str, Any]:
    """The receipt of a file or stdin, else of the server's request with this id. Raises `PixieError`."""
    if source == "-" or Path(source).is_file():
        told = _json(Path(source))
    else:
        plain = source.strip().removeprefix("req_").replace("-", "")
        if len(plain) != _ID_LENGTH or any(letter not in "0123456789abcdefABCDEF" for letter in plain):
            raise UsageError(
                f"{source!r} is neither a request's id nor a file.", "Ids look like req_0123…: see x-request-id."
            )
        told = session.client.get(f"/v1/receipts/req_{plain}")
    if not isinstance(told.get("document"), dict):
        raise receipts.BadReceipt("This is no signed receipt.")
    return told


def _show(session: Session, document: dict[str, Any]) -> None:
    price = document.get("price") or {}
    charged = document.get("charged_nanos", 0)
    session.out.facts(
        [
            ("request", document.get("request_id")),
            ("when", str(document.get("created_at", ""))[:19].replace("T", " ")),
            ("model", document.get("model")),
            ("endpoint", document.get("endpoint")),
            ("ended", document.get("outcome")),
            ("usage", "estimated: the provider reported none" if document.get("is_estimated") else ""),
            ("tier", document.get("service_tier")),
            ("provider's id", document.get("upstream_request_id")),
            ("price row", f"{price.get('version')} from {str(price.get('effective_at', ''))[:10]}"),
            ("held", f"{format_credits(document.get('held_nanos', 0))} credits"),
            ("charged", Text(f"{format_credits(charged)} credits", style="bold")),
        ]
    )
    rows = [[line["unit"], f"{line['quantity']:,}", _rate(line), _cost(line)] for line in document.get("lines") or []]
    if rows:
        session.out.table("", ["unit", "quantity", "credits", "cost in credits"], rows, right=[1, 2, 3])


def _rate(line: dict[str, Any]) -> str:
    """The price of a million, or of a million times `per`."""
    return f"{credits(format_credits(line['nanos_per_million']))} per {1_000_000 * line['per']:,}"


def _cost(line: dict[str, Any]) -> str:
    nanos = -(-line["quantity"] * line["nanos_per_million"] // (1_000_000 * line["per"]))
    return format_credits(nanos)


def _json(path: Path) -> dict[str, Any]:
    try:
        text = typer.get_text_stream("stdin").read() if str(path) == "-" else path.read_text("utf-8")
        told = json.loads(text)
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}.") from None
    except ValueError:
        raise UsageError(f"{path} is no JSON.") from None
    if not isinstance(told, dict):
        raise UsageError(f"{path} is no JSON object.")
    return told
