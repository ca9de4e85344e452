"""One run of pixie: what the command line chose, and what every command works with."""

import functools
import inspect
import os
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, fields, replace
from typing import Annotated, Any

import typer

from pixie.access import Access, Who
from pixie.client import Client
from pixie.errors import ExitCode, PixieError
from pixie.out import Output
from pixie.profiles import DEFAULT_URL, Profile, Profiles, normal_url

PANEL = "Everywhere"


@dataclass(frozen=True, slots=True)
class Choices:
    """The options that every command takes, before or after its name."""

    is_json: bool = False
    is_quiet: bool = False
    profile: str = ""
    api_url: str = ""

    def over(self, outer: "Choices") -> "Choices":
        """These choices, and of `outer` what they leave open."""
        mine = {item.name: value for item in fields(self) if (value := getattr(self, item.name))}
        return replace(outer, **mine)


class Session:
    """What a command works with; nothing is read or connected before it is needed."""

    def __init__(self, choices: Choices) -> None:
        self.choices = choices
        self.out = Output(is_json=choices.is_json, is_quiet=choices.is_quiet)
        self.profiles = Profiles()
        self._client: Client | None = None
        self._profile: Profile | None = None

    @property
    def profile(self) -> Profile:
        """The profile with the address that is in force; its secrets are for that address alone."""
        if self._profile is None:
            kept = self.profiles.get(self.choices.profile or os.environ.get("PIXIE_PROFILE", ""))
            url = normal_url(self._url(kept))
            # Another server than the profile's: what was kept for the profile's is not for it.
            self._profile = kept if kept.api_url == url else Profile(kept.name, url)
        return self._profile

    @functools.cached_property
    def access(self) -> Access:
        return Access(self.profiles, self.profile, self._refresh)

    @property
    def client(self) -> Client:
        if self._client is None:
            self._client = Client(self.profile.api_url, self.access, on_wait=self._tell_wait)
        return self._client

    def close(self) -> None:
        if self._client is not None:
            self._client.close()

    def forget_client(self) -> None:
        """After signing in or out: the next request reads the credentials anew."""
        self.close()
        self._client = self._profile = None
        self.__dict__.pop("access", None)

    def _url(self, kept: Profile) -> str:
        base = os.environ.get("OPENAI_BASE_URL", "") if os.environ.get("OPENAI_API_KEY", "")[:7] == "sk-tup-" else ""
        return self.choices.api_url or os.environ.get("PIXIE_API_URL", "") or kept.api_url or base or DEFAULT_URL

    def _refresh(self, token: str) -> dict[str, Any]:
        with closing(Client(self.profile.api_url, None)) as client:
            told: dict[str, Any] = client.post("/v1/auth/refresh", {"refresh_token": token}, who=Who.NOBODY)
            return told

    def _tell_wait(self, pause_s: float, why: str) -> None:
        self.out.note(f"{why}: trying again in {pause_s:.1f} s")


def _profile_names() -> list[str]:
    """What the shell may complete; completing tells no errors."""
    try:
        return Profiles().names()
    except PixieError:
        return []


_OPTIONS: dict[str, Any] = {
    "is_json": Annotated[
        bool, typer.Option("--json", help="One JSON document on stdout; errors as JSON.", rich_help_panel=PANEL)
    ],
    "is_quiet": Annotated[
        bool,
        typer.Option("--quiet", "-q", help="Only the result, a value a line; no notes.", rich_help_panel=PANEL),
    ],
    "profile": Annotated[
        str,
        typer.Option("--profile", metavar="NAME", help="Account and server to use [PIXIE_PROFILE].",
                     rich_help_panel=PANEL, show_default=False, autocompletion=_profile_names),
    ],
    "api_url": Annotated[
        str,
        typer.Option("--api-url", metavar="URL", help="The server [PIXIE_API_URL].", rich_help_panel=PANEL,
                     show_default=False),
    ],
}  # fmt: skip
_DEFAULTS = {item.name: item.default for item in fields(Choices)}


def with_session(function: Callable[..., None]) -> Callable[..., None]:
    """A command of typer from a function that takes a `Session` first: it gains the options of `Choices`, and its
    errors become messages and exit codes."""

    @functools.wraps(function)
    def command(ctx: typer.Context, **arguments: Any) -> None:
        mine = Choices(**{name: arguments.pop(name) for name in _OPTIONS})
        choices = mine.over(ctx.obj if isinstance(ctx.obj, Choices) else Choices())
        ctx.obj = choices
        if ctx.invoked_subcommand is not None:
            return
        run(choices, lambda session: function(session, **arguments))

    own = list(inspect.signature(function, eval_str=True).parameters.values())[1:]
    kind = inspect.Parameter.KEYWORD_ONLY
    shared = [
        inspect.Parameter(name, kind, default=_DEFAULTS[name], annotation=note) for name, note in _OPTIONS.items()
    ]
    context = inspect.Parameter("ctx", kind, annotation=typer.Context)
    parameters = [context, *(one.replace(kind=kind) for one in own), *shared]
    made: Any = command  # typer reads both of these
    made.__signature__ = inspect.Signature(parameters)
    made.__annotations__ = {one.name: one.annotation for one in parameters}
    del made.__wrapped__
    return command


def run(choices: Choices, work: Callable[[Session], None]) -> None:
    """Do `work`; every failure ends as a message on stderr and the exit code of its kind. What nobody foresaw is told
    in one line too, unless PIXIE_DEBUG asks for all of it."""
    session = Session(choices)
    try:
        work(session)
    except PixieError as error:
        session.out.error(error)
        raise typer.Exit(int(error.exit_code)) from None
    except KeyboardInterrupt:
        session.out.note("Interrupted.")
        raise typer.Exit(int(ExitCode.INTERRUPTED)) from None
    except (typer.Exit, BrokenPipeError):
        raise
    except Exception as error:
        if os.environ.get("PIXIE_DEBUG"):
            raise
        told = PixieError(
            f"pixie did not understand something: {type(error).__name__}: {error}.",
            "The server may be newer than this pixie. PIXIE_DEBUG=1 shows where it was.",
        )
        session.out.error(told)
        raise typer.Exit(int(told.exit_code)) from None
    finally:
        session.close()
