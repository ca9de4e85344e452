"""Device login (RFC 8628): a program without a browser asks, shows a code, and polls; a person approves it in theirs.

Both codes are kept as keyed digests only. A device gets a session for the one organization that its person chose.
"""

import hashlib
import hmac
import secrets
from dataclasses import dataclass, field
from datetime import timedelta

from django.conf import settings
from django.db import transaction
from django.utils import timezone

from accounts import api_sessions, audit
from accounts.api_sessions import Tokens
from accounts.errors import AccountsError
from accounts.models import ApiSession, DeviceLogin, Organization, User

LIFETIME = timedelta(minutes=10)
KEPT = timedelta(days=1)
INTERVAL_S = 5
# A client that polls every five seconds may be a little early: its clock is not ours.
TOLERANCE = timedelta(seconds=0.5)
# Consonants without look-alikes, so that no word comes out (RFC 8628, section 6.1): 20^8 codes.
ALPHABET = "BCDFGHJKLMNPQRSTVWXZ"
CODE_LENGTH = 8
MAX_DEVICE_CODE = 100
_STATUS = DeviceLogin.Status


class NotYet(AccountsError):
    """No tokens: `code` is the error of RFC 8628 section 3.5, `interval_s` how long to wait between polls."""

    def __init__(self, code: str, interval_s: int = INTERVAL_S) -> None:
        super().__init__(code)
        self.code = code
        self.interval_s = interval_s


class NoSuchCode(AccountsError):
    """The code is unknown, expired or was used."""


@dataclass(frozen=True, slots=True)
class Started:
    """A new device login with its codes, which exist nowhere else."""

    login: DeviceLogin
    device_code: str = field(repr=False)
    user_code: str = field(repr=False)


def start(*, client_id: str = "", client_name: str = "", origin: audit.Origin) -> Started:
    """Begin for a device; what has been over for a day is forgotten."""
    now = timezone.now()
    DeviceLogin.objects.filter(expires_at__lt=now - KEPT).delete()
    device_code = secrets.token_urlsafe(32)
    user_code = "".join(secrets.choice(ALPHABET) for _ in range(CODE_LENGTH))
    login = DeviceLogin.objects.create(
        device_digest=_digest(device_code),
        user_digest=_digest(user_code),
        client_id=client_id[:80],
        client_name=client_name[:80],
        ip=origin.ip,
        user_agent=origin.user_agent[:300],
        interval_s=INTERVAL_S,
        created_at=now,
        expires_at=now + LIFETIME,
    )
    return Started(login, device_code, f"{user_code[:4]}-{user_code[4:]}")


def poll(*, device_code: str, client_id: str = "", origin: audit.Origin | None = None) -> Tokens:
    """The tokens, once, after a person has approved. Raises `NotYet`."""
    with transaction.atomic():
        login = _by_device_code(device_code, lock=True)
        problem = _problem(login, client_id) if login else "invalid_grant"
        if login and problem in {"authorization_pending", "slow_down"}:
            login.polled_at = timezone.now()
            login.interval_s += INTERVAL_S if problem == "slow_down" else 0
            login.save(update_fields=["polled_at", "interval_s"])
        elif login and not problem:
            return _complete(login, origin)
    raise NotYet(problem, login.interval_s if login else INTERVAL_S)


def find(device_code: str) -> DeviceLogin:
    """The login of a device code, whatever became of it. Raises `NoSuchCode`."""
    login = _by_device_code(device_code)
    if login is None:
        raise NoSuchCode
    return login


def state_of(login: DeviceLogin) -> str:
    """`pending`, `approved`, `denied`, `complete` or `expired`."""
    is_over = login.expires_at <= timezone.now()
    return "expired" if is_over and login.status in {_STATUS.PENDING, _STATUS.APPROVED} else login.status


def seconds_left(login: DeviceLogin) -> int:
    """How long the codes still work."""
    return max(0, int((login.expires_at - timezone.now()).total_seconds()))


def asking(user_code: str) -> DeviceLogin:
    """The login that waits under a code as a person typed it. Raises `NoSuchCode`."""
    found = DeviceLogin.objects.filter(user_digest=_digest(normalized(user_code))).first()
    if found is None or not found.is_open:
        raise NoSuchCode
    return found


def approve(*, login: DeviceLogin, user: User, organization: Organization, origin: audit.Origin) -> None:
    """Let the device in as `user`, for `organization`. Raises `NoSuchCode` when it is decided or over."""
    _decide(login, _STATUS.APPROVED, user, organization, origin)


def deny(*, login: DeviceLogin, user: User, origin: audit.Origin) -> None:
    """Turn the device away. Raises `NoSuchCode` when it is decided or over."""
    _decide(login, _STATUS.DENIED, user, None, origin)


def normalized(user_code: str) -> str:
    """A code without what people add to it: case, spaces, dashes."""
    return "".join(letter for letter in user_code.upper() if letter in ALPHABET)


def _decide(
    login: DeviceLogin, status: str, user: User, organization: Organization | None, origin: audit.Origin
) -> None:
    with transaction.atomic():
        waiting = DeviceLogin.objects.filter(pk=login.pk, status=_STATUS.PENDING, expires_at__gt=timezone.now())
        if not waiting.update(status=status, user=user, organization=organization):
            raise NoSuchCode
        verb = "approve" if status == _STATUS.APPROVED else "deny"
        name = login.client_name or login.client_id
        audit.record(
            action=f"device_login.{verb}", target=login, organization=organization, by=user, origin=origin, client=name
        )


def _problem(login: DeviceLogin, client_id: str) -> str:
    """Why there are no tokens yet, or ever; "" if there are."""
    if login.status == _STATUS.COMPLETE or (client_id and login.client_id and client_id != login.client_id):
        return "invalid_grant"
    if login.status == _STATUS.DENIED:
        return "access_denied"
    now = timezone.now()
    if login.expires_at <= now:
        return "expired_token"
    if login.status == _STATUS.APPROVED:
        return ""
    wait = timedelta(seconds=login.interval_s) - TOLERANCE
    return "slow_down" if login.polled_at and now - login.polled_at < wait else "authorization_pending"


def _complete(login: DeviceLogin, origin: audit.Origin | None) -> Tokens:
    """Runs in the transaction that has locked `login`."""
    if login.user is None or login.organization is None:
        raise NotYet("invalid_grant")
    login.status = _STATUS.COMPLETE
    login.save(update_fields=["status"])
    try:
        return api_sessions.begin(
            user=login.user,
            organization=login.organization,
            way=ApiSession.Way.DEVICE,
            label=login.client_name or login.client_id,
            origin=origin,
        )
    except api_sessions.NotAMember:
        raise NotYet("access_denied") from None


def _by_device_code(device_code: str, *, lock: bool = False) -> DeviceLogin | None:
    if not device_code or len(device_code) > MAX_DEVICE_CODE:
        return None
    rows = DeviceLogin.objects.select_for_update() if lock else DeviceLogin.objects.all()
    return rows.filter(device_digest=_digest(device_code)).first()


def _digest(code: str) -> str:
    return hmac.new(settings.API_KEY_PEPPER.encode(), f"device:{code}".encode(), hashlib.sha256).hexdigest()
