"""Signing in where there is no browser to type into: RFC 8628, the program's side."""

import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pixie.access import Who
from pixie.client import Client
from pixie.errors import ExitCode, PixieError

CLIENT_ID = "pixie"
GRANT = "urn:ietf:params:oauth:grant-type:device_code"
SLOWER_S = 5.0
_MAX_NAME = 80


@dataclass(frozen=True, slots=True)
class Device:
    """A login that waits for a person: what to show, how often to ask and for how long."""

    device_code: str
    user_code: str
    page: str
    page_with_code: str
    lasts_s: float
    interval_s: float


def client_name() -> str:
    """What people are shown of this machine."""
    return f"pixie on {socket.gethostname() or 'a computer'}"[:_MAX_NAME]


def begin(client: Client) -> Device:
    """Ask for codes."""
    told = client.post("/v1/auth/device/code", {"client_id": CLIENT_ID, "client_name": client_name()}, who=Who.NOBODY)
    try:
        page = str(told["verification_uri"])
        return Device(
            device_code=str(told["device_code"]),
            user_code=str(told["user_code"]),
            page=page,
            page_with_code=str(told.get("verification_uri_complete") or page),
            lasts_s=float(told["expires_in"]),
            interval_s=float(told.get("interval") or SLOWER_S),
        )
    except (KeyError, TypeError, ValueError):
        raise PixieError("The server's answer has no device code in it.", "It may be newer than this pixie.") from None


def wait(client: Client, device: Device, *, sleep: Callable[[float], None] = time.sleep) -> dict[str, Any]:
    """The tokens, once somebody has approved. A server that is away for a moment is asked again.

    Raises `PixieError`: turned away, or too late.
    """
    pause_s, deadline = device.interval_s, time.monotonic() + device.lasts_s
    while time.monotonic() < deadline:
        sleep(pause_s)
        try:
            told: dict[str, Any] = client.post(
                "/v1/auth/device/token",
                {"grant_type": GRANT, "device_code": device.device_code, "client_id": CLIENT_ID},
                who=Who.NOBODY,
            )
            return told
        except PixieError as error:
            match error.code:
                case "authorization_pending":
                    pass
                case "slow_down":
                    pause_s += SLOWER_S
                case "access_denied":
                    raise PixieError("The login was turned away.", exit_code=ExitCode.FORBIDDEN) from None
                case "expired_token":
                    break
                case _ if error.exit_code == ExitCode.UNAVAILABLE:
                    pause_s += SLOWER_S
                case _:
                    raise
    raise PixieError("Nobody approved the login in time.", "Start again: `pixie auth login`.",
                     exit_code=ExitCode.TIMED_OUT)  # fmt: skip
