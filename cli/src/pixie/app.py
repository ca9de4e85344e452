"""`pixie`: the commands by their names."""

import json
import sys
from typing import Annotated, Any

import typer

from pixie import __version__
from pixie.commands import admin, auth, chat, credits, gallery, health, images, keys, models, receipt, usage
from pixie.errors import ExitCode, PixieError, UsageError
from pixie.session import Session, with_session

EPILOG = (
    "Exit codes: 0 done, 1 failed, 2 wrong usage, 3 not signed in, 4 not allowed, 5 not found, 6 no credit or budget, "
    "7 too many requests, 8 server away, 9 a check failed, 10 waited in vain, 130 interrupted."
)

app = typer.Typer(
    name="pixie",
    no_args_is_help=True,
    rich_markup_mode=None if not sys.stdout.isatty() else "rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=EPILOG,
)


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"pixie {__version__}")
        raise typer.Exit


@app.callback()
@with_session
def root(
    session: Session,
    *,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Say the version and end.")
    ] = False,
) -> None:
    """Pictures, chats, credit and keys of a Tuppence server, from the command line."""


app.add_typer(auth.app, name="auth")
app.command()(images.generate)
app.command()(images.edit)
app.command()(chat.chat)
app.add_typer(gallery.app, name="gallery")
app.add_typer(credits.app, name="credits")
app.command()(usage.usage)
app.command()(models.models)
app.add_typer(keys.app, name="keys")
app.add_typer(receipt.app, name="receipt")
app.command()(health.health)
app.add_typer(admin.app, name="admin")


# What typer raises where the command line makes no sense to it.
_MISUSE: type[Any] = typer.BadParameter.__mro__[1]


def _for_programs() -> int:
    """Run with `--json`: wrong usage is told as JSON, too. The exit code."""
    try:
        code = app(standalone_mode=False)
    except _MISUSE as error:
        where = error.ctx.command_path if error.ctx is not None else "pixie"
        told = UsageError(error.format_message(), f"`{where} -h` shows how it is used.")
        sys.stderr.write(f"{json.dumps(told.as_dict(), ensure_ascii=False)}\n")
        return int(told.exit_code)
    except typer.Abort:
        return int(ExitCode.FAILED)
    return code if isinstance(code, int) else int(ExitCode.OK)


def main() -> None:
    """The entry point."""
    try:
        if "--json" in sys.argv[1:]:
            sys.exit(_for_programs())
        app()
    except PixieError as error:  # before a command had its own way to tell
        sys.stderr.write(f"✗ {error.what}\n  {error.do}\n")
        sys.exit(int(error.exit_code))
    except KeyboardInterrupt:
        sys.exit(int(ExitCode.INTERRUPTED))
    except BrokenPipeError:
        sys.stderr.close()  # whoever read us has had enough
        sys.exit(int(ExitCode.OK))
