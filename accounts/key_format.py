"""The text of an API key: `sk-tup-`, 12 characters of public id, 32 of secret, 6 of CRC32. Pure.

The checksum refuses a typo, or a leaked string that is no key of ours, before any database is asked (the idea is
GitHub's token format).
"""

import hashlib
import hmac
import re
import secrets
import string
import zlib
from collections.abc import Callable

PREFIX = "sk-tup-"
ID_LENGTH = 12
SECRET_LENGTH = 32
CHECKSUM_LENGTH = 6
_ALPHABET = string.digits + string.ascii_uppercase + string.ascii_lowercase
_SHAPE = re.compile(rf"{PREFIX}[0-9A-Za-z]{{{ID_LENGTH + SECRET_LENGTH + CHECKSUM_LENGTH}}}", re.ASCII)


def generate() -> str:
    """A new key: 190 bits from the system's random source behind its public id."""
    body = "".join(secrets.choice(_ALPHABET) for _ in range(ID_LENGTH + SECRET_LENGTH))
    return f"{PREFIX}{body}{_checksum(PREFIX + body)}"


def is_well_formed(secret: str) -> bool:
    """Whether `secret` has the shape of a key and its checksum is right."""
    return bool(_SHAPE.fullmatch(secret)) and hmac.compare_digest(
        secret[-CHECKSUM_LENGTH:], _checksum(secret[:-CHECKSUM_LENGTH])
    )


def public_prefix(secret: str) -> str:
    """The part of a key that may be kept and shown: `sk-tup-` and the public id."""
    return secret[: len(PREFIX) + ID_LENGTH]


def digest_of(secret: str, pepper: str) -> str:
    """The keyed digest that is stored in the key's place: hex HMAC-SHA256."""
    return digester(pepper)(secret)


def digester(pepper: str) -> Callable[[str], str]:
    """`digest_of` for many secrets: the pepper's own part of it, half of the time, is done once."""
    begun = hmac.new(pepper.encode(), digestmod=hashlib.sha256)

    def digest(secret: str) -> str:
        whole = begun.copy()
        whole.update(secret.encode())
        return whole.hexdigest()

    return digest


def _checksum(text: str) -> str:
    number, digits = zlib.crc32(text.encode()), []
    for _ in range(CHECKSUM_LENGTH):
        number, digit = divmod(number, len(_ALPHABET))
        digits.append(_ALPHABET[digit])
    return "".join(reversed(digits))
