"""`pixie models`: what can be called, and its price."""

from typing import Annotated, Any

import typer

from pixie.session import Session, with_session
from pixie.texts import credits


@with_session
def models(
    session: Session, search: Annotated[str, typer.Argument(help="Part of a name.", show_default=False)] = ""
) -> None:
    """The models that you may call, with their prices in credits."""
    told = session.client.get("/v1/credits/pricing")
    found = [one for one in told["data"] if search.lower() in one["model"].lower()]
    if session.out.is_json:
        session.out.data(found)
    elif session.out.is_quiet:
        session.out.lines(one["model"] for one in found)
    elif not found:
        session.out.note("No such model.")
    else:
        rows = [[one["model"], one["owned_by"], _tokens(one, "input"), _tokens(one, "output"), _units(one)]
                for one in sorted(found, key=lambda one: str(one["model"]))]  # fmt: skip
        session.out.table("", ["model", "by", "1M in", "1M out", "other"], rows, right=[2, 3])


def _tokens(model: dict[str, Any], kind: str) -> str:
    price = model["credits_per_million_tokens"].get(kind)
    return "" if price is None else credits(price)


def _units(model: dict[str, Any]) -> str:
    """Such as `image_output 4,000.00/1M`, or `images 1.00 for 1`."""
    kinds = model["credits_per_million_tokens"]
    parts = [f"{name} {credits(kinds[name])}/1M" for name in ("image_output", "audio_output") if name in kinds]
    parts += [
        f"{name} {credits(one['credits_per_million'])} for {one['per']:,}" for name, one in model["units"].items()
    ]
    return ", ".join(parts)
