"""`pixie gallery`: pictures that were made."""

from pathlib import Path
from typing import Annotated, Any

import typer

from pixie import image_files, terminal_images
from pixie.access import Who
from pixie.browser import open_page
from pixie.commands.images import download
from pixie.errors import ExitCode, PixieError
from pixie.session import Session, with_session
from pixie.texts import credits, shortened

app = typer.Typer(no_args_is_help=True, help="List, fetch and open the pictures that were made.")
Id = Annotated[str, typer.Argument(help="The picture's id.", show_default=False)]


@app.command("list")
@with_session
def list_images(
    session: Session,
    *,
    public: Annotated[bool, typer.Option("--public", help="Everybody's public ones, not your own.")] = False,
    search: Annotated[str, typer.Option("--search", "-s", help="Words of the prompt.")] = "",
    model: Annotated[str, typer.Option(help="Of this model alone.")] = "",
    size: Annotated[str, typer.Option(help="Of this size alone.")] = "",
    limit: Annotated[int, typer.Option(min=1, max=100)] = 20,
    after: Annotated[str, typer.Option(help="The page after this one: what a page before named.")] = "",
) -> None:
    """Your organization's pictures, the newest first."""
    params = {"q": search, "model": model, "size": size, "after": after, "limit": str(limit)}
    if not public:
        params["mine"] = "1"
    told = session.client.get(
        "/v1/images",
        params={name: value for name, value in params.items() if value},
        who=Who.MAYBE if public else Who.KEY,
    )
    if session.out.is_json:
        session.out.data(told)
    elif session.out.is_quiet:
        session.out.lines(item["id"] for item in told["data"])
    elif not told["data"]:
        session.out.note("Nothing found. `pixie generate PROMPT` makes a picture.")
    else:
        session.out.table("", ["id", "made", "model", "size", "who sees it", "credits", "prompt"],
                          [_row(item) for item in told["data"]], right=[5])  # fmt: skip
        if told.get("next"):
            session.out.note(f"More: --after {told['next']}")


@app.command()
@with_session
def get(
    session: Session,
    image_id: Id,
    *,
    output: Annotated[Path, typer.Option("--output", "-o", metavar="DIR", help="Where the file goes.")] = Path(),
) -> None:
    """Fetch a picture into a file named by its prompt."""
    item = _find(session, image_id)
    into = image_files.directory(output)
    with session.out.working("Fetching…"):
        data = download(session, item["url"])
    path = image_files.write(data, str(item.get("prompt") or "image"), into)
    if session.out.is_json:
        session.out.data({**item, "path": str(path)})
        return
    if session.out.is_terminal:
        terminal_images.show(data, terminal_images.protocol())
    session.out.line(path)


@app.command("open")
@with_session
def open_image(session: Session, image_id: Id) -> None:
    """Show a picture in the browser: its page, or of a private one the picture itself."""
    item = _find(session, image_id)
    is_private = item.get("visibility") == "private"
    url = item["url"] if is_private else f"{session.profile.api_url}/gallery/{item['id']}"
    is_open = open_page(url)
    if session.out.is_json:
        session.out.data({"id": item["id"], "url": url, "opened": is_open})
    elif not is_open or session.out.is_quiet:
        session.out.line(url)
    else:
        session.out.done(f"Opened {url}")


def _find(session: Session, image_id: str) -> dict[str, Any]:
    try:
        told: dict[str, Any] = session.client.get(f"/v1/images/{_id(image_id)}", who=Who.MAYBE)
    except PixieError as error:
        if error.code == "unknown_url":  # what cannot be an id is no address of the API
            raise PixieError(
                f"There is no picture {image_id!r}.",
                "`pixie gallery list` has the ids.",
                exit_code=ExitCode.NOT_FOUND,
                code="not_found",
                request_id=error.request_id,
            ) from None
        raise
    return told


def _id(text: str) -> str:
    """An id, also where a whole address was pasted; what it does not look like, the server says."""
    return "".join(letter for letter in text.rstrip("/").rpartition("/")[2] if letter.isalnum() or letter == "-")


def _row(item: dict[str, Any]) -> list[object]:
    made = str(item.get("created_at") or "")[:16].replace("T", " ")
    size = item.get("size") or f"{item.get('width')}x{item.get('height')}"
    cost = credits(item["cost_credits"]) if item.get("cost_credits") is not None else ""
    return [item["id"], made, item["model"], size, item["visibility"], cost, shortened(item["prompt"], 40)]
