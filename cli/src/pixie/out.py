"""What the user sees. Results go to stdout, everything else to stderr, so that pipes get results alone."""

import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.status import Status
from rich.table import Table
from rich.text import Text

from pixie.errors import PixieError
from pixie.texts import harmless

_PIPE_WIDTH = 240


class Output:
    """`is_json`: one JSON document and nothing else. `is_quiet`: what scripts need, a value a line, no notes."""

    def __init__(self, *, is_json: bool = False, is_quiet: bool = False) -> None:
        self.is_json = is_json
        self.is_quiet = is_quiet
        self.console = _console(sys.stdout)
        self.err = _console(sys.stderr)

    @property
    def is_terminal(self) -> bool:
        """Whether a person looks at what is written to stderr, and may be entertained."""
        return self.err.is_terminal and not self.is_quiet and not self.is_json

    def data(self, told: Any) -> None:
        """The result as JSON."""
        sys.stdout.write(json.dumps(told, indent=2 if sys.stdout.isatty() else None, ensure_ascii=False) + "\n")

    def line(self, *parts: object) -> None:
        """A line of the result as it is."""
        sys.stdout.write(" ".join(harmless(part) for part in parts) + "\n")

    def lines(self, values: Iterable[object]) -> None:
        for value in values:
            self.line(value)

    def rich(self, renderable: Any) -> None:
        self.console.print(renderable)

    def note(self, text: str, style: str = "dim") -> None:
        """A remark for people."""
        if not self.is_quiet and not self.is_json:
            self.err.print(Text(harmless(text), style=style), soft_wrap=True)

    def done(self, text: str) -> None:
        self.note(f"✓ {text}", "green")

    def table(
        self, title: str, columns: Sequence[str], rows: Iterable[Sequence[object]], *, right: Sequence[int] = ()
    ) -> None:
        """A table; `right` are the columns of numbers."""
        table = Table(title=title or None, title_justify="left", title_style="bold", header_style="bold", box=None,
                      padding=(0, 2, 0, 0))  # fmt: skip
        for number, name in enumerate(columns):
            table.add_column(name, justify="right" if number in right else "left", overflow="fold")
        for row in rows:
            table.add_row(*(cell if isinstance(cell, Text) else Text(harmless(cell)) for cell in row))
        self.console.print(table)

    def facts(self, facts: Iterable[tuple[str, object]]) -> None:
        """Names and values, those without a value left out."""
        table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
        table.add_column(style="dim")
        table.add_column(overflow="fold")
        for name, value in facts:
            if value not in (None, ""):
                table.add_row(name, value if isinstance(value, Text) else Text(harmless(value)))
        self.console.print(table)

    def error(self, error: PixieError) -> None:
        """A failure: for scripts as JSON, on stderr either way."""
        if self.is_json:
            sys.stderr.write(json.dumps(error.as_dict(), ensure_ascii=False) + "\n")
            return
        text = Text("✗ ", style="bold red").append(harmless(error.what), style="not bold default")
        if error.do:
            text.append(f"\n  {harmless(error.do)}", style="not bold cyan")
        if error.request_id:
            text.append(f"\n  request {harmless(error.request_id)}", style="not bold dim")
        self.err.print(text, soft_wrap=True)

    @contextmanager
    def working(self, text: str) -> Iterator[Status | None]:
        """A spinner while something takes its time."""
        if not self.is_terminal:
            yield None
            return
        with self.err.status(Text(harmless(text))) as status:
            yield status

    def confirm(self, question: str, *, is_sure: bool) -> None:
        """Ask before what cannot be undone. Raises `PixieError` unless the answer is yes."""
        if is_sure:
            return
        if not (sys.stdin.isatty() and self.is_terminal):
            raise PixieError("This cannot be undone, and nobody is here to be asked.", "Say --yes if you are sure.")
        self.err.print(Text(f"{harmless(question)} [y/N] "), end="")
        if sys.stdin.readline().strip().lower() not in {"y", "yes"}:
            raise PixieError("Nothing was done.")


def _console(stream: Any) -> Console:
    """Wide where nobody looks: a pipe must not get lines folded for an imagined screen."""
    is_terminal = stream.isatty()
    return Console(file=stream, width=None if is_terminal else _PIPE_WIDTH, highlight=False, emoji=False, markup=False)
