"""The tokens of the JSON API: JWTs (RFC 7519), signed by HMAC-SHA256 with a key made from SECRET_KEY.

An access token opens the management API for minutes; a refresh token buys the next pair, once. Each names its audience,
so that neither passes for the other. To rotate, put the old key into SECRET_KEY_FALLBACKS.
"""

import hashlib
import hmac
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID, uuid4

import jwt
from django.conf import settings

from accounts.errors import AccountsError

ALGORITHM = "HS256"
ACCESS, REFRESH = "access", "refresh"
MAX_LENGTH = 2_048
_REQUIRED = ["iss", "aud", "sub", "sid", "jti", "iat", "exp"]


class InvalidToken(AccountsError):
    """Not one of our tokens, or one whose time is over (`is_expired`)."""

    def __init__(self, *, is_expired: bool = False) -> None:
        super().__init__("expired" if is_expired else "invalid")
        self.is_expired = is_expired


@dataclass(frozen=True, slots=True)
class Claims:
    """What a token says: the person and the API session that it belongs to, and its own id."""

    user_id: UUID
    session_id: UUID
    token_id: str


def looks_like(secret: str) -> bool:
    """Whether `secret` has the form of a JWT; an API key never has."""
    return secret.startswith("eyJ") and secret.count(".") == 2


def make(kind: str, *, user_id: UUID, session_id: UUID, now: datetime, expires_at: datetime, token_id: str = "") -> str:
    """A signed token, with a random id unless one is given. `kind` is `ACCESS` or `REFRESH`."""
    claims = {
        "iss": settings.SITE_URL,
        "aud": _audience(kind),
        "sub": str(user_id),
        "sid": str(session_id),
        "jti": token_id or uuid4().hex,
        "iat": now,
        "exp": expires_at,
    }
    return jwt.encode(claims, next(_keys()), algorithm=ALGORITHM)


def read(token: str, kind: str) -> Claims:
    """The claims of a token of this `kind`, its signature, audience and time checked. Raises `InvalidToken`."""
    if len(token) > MAX_LENGTH or not token.isascii():
        raise InvalidToken
    for key in _keys():
        try:
            claims = jwt.decode(
                token,
                key,
                algorithms=[ALGORITHM],
                audience=_audience(kind),
                issuer=settings.SITE_URL,
                options={"require": _REQUIRED},
            )
            return Claims(UUID(claims["sub"]), UUID(claims["sid"]), str(claims["jti"]))
        except jwt.InvalidSignatureError:
            continue
        except jwt.ExpiredSignatureError:
            raise InvalidToken(is_expired=True) from None
        except (jwt.InvalidTokenError, ValueError):
            raise InvalidToken from None
    raise InvalidToken


def digest_of(token_id: str) -> str:
    """What is kept of a refresh token."""
    return hashlib.sha256(token_id.encode()).hexdigest()


def successors_of(token_id: str) -> Iterator[str]:
    """The ids that the refresh token after `token_id` may have: the one to give first, then those of former keys.

    They follow from it, so that a repeated request gives the same successor and none has to be kept in the clear.
    """
    for key in _keys():
        yield hmac.digest(key, b"refresh after " + token_id.encode(), hashlib.sha256).hex()[:32]


def _audience(kind: str) -> str:
    return f"{settings.SITE_URL}/v1" if kind == ACCESS else f"{settings.SITE_URL}/v1/auth/refresh"


def _keys() -> Iterator[bytes]:
    """The key that signs, then those that may still have signed."""
    for secret in (settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS):
        yield hmac.digest(secret.encode(), b"tuppence.jwt", hashlib.sha256)
