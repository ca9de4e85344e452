"""`pixie auth`: signing in and out, profiles."""

import contextlib
import sys
from dataclasses import replace
from typing import Annotated, Any
from urllib.parse import urlsplit

import httpx
import typer

from pixie import device
from pixie.access import KEY_PREFIX, Who, with_tokens
from pixie.browser import open_page
from pixie.errors import ExitCode, PixieError, SignedOut, UsageError
from pixie.profiles import Secrets
from pixie.session import Session, with_session

app = typer.Typer(no_args_is_help=True, help="Sign in and out; profiles for several accounts and servers.")
_LOCAL = {"localhost", "127.0.0.1", "::1"}
_OTHER_WAY = "`pixie auth login --with-key` takes an API key of yours, made in the console."

Browser = Annotated[bool, typer.Option("--browser/--no-browser", help="Open the page in a browser here.")]


@app.command()
@with_session
def login(
    session: Session,
    *,
    email: Annotated[str, typer.Option(help="Sign in with this address and a password instead.")] = "",
    organization: Annotated[str, typer.Option(help="With --email: the organization to act for.")] = "",
    with_key: Annotated[bool, typer.Option("--with-key", help="Keep an API key, read from stdin.")] = False,
    browser: Browser = True,
) -> None:
    """Sign in: approve this machine in your browser, and pixie keeps the login."""
    _warn_of_plain_http(session)
    if with_key:
        _keep_key(session)
    elif email:
        _finish(session, _by_password(session, email, organization))
    else:
        _by_device(session, browser=browser)


@app.command()
@with_session
def github(session: Session, *, browser: Browser = True) -> None:
    """Sign in by GitHub, in your browser."""
    _by_device(session, browser=browser, provider="github")


@app.command()
@with_session
def google(session: Session, *, browser: Browser = True) -> None:
    """Sign in by Google, in your browser."""
    _by_device(session, browser=browser, provider="google")


@app.command("device-status")
@with_session
def device_status(session: Session, code: Annotated[str, typer.Argument(help="The device code.")]) -> None:
    """What became of a device login: pending, approved, denied, complete or expired."""
    told = session.client.get(f"/v1/auth/device/{_one_segment(code)}/status", who=Who.NOBODY)
    if session.out.is_json:
        session.out.data(told)
    elif session.out.is_quiet:
        session.out.line(told.get("status", ""))
    else:
        left = told.get("expires_in")
        session.out.facts([("status", told.get("status")), ("time left", f"{left} s" if left else "")])


@app.command()
@with_session
def status(session: Session) -> None:
    """Who is signed in, where, and where the secrets are."""
    access, profile = session.access, session.profile
    if not access.source:
        raise SignedOut(f"Nobody is signed in at {profile.api_url}.")
    told: dict[str, Any] = {
        "profile": profile.name,
        "api_url": profile.api_url,
        "credential": access.source,
        "kept_in": profile.store or None,
    }
    told |= _who(session)
    if session.out.is_json:
        session.out.data(told)
    elif session.out.is_quiet:
        session.out.line(told.get("email") or told.get("key") or "")
    else:
        names = {"api_url": "server", "kept_in": "kept in"}
        session.out.facts((names.get(name, name), value) for name, value in told.items())


@app.command()
@with_session
def logout(session: Session) -> None:
    """Sign out: end the session and the key that pixie made for itself, and forget both."""
    profile = session.profile
    secrets = session.profiles.secrets_of(profile)
    if secrets == Secrets():
        session.out.note("Nobody was signed in.")
    else:
        _end(session, secrets)
        session.profiles.forget(profile)
        session.out.done(f"Signed out of {profile.api_url}.")
    if session.out.is_json:
        session.out.data({"profile": profile.name, "api_url": profile.api_url, "signed_in": False})


@app.command()
@with_session
def use(session: Session, name: Annotated[str, typer.Argument(help="The profile.")]) -> None:
    """Make a profile the one that is used where none is named."""
    profile = session.profiles.use(name)
    if session.out.is_json:
        session.out.data({"profile": profile.name, "api_url": profile.api_url})
    session.out.done(f"Using {profile.name} at {profile.api_url}.")


@app.command()
@with_session
def profiles(session: Session) -> None:
    """The profiles: accounts and servers by name."""
    current = session.profiles.current
    found = [session.profiles.get(name) for name in session.profiles.names()]
    if session.out.is_json:
        session.out.data([
            {"profile": one.name, "api_url": one.api_url, "email": one.email or None, "signed_in": bool(one.store),
             "current": one.name == current} for one in found
        ])  # fmt: skip
    elif session.out.is_quiet:
        session.out.lines(one.name for one in found)
    elif not found:
        session.out.note("No profiles yet: `pixie auth login` makes one, `--profile NAME` names it.")
    else:
        rows = [("*" if one.name == current else "", one.name, one.api_url, one.email) for one in found]
        session.out.table("", ["", "profile", "server", "signed in as"], rows)


def _by_device(session: Session, *, browser: bool, provider: str = "") -> None:
    try:
        begun = device.begin(session.client)
    except PixieError as error:
        if error.exit_code == ExitCode.NOT_FOUND:
            raise PixieError("This server has no device login.", _OTHER_WAY, exit_code=ExitCode.NOT_FOUND) from None
        raise
    page = begun.page_with_code
    if provider:
        page = str(httpx.URL(page).copy_merge_params({"provider": provider}))
    _show_code(session, begun, page)
    if browser and open_page(page):
        session.out.note("Your browser shows the page.")
    with session.out.working("Waiting for your approval…"):
        tokens = device.wait(session.client, begun)
    _finish(session, tokens)


def _show_code(session: Session, begun: device.Device, page: str) -> None:
    """Always to stderr, also with --json and --quiet: without it nobody can go on."""
    err = session.out.err
    err.print(f"Open {page}", soft_wrap=True)
    err.print(f"and approve the code {begun.user_code}", style="bold", soft_wrap=True)
    session.out.note(f"`pixie auth device-status {begun.device_code}` says what became of it.")


def _by_password(session: Session, email: str, organization: str) -> dict[str, Any]:
    body = {
        "email": email,
        "password": _secret("Password: "),
        "client_name": device.client_name(),
        "organization": organization,
    }
    try:
        told: dict[str, Any] = session.client.post("/v1/auth/login", body, who=Who.NOBODY)
    except PixieError as error:
        if error.code != "mfa_required" or not sys.stdin.isatty():
            raise _not_signed_in(error) from None
        body["code"] = _secret("Code of your authenticator app: ")
        told = session.client.post("/v1/auth/login", body, who=Who.NOBODY)
    return told


def _not_signed_in(error: PixieError) -> PixieError:
    do = {
        "mfa_required": "Run it in a terminal to be asked for the code, or use `pixie auth login`.",
        "invalid_credentials": "Try again, or use `pixie auth login` without --email.",
    }.get(error.code or "", error.do)
    return PixieError(error.what, do, exit_code=error.exit_code, code=error.code, request_id=error.request_id)


def _finish(session: Session, tokens: dict[str, Any]) -> None:
    """Keep the tokens, and a key of pixie's own: models are called with keys, not with a person's tokens."""
    before = session.profiles.secrets_of(session.profile)
    if before != Secrets():
        _end(session, before)
    secrets = with_tokens(Secrets(), tokens)
    kept = session.profiles.keep(replace(session.profile, email="", organization=""), secrets, make_current=True)
    session.forget_client()
    me = session.client.get("/v1/auth/me", who=Who.PERSON)
    secrets = _with_own_key(session, session.profiles.secrets_of(kept))
    organization = str((me.get("organization") or {}).get("slug") or "")
    kept = session.profiles.keep(replace(kept, email=str(me.get("email") or ""), organization=organization), secrets)
    _tell_signed_in(session, kept.email, organization)


def _with_own_key(session: Session, secrets: Secrets) -> Secrets:
    try:
        made = session.client.post("/v1/auth/api-keys", {"name": device.client_name()}, who=Who.PERSON)
        return replace(secrets, api_key=str(made["secret"]), api_key_id=str(made["id"]))
    except PixieError as error:
        if error.exit_code != ExitCode.FORBIDDEN:
            raise
    session.out.note(
        "Your role may make no API keys, so models cannot be called: ask an admin for a key and set PIXIE_API_KEY.",
        "yellow",
    )
    return secrets


def _keep_key(session: Session) -> None:
    key = _secret("API key: ")
    if not key.startswith(KEY_PREFIX):
        raise UsageError("This is no API key of this platform.", f"They begin with {KEY_PREFIX}: see the console.")
    told = session.client.get("/v1/key", who=Who.NOBODY, headers={"Authorization": f"Bearer {key}"})
    before = session.profiles.secrets_of(session.profile)
    if before != Secrets():
        _end(session, before)
    organization = str(told.get("organization") or "")
    profile = replace(session.profile, email="", organization=organization)
    session.profiles.keep(profile, Secrets(api_key=key), make_current=True)
    _tell_signed_in(session, f"the key {told.get('name') or told.get('key')}", organization)


def _tell_signed_in(session: Session, who: str, organization: str) -> None:
    profile = session.profiles.get(session.profile.name)
    if session.out.is_json:
        session.out.data(
            {
                "profile": profile.name,
                "api_url": profile.api_url,
                "email": profile.email or None,
                "organization": organization or None,
                "kept_in": profile.store,
                "signed_in": True,
            }
        )
    where = f" for {organization}" if organization else ""
    session.out.done(f"Signed in as {who}{where}; kept in the {profile.store}.")


def _who(session: Session) -> dict[str, Any]:
    """The person, or the key where no person is signed in."""
    secrets = session.access.secrets
    if secrets.access_token and session.access.source.startswith("profile"):
        try:
            return _person(session.client.get("/v1/auth/me", who=Who.PERSON), secrets)
        except SignedOut:
            if not secrets.api_key:
                raise
            session.out.note("The sign-in has ended; the key that it made still works.", "yellow")
    told = session.client.get("/v1/key")
    return {"organization": told.get("organization"), "key": told.get("key"), "key_name": told.get("name")}


def _person(me: dict[str, Any], secrets: Secrets) -> dict[str, Any]:
    organization = me.get("organization") or {}
    return {
        "email": me.get("email"),
        "organization": organization.get("slug"),
        "role": organization.get("role"),
        "can_call_models": bool(secrets.api_key),
    }


def _end(session: Session, secrets: Secrets) -> None:
    """End what was kept, at the server too; one that is away or knows it no more does not keep us."""
    client = session.client
    with contextlib.suppress(PixieError):
        if secrets.api_key_id:
            client.json("DELETE", f"/v1/auth/api-keys/{secrets.api_key_id}", who=Who.PERSON)
    try:
        if secrets.refresh_token:
            now = session.profiles.secrets_of(session.profile)  # the request before may have refreshed it
            client.post("/v1/auth/logout", {"refresh_token": now.refresh_token or secrets.refresh_token},
                        who=Who.NOBODY)  # fmt: skip
    except PixieError as error:
        session.out.note(f"The server did not hear of it: {error.what}", "yellow")


def _secret(question: str) -> str:
    """A secret, typed unseen, or the first line of stdin."""
    if sys.stdin.isatty():
        import getpass  # noqa: PLC0415

        value = getpass.getpass(question)
    else:
        value = sys.stdin.readline()
    value = value.strip("\r\n")
    if not value:
        raise UsageError("Nothing was given.")
    return value


def _warn_of_plain_http(session: Session) -> None:
    url = urlsplit(session.profile.api_url)
    if url.scheme == "http" and url.hostname not in _LOCAL:
        session.out.note("This server is not reached by https: whoever is in between can read your secrets.", "yellow")


def _one_segment(code: str) -> str:
    if not code or not all(letter.isalnum() or letter in "-_" for letter in code):
        raise UsageError("This is no device code.", "`pixie auth login` shows it.")
    return code
