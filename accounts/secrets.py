"""Secrets at rest: Fernet tokens (AES-128-CBC with HMAC-SHA256) under keys made from SECRET_KEY.

To rotate, put the old key into SECRET_KEY_FALLBACKS: it still decrypts, and `rotated` encrypts anew.
"""

import hashlib
import hmac
from base64 import urlsafe_b64encode
from functools import lru_cache

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from django.conf import settings

_PURPOSE = b"tuppence.secrets"


class Undecryptable(ValueError):
    """The token was not made with SECRET_KEY or any of SECRET_KEY_FALLBACKS, or was damaged."""


def encrypt(secret: str) -> str:
    """A token that only this installation can read; another one every time."""
    return _fernet().encrypt(secret.encode()).decode()


def decrypt(token: str) -> str:
    """The secret in `token`. Raises `Undecryptable`."""
    try:
        return _fernet().decrypt(token).decode()
    except (InvalidToken, ValueError):
        raise Undecryptable("not encrypted with SECRET_KEY or one of SECRET_KEY_FALLBACKS") from None


def rotated(token: str) -> str:
    """`token` under the newest key. Raises `Undecryptable`."""
    try:
        return _fernet().rotate(token).decode()
    except (InvalidToken, ValueError):
        raise Undecryptable("not encrypted with SECRET_KEY or one of SECRET_KEY_FALLBACKS") from None


def fingerprint(secret: str) -> str:
    """Says whether two secrets are the same without telling either: a keyed hash, under SECRET_KEY."""
    return hmac.new(_key(settings.SECRET_KEY, b"tuppence.fingerprint"), secret.encode(), hashlib.sha256).hexdigest()


def _fernet() -> MultiFernet:
    return _fernet_of((settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS))


@lru_cache(maxsize=4)
def _fernet_of(keys: tuple[str, ...]) -> MultiFernet:
    return MultiFernet([Fernet(urlsafe_b64encode(_key(key, _PURPOSE))) for key in keys])


def _key(secret_key: str, purpose: bytes) -> bytes:
    return hmac.new(secret_key.encode(), purpose, hashlib.sha256).digest()
