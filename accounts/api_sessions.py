"""Being signed in through the JSON API: a session that access tokens name and refresh tokens prolong.

Every refresh token works once. One that comes a second time was copied, by whom nobody can tell: the session ends
(RFC 9700, section 4.14.2). Only the token before the newest may come again within `JWT_REFRESH_GRACE_SECONDS`, as its
answer may have been lost: it gives the same successor once more, so whoever holds copies still meets later.
Sessions are asked for at every request, so what ends here ends at once.
"""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from hmac import compare_digest
from uuid import uuid4

from django.conf import settings
from django.db import transaction
from django.utils import timezone

from accounts import audit, tokens
from accounts.errors import AccountsError
from accounts.models import ApiSession, Membership, Organization, User
from accounts.tokens import ACCESS, REFRESH, InvalidToken

# Sessions that are over are shown no more; they are forgotten when their person signs in after this long.
FORGOTTEN_AFTER = timedelta(days=30)


class TokenReused(AccountsError):
    """A refresh token came a second time: `session` has been ended."""

    def __init__(self, session: ApiSession) -> None:
        super().__init__(str(session.public_id))
        self.session = session


class NotAMember(AccountsError):
    """The person does not belong to the organization, or no longer."""


@dataclass(frozen=True, slots=True)
class Tokens:
    """A new pair of tokens, which exist nowhere else."""

    session: ApiSession
    access: str = field(repr=False)
    refresh: str = field(repr=False)
    expires_in: int
    refresh_expires_in: int


def begin(
    *,
    user: User,
    organization: Organization,
    way: str,
    label: str = "",
    origin: audit.Origin | None = None,
) -> Tokens:
    """Sign `user` in, who acts for `organization`. Raises `NotAMember`."""
    if not Membership.objects.filter(user=user, organization=organization).exists():
        raise NotAMember
    now = timezone.now()
    origin = origin or audit.Origin()
    session = ApiSession(
        user=user,
        organization=organization,
        way=way,
        label=label[:80],
        ip=origin.ip,
        user_agent=origin.user_agent[:300],
        created_at=now,
    )
    with transaction.atomic():
        user.api_sessions.filter(expires_at__lt=now - FORGOTTEN_AFTER).delete()
        user.api_sessions.filter(ended_at__lt=now - FORGOTTEN_AFTER).delete()
        made = _issue(session, now, uuid4().hex)
        session.save(force_insert=True)
        audit.record(
            action="api_session.begin", target=session, organization=organization, by=user, origin=origin, way=way
        )
    return made


def refresh(token: str) -> Tokens:
    """The next pair of tokens for a refresh token. Raises `InvalidToken`, or `TokenReused` after ending its session."""
    claims = tokens.read(token, REFRESH)
    session = _find(claims)
    now, used = timezone.now(), tokens.digest_of(claims.token_id)
    made = _issue(session, now, next(tokens.successors_of(claims.token_id)))
    fields = ("refresh_digest", "refreshed_at", "expires_at")
    passed = ApiSession.objects.live().filter(pk=session.pk, refresh_digest=used)
    if passed.update(**{name: getattr(session, name) for name in fields}):
        return made
    session.refresh_from_db()
    if session.ended_at is not None:
        raise InvalidToken
    if given := _given_before(session, claims.token_id, now):
        return _tokens(session, given, now)
    with transaction.atomic():
        end(session, by=None, reason="reuse")
    raise TokenReused(session)


def find(token: str) -> ApiSession:
    """The live session of an access token, with its user and organization. Raises `InvalidToken`."""
    return _find(tokens.read(token, ACCESS))


def find_by_refresh(token: str) -> ApiSession | None:
    """The live session of a refresh token, its newest or an old one; None once it is over. Raises `InvalidToken`."""
    try:
        claims = tokens.read(token, REFRESH)
    except InvalidToken as error:
        if error.is_expired:
            return None
        raise
    try:
        return _find(claims)
    except InvalidToken:
        return None


def end(session: ApiSession, *, by: User | None, origin: audit.Origin | None = None, reason: str = "") -> bool:
    """End a session now; a second time changes nothing. Returns whether it was live."""
    with transaction.atomic():
        ended = ApiSession.objects.filter(pk=session.pk, ended_at=None).update(ended_at=timezone.now())
        if ended:
            extra = {"reason": reason} if reason else {}
            audit.record(
                action="api_session.end", target=session, organization=session.organization, by=by, origin=origin,
                **extra,
            )  # fmt: skip
    return bool(ended)


def end_all(user: User, *, reason: str, origin: audit.Origin | None = None) -> int:
    """End every session of a person, as when the password changed. Returns how many were live."""
    rows = user.api_sessions.filter(ended_at=None).select_related("organization")
    return sum(end(session, by=user, origin=origin, reason=reason) for session in rows)


def _find(claims: tokens.Claims) -> ApiSession:
    found = (
        ApiSession.objects.live()
        .select_related("user", "organization")
        .filter(public_id=claims.session_id, user__public_id=claims.user_id)
        .first()
    )
    if found is None:
        raise InvalidToken
    return found


def _given_before(session: ApiSession, token_id: str, now: datetime) -> str:
    """The id of the newest refresh token, if the one of `token_id` was traded for it just now; else nothing."""
    if now - session.refreshed_at >= timedelta(seconds=settings.JWT_REFRESH_GRACE_SECONDS):
        return ""
    successors = tokens.successors_of(token_id)
    return next((one for one in successors if compare_digest(tokens.digest_of(one), session.refresh_digest)), "")


def _issue(session: ApiSession, now: datetime, token_id: str) -> Tokens:
    """Tokens for `session`, whose fields become those of the newest refresh token; nothing is saved."""
    session.refresh_digest, session.refreshed_at = tokens.digest_of(token_id), now
    session.expires_at = now + timedelta(seconds=settings.JWT_REFRESH_EXPIRES_IN)
    return _tokens(session, token_id, now)


def _tokens(session: ApiSession, token_id: str, now: datetime) -> Tokens:
    """A pair of tokens; the refresh token has this id and lasts as long as the session."""
    about = {"user_id": session.user.public_id, "session_id": session.public_id, "now": now}
    access = tokens.make(ACCESS, **about, expires_at=now + timedelta(seconds=settings.JWT_EXPIRES_IN))
    refresh_token = tokens.make(REFRESH, **about, expires_at=session.expires_at, token_id=token_id)
    lasts = round((session.expires_at - now).total_seconds())
    return Tokens(session, access, refresh_token, settings.JWT_EXPIRES_IN, lasts)
