"""`pixie health`: whether the server is there and can work."""

import time
from typing import Any

import httpx
import typer
from rich.text import Text

from pixie.access import Who
from pixie.errors import ExitCode, PixieError
from pixie.session import Session, with_session

_COLOURS = {"ok": "green", "operational": "green", "degraded": "yellow", "degraded_performance": "yellow"}


@with_session
def health(session: Session) -> None:
    """Whether the server answers, what it needs is there, and how its services are. Needs no sign-in."""
    started = time.monotonic()
    session.client.get("/health", who=Who.NOBODY)
    told: dict[str, Any] = {
        "api_url": session.profile.api_url,
        "latency_ms": round((time.monotonic() - started) * 1000),
        **_ready(session),
        **_services(session),
    }
    is_ready = told["status"] in {"ok", "degraded"}
    if session.out.is_json:
        session.out.data(told)
    elif session.out.is_quiet:
        session.out.line(told["status"])
    else:
        _show(session, told)
    if not is_ready:
        raise typer.Exit(int(ExitCode.UNAVAILABLE))


def _ready(session: Session) -> dict[str, Any]:
    """What `/ready` says; its 503 is an answer too."""
    try:
        answer = httpx.get(f"{session.profile.api_url}/ready", timeout=10)
        told = answer.json()
        return {"status": str(told["status"]), "checks": dict(told.get("checks") or {})}
    except (httpx.HTTPError, ValueError, KeyError, TypeError):
        return {"status": "unavailable", "checks": {}}


def _services(session: Session) -> dict[str, Any]:
    """The status page's word, where there is one."""
    try:
        told = session.client.get("/status.json", who=Who.NOBODY)
        services = {str(one["name"]): str(one["state"]) for one in told["services"]}
        incidents = [str(one["title"]) for one in told.get("incidents", []) if one.get("status") != "resolved"]
    except (PixieError, KeyError, TypeError):
        return {"services": {}, "incidents": []}
    return {"services": services, "incidents": incidents}


def _show(session: Session, told: dict[str, Any]) -> None:
    status = told["status"]
    session.out.facts(
        [
            ("server", told["api_url"]),
            ("status", Text(status, style=_COLOURS.get(status, "red"))),
            ("answers in", f"{told['latency_ms']} ms"),
            *((name, _coloured(state)) for name, state in told["checks"].items()),
            *((name, _coloured(state)) for name, state in told["services"].items()),
        ]
    )
    for title in told["incidents"]:
        session.out.note(f"Incident: {title}", "yellow")


def _coloured(state: str) -> Text:
    return Text(state.replace("_", " "), style=_COLOURS.get(state, "red" if state != "unknown" else "dim"))
