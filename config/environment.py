"""Settings from the environment: `.env.local`, then `.env`, fill what the environment itself does not set.

A wrong or missing value stops the start with one line that names it.
"""

import os
import re
from pathlib import Path
from urllib.parse import parse_qsl, unquote, urlsplit

_MISSING = object()
_TRUE = {"1", "true", "yes", "on"}
_FALSE = {"0", "false", "no", "off", ""}


class SettingError(SystemExit):
    """A setting is missing or wrong. Its message is one line; the process ends with status 1."""

    def __init__(self, name: str, problem: str) -> None:
        super().__init__(f"{name}: {problem}")


def read_env_files(directory: Path) -> None:
    """Load `.env.local`, then `.env`; a variable that is already set stays as it is."""
    for name in (".env.local", ".env"):
        path = directory / name
        if not path.is_file():
            continue
        for number, raw in enumerate(path.read_text().splitlines(), 1):
            line = raw.strip().removeprefix("export ").lstrip()
            if not line or line.startswith("#"):
                continue
            key, equals, value = line.partition("=")
            if not equals:
                raise SettingError(f"{name}:{number}", "expected NAME=value")
            value = value.strip()
            if len(value) >= 2 and value[0] == value[-1] and value[0] in "'\"":
                value = value[1:-1]
            os.environ.setdefault(key.strip(), value)


def env(name: str, default: str | object = _MISSING, *, choices: tuple[str, ...] = ()) -> str:
    """The variable `name` as text; without a default it must be set."""
    value = os.environ.get(name, default)
    if value is _MISSING:
        raise SettingError(name, "is not set")
    text = str(value)
    if choices and text not in choices:
        raise SettingError(name, f"is {text!r}, expected one of {', '.join(choices)}")
    return text


def env_bool(name: str, default: bool = False) -> bool:
    """The variable `name` as a boolean: 1/true/yes/on or 0/false/no/off."""
    value = os.environ.get(name, str(int(default))).strip().lower()
    if value not in _TRUE | _FALSE:
        raise SettingError(name, f"is {value!r}, expected 1 or 0")
    return value in _TRUE


def env_int(name: str, default: int, *, minimum: int = 0) -> int:
    """The variable `name` as an integer of at least `minimum`."""
    value = os.environ.get(name, str(default))
    try:
        number = int(value)
    except ValueError:
        raise SettingError(name, f"is {value!r}, expected a whole number") from None
    if number < minimum:
        raise SettingError(name, f"is {number}, expected at least {minimum}")
    return number


def env_url(name: str, default: str, *, schemes: tuple[str, ...] = ("http", "https")) -> str:
    """The variable `name` as a URL without a slash at its end, or nothing. It is not told: it may be a secret."""
    url = env_secret(name, default).rstrip("/")
    try:
        parts = urlsplit(url)
        is_url = parts.scheme in schemes and bool(parts.hostname or parts.scheme == "unix") and (parts.port or 1) > 0
    except ValueError:
        is_url = False
    if url and not is_url:
        raise SettingError(name, f"expected a URL that begins with {' or '.join(f'{one}://' for one in schemes)}")
    return url


def env_share(name: str, default: float) -> float:
    """The variable `name` as a share from 0 to 1."""
    value = os.environ.get(name, str(default)).strip()
    if not re.fullmatch(r"0?\.\d{1,9}|0|1|[01]\.0{1,9}", value):
        raise SettingError(name, f"is {value!r}, expected a share such as 0.05")
    return float(value)


def env_seconds(name: str, default: str) -> int:
    """The variable `name` as seconds: `900`, or with a unit `15m`, `24h`, `7d`."""
    value = os.environ.get(name, default).strip().lower()
    found = re.fullmatch(r"(\d{1,9})([smhd]?)", value)
    if found is None or not int(found[1]):
        raise SettingError(name, f"is {value!r}, expected a time such as 900, 15m, 24h or 7d")
    return int(found[1]) * {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}[found[2]]


def env_secret(name: str, default: str | object = _MISSING) -> str:
    """The variable `name`, or the content of the file that `name`_FILE names (Docker and Kubernetes secrets)."""
    path = os.environ.get(f"{name}_FILE")
    if path:
        try:
            return Path(path).read_text().strip()
        except OSError as error:
            raise SettingError(f"{name}_FILE", f"cannot be read: {error.strerror}") from None
    return env(name, default)


def env_together(*names: str) -> tuple[str, ...]:
    """The values of `names`, each as `env_secret` reads it, or nothing if none is set.

    Raises `SettingError` for the first that is missing alone.
    """
    values = tuple(env_secret(name, "").strip() for name in names)
    if not any(values):
        return ()
    for name, value in zip(names, values, strict=True):
        if not value:
            others = ", ".join(other for other in names if other != name)
            raise SettingError(name, f"is needed with {others}")
    return values


def database(url: str) -> dict[str, object]:
    """Django's database settings for a `postgres://user:password@host:port/name?option=value` URL."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise SettingError("DATABASE_URL", "is not a URL") from None
    if parts.scheme not in {"postgres", "postgresql"} or not parts.path.strip("/"):
        raise SettingError("DATABASE_URL", "expected postgres://user:password@host:port/name")
    return {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": unquote(parts.path.lstrip("/")),
        "USER": unquote(parts.username or ""),
        "PASSWORD": unquote(parts.password or ""),
        "HOST": unquote(parts.hostname or ""),
        "PORT": str(port or ""),
        "OPTIONS": dict(parse_qsl(parts.query)),
    }


def email(url: str) -> dict[str, object]:
    """Django's mailer settings for `console:`, `dummy:`, `smtp://` or `smtps://user:password@host:port`."""
    parts = urlsplit(url)
    match parts.scheme:
        case "console" | "dummy":
            return {"BACKEND": f"django.core.mail.backends.{parts.scheme}.EmailBackend"}
        case "smtp" | "smtps" if parts.hostname:
            return {
                "BACKEND": "django.core.mail.backends.smtp.EmailBackend",
                "OPTIONS": {
                    "host": parts.hostname,
                    "port": parts.port or (465 if parts.scheme == "smtps" else 587),
                    "username": unquote(parts.username or ""),
                    "password": unquote(parts.password or ""),
                    "use_ssl": parts.scheme == "smtps",
                    "use_tls": parts.scheme == "smtp" and bool(parts.username),
                    "timeout": 10,
                },
            }
    raise SettingError("EMAIL_URL", "expected console:, smtp://user:password@host:port or smtps://…")


def object_storage(*, bucket: str, endpoint: str, access_key: str, secret_key: str) -> dict[str, object]:
    """Django's storage settings for S3 or R2. Raises `SettingError`."""
    if not access_key or not secret_key:
        raise SettingError("R2_ACCESS_KEY_ID", "and R2_SECRET_ACCESS_KEY are needed with R2_BUCKET")
    from botocore.config import Config  # noqa: PLC0415 - half a second that installations without it need not wait

    client = Config(
        signature_version="s3v4",
        s3={"addressing_style": "path"},
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        connect_timeout=5,
        read_timeout=20,
        retries={"max_attempts": 2},
    )
    options = {
        "bucket_name": bucket,
        "access_key": access_key,
        "secret_key": secret_key,
        "endpoint_url": endpoint or None,
        "region_name": "auto",
        "default_acl": None,
        "file_overwrite": False,
        "client_config": client,
        "object_parameters": {"CacheControl": "public, max-age=31536000, s-maxage=86400, immutable"},
    }
    return {"BACKEND": "storages.backends.s3.S3Storage", "OPTIONS": options}
