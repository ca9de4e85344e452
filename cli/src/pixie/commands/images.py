"""`pixie generate` and `pixie edit`: pictures from a prompt, into files."""

import json
import secrets
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import typer

from pixie import errors, image_files, sse, terminal_images
from pixie.access import Who
from pixie.client import WORK_S, Form
from pixie.errors import ExitCode, PixieError, UsageError
from pixie.session import Session, with_session
from pixie.texts import credits, shortened

MAX_IMAGES = 10
MAX_PARTIALS = 3
_QUALITIES = ["auto", "low", "medium", "high", "xhigh", "max", "standard", "hd"]
_SIZES = ["auto", "1024x1024", "1024x1536", "1536x1024"]
_VISIBILITIES = ("private", "unlisted", "public")

Prompt = Annotated[str, typer.Argument(help="What to draw; - reads it from stdin.", show_default=False)]
Into = Annotated[Path, typer.Option("--output", "-o", metavar="DIR", help="Where the files go.")]
Model = Annotated[str, typer.Option(help="The model [PIXIE_IMAGE_MODEL]; else the server's own.")]
Quality = Annotated[
    str, typer.Option(help="low, medium, high or auto.", autocompletion=lambda: _QUALITIES, show_default=False)
]
Size = Annotated[
    str, typer.Option(help="WIDTHxHEIGHT or auto.", autocompletion=lambda: _SIZES, show_default=False)
]  # fmt: skip
Count = Annotated[int, typer.Option("-n", min=1, max=MAX_IMAGES, help="How many.")]
Preview = Annotated[
    int,
    typer.Option(
        min=0,
        max=MAX_PARTIALS,
        metavar="0-3",
        help="Show so many unfinished pictures on the way, where the terminal can; each costs about 100 tokens more.",
    ),
]
Visibility = Annotated[
    str, typer.Option(help="Who sees it in the gallery: private, unlisted or public.", show_default=False)
]
MaxCredits = Annotated[str, typer.Option(help="Refuse to start if it could cost more.", show_default=False)]


@dataclass
class Made:
    """What came: the pictures, and what the server said of them."""

    items: list[dict[str, Any]] = field(default_factory=list)
    usage: dict[str, Any] | None = None
    cost: str | None = None
    left: str | None = None
    request_id: str | None = None


@with_session
def generate(
    session: Session,
    prompt: Prompt,
    *,
    model: Annotated[str, typer.Option(envvar="PIXIE_IMAGE_MODEL", help=Model.__metadata__[0].help)] = "",
    quality: Quality = "",
    size: Size = "",
    n: Count = 1,
    output: Into = Path(),
    preview: Preview = 0,
    visibility: Visibility = "",
    max_credits: MaxCredits = "",
) -> None:
    """Make pictures from a prompt. Files are named by the prompt and a number; nothing is overwritten."""
    prompt = _prompt(prompt)
    body = _body(prompt, model, quality, size, n)
    into = image_files.directory(output)
    headers = _headers(visibility, max_credits)
    made = _make(session, "/v1/images/generations", body, None, headers, n=n, partials=_partials(session, preview))
    _deliver(session, made, prompt, into)


@with_session
def edit(
    session: Session,
    file: Annotated[Path, typer.Argument(help="The picture to change.", show_default=False)],
    prompt: Prompt,
    *,
    mask: Annotated[Path | None, typer.Option(help="A PNG whose transparent part may change.")] = None,
    image: Annotated[list[Path] | None, typer.Option("--image", help="One more picture to draw on.")] = None,
    model: Annotated[str, typer.Option(envvar="PIXIE_IMAGE_MODEL", help=Model.__metadata__[0].help)] = "",
    quality: Quality = "",
    size: Size = "",
    n: Count = 1,
    output: Into = Path(),
    preview: Preview = 0,
    visibility: Visibility = "",
    max_credits: MaxCredits = "",
) -> None:
    """Change a picture by a prompt, all of it or where a mask is transparent."""
    prompt = _prompt(prompt)
    pictures = [image_files.read(path) for path in (file, *(image or []))]
    name = "image" if len(pictures) == 1 else "image[]"
    files = [(name, picture) for picture in pictures]
    if mask is not None:
        files.append(("mask", image_files.read(mask)))
    body = _body(prompt, model, quality, size, n)
    into = image_files.directory(output)
    headers = _headers(visibility, max_credits)
    made = _make(session, "/v1/images/edits", body, files, headers, n=n, partials=_partials(session, preview))
    _deliver(session, made, prompt, into)


def _make(
    session: Session,
    path: str,
    body: dict[str, Any],
    files: list[tuple[str, tuple[str, bytes, str]]] | None,
    headers: dict[str, str],
    *,
    n: int,
    partials: int,
) -> Made:
    if partials:
        body = body | {"stream": True, "partial_images": partials}
    options: dict[str, Any] = {"headers": headers, "answer_s": WORK_S, "who": Who.KEY}
    if files is None:
        options["body"] = body
    else:
        fields = {name: json.dumps(value) if isinstance(value, bool) else str(value) for name, value in body.items()}
        options["form"] = Form(fields, files)
    what = "picture" if n == 1 else f"{n} pictures"
    with session.out.working(f"Drawing the {what}…"), session.client.stream("POST", path, **options) as answer:
        made = Made(request_id=answer.headers.get("x-request-id"))
        if "event-stream" in answer.headers.get("content-type", ""):
            _read_stream(session, answer.iter_bytes(), made)
        else:
            answer.read()
            _read_whole(answer, made)
    if not made.items:
        raise PixieError("The server's answer has no picture in it.", request_id=made.request_id)
    return made


def _read_whole(answer: Any, made: Made) -> None:
    try:
        told = answer.json()
    except ValueError:
        raise errors.not_the_api(answer) from None
    made.items = [item for item in told.get("data") or [] if isinstance(item, dict)]
    made.usage = told.get("usage")
    made.cost = answer.headers.get("x-cost-credits")
    made.left = answer.headers.get("x-credits-remaining")


def _read_stream(session: Session, chunks: Iterator[bytes], made: Made) -> None:
    speaks = terminal_images.protocol()
    for event in sse.events(sse.lines(chunks)):
        if event.data is None:
            name, _, value = event.comment.partition(" ")
            if name == "x-cost-credits":
                made.cost = value
            elif name == "x-credits-remaining":
                made.left = value
            continue
        told = sse.parsed(event)
        if isinstance(told.get("error"), dict):
            raise errors.from_body(told["error"], 502)
        kind = str(told.get("type", ""))
        if kind.endswith(".completed"):
            made.items.append(told)
            made.usage = told.get("usage") or made.usage
        elif kind.endswith(".partial_image"):
            terminal_images.show(image_files.decoded(told.get("b64_json")), speaks)


def _deliver(session: Session, made: Made, prompt: str, into: Path) -> None:
    """Write the files and say what they are and cost."""
    speaks = terminal_images.protocol() if session.out.is_terminal else ""
    told = []
    for item in made.items:
        data = _bytes_of(session, item)
        path = image_files.write(data, prompt, into)
        told.append({"path": str(path), "bytes": len(data), "url": item.get("url"),
                     "revised_prompt": item.get("revised_prompt")})  # fmt: skip
        if not session.out.is_json:
            terminal_images.show(data, speaks)
            session.out.line(path)
    if session.out.is_json:
        session.out.data({"images": told, "cost_credits": made.cost, "credits_remaining": made.left,
                          "usage": made.usage, "request_id": made.request_id})  # fmt: skip
        return
    session.out.note(_bill(made, len(told)))


def _bill(made: Made, count: int) -> str:
    parts = []
    if made.cost is not None:
        each = f" ({count} pictures)" if count > 1 else ""
        parts.append(f"{credits(made.cost)} credits{each}")
    if made.left is not None:
        parts.append(f"{credits(made.left)} left")
    if made.request_id:
        parts.append(made.request_id)
    return " · ".join(parts)


def _bytes_of(session: Session, item: dict[str, Any]) -> bytes:
    if item.get("b64_json"):
        return image_files.decoded(item["b64_json"])
    if url := item.get("url"):
        return download(session, str(url))
    raise PixieError("The server's answer has a picture that cannot be read.")


def download(session: Session, url: str) -> bytes:
    """The bytes at the address of a picture, which may be another server's: no credentials go there."""
    if not url.startswith(("http://", "https://")):
        raise PixieError(f"{shortened(url, 80)!r} is no address of a picture.")
    answer: bytes = session.client.ask("GET", url, who=Who.NOBODY).content
    return answer


def _body(prompt: str, model: str, quality: str, size: str, n: int) -> dict[str, Any]:
    given = {"prompt": prompt, "model": model, "quality": quality, "size": size, "n": n}
    return {name: value for name, value in given.items() if value}


def _headers(visibility: str, max_credits: str) -> dict[str, str]:
    """The `Idempotency-Key` makes sure that what is tried again is paid once."""
    headers = {"Idempotency-Key": f"pixie-{secrets.token_hex(16)}"}
    if visibility:
        if visibility not in _VISIBILITIES:
            raise UsageError(f"--visibility is {visibility!r}.", f"Choose one of {', '.join(_VISIBILITIES)}.")
        headers["x-gallery-visibility"] = visibility
    if max_credits:
        headers["x-max-credits"] = max_credits
    return headers


def _partials(session: Session, wanted: int) -> int:
    """How many unfinished pictures to ask, and pay, for: none where nobody could see them."""
    if not wanted:
        return 0
    if session.out.is_json or session.out.is_quiet or not terminal_images.protocol():
        session.out.note("This terminal shows no pictures, so there is no preview.")
        return 0
    return wanted


def _prompt(prompt: str) -> str:
    if prompt == "-":
        prompt = typer.get_text_stream("stdin").read()
    if not prompt.strip():
        raise PixieError("There is no prompt.", exit_code=ExitCode.USAGE)
    return prompt.strip()
