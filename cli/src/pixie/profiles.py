"""Servers and accounts by name, and their secrets: in the system's keyring, else in a file that only its owner reads.

A secret belongs to one server: it is never sent to another, whatever `--api-url` says.
"""

import contextlib
import json
import os
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import typer

from pixie.errors import PixieError, UsageError

DEFAULT_URL = "http://localhost:8000"
DEFAULT_PROFILE = "default"
SERVICE = "pixie"
KEYRING, FILE = "keyring", "file"
LOCK_STALE_S = 60.0
LOCK_WAIT_S = 30.0
_NAME_LENGTH = 40


@dataclass(frozen=True, slots=True)
class Profile:
    """One server and who we are there. `store` says where its secrets are, "" that there are none."""

    name: str
    api_url: str = ""
    email: str = ""
    organization: str = ""
    store: str = ""


@dataclass(frozen=True, slots=True)
class Secrets:
    """What opens a server. `expires_at` is the access token's end in seconds since 1970.

    `api_key` opens the metered API; `api_key_id` is set where pixie made that key itself, and ends it at logout.
    """

    access_token: str = field(default="", repr=False)
    refresh_token: str = field(default="", repr=False)
    expires_at: float = 0.0
    api_key: str = field(default="", repr=False)
    api_key_id: str = ""


class Profiles:
    """The profiles of this user, in `profiles.json` of the configuration directory."""

    def __init__(self, directory: Path | None = None) -> None:
        self.directory = directory or config_directory()
        self._path = self.directory / "profiles.json"

    @property
    def current(self) -> str:
        """The name of the profile that is used where none is named."""
        return str(self._read().get("current") or DEFAULT_PROFILE)

    def names(self) -> list[str]:
        return sorted(self._read().get("profiles", {}))

    def get(self, name: str = "") -> Profile:
        """The profile `name`, or the current one; an empty one where there is none yet."""
        name = name or self.current
        if not name.replace("-", "").replace("_", "").isalnum() or len(name) > _NAME_LENGTH:
            raise UsageError(f"{name!r} is no name for a profile.", "Use letters, digits, - and _.")
        kept = self._read().get("profiles", {}).get(name, {})
        known = {key: str(value) for key, value in kept.items() if key in Profile.__dataclass_fields__}
        return replace(Profile(name), **{**known, "name": name})

    def save(self, profile: Profile, *, make_current: bool = False) -> None:
        told = self._read()
        fields = asdict(profile)
        told.setdefault("profiles", {})[fields.pop("name")] = fields
        if make_current or "current" not in told:
            told["current"] = profile.name
        _write_private(self._path, told)

    def use(self, name: str) -> Profile:
        """Make `name` the current profile."""
        if name not in self.names():
            known = ", ".join(self.names()) or "none yet"
            raise UsageError(f"There is no profile {name!r}.", f"Profiles: {known}. `pixie auth login` makes one.")
        self.save(self.get(name), make_current=True)
        return self.get(name)

    # ------------------------------------------------------------ secrets

    def secrets_of(self, profile: Profile) -> Secrets:
        """What opens this profile's server; empty where nobody is signed in."""
        match profile.store:
            case "keyring":
                text = _keyring_get(_account(profile))
            case "file":
                text = self._secrets_file().get(_account(profile), "")
            case _:
                text = ""
        try:
            kept = json.loads(text) if text else {}
        except ValueError:
            kept = {}
        return Secrets(**{name: kept[name] for name in Secrets.__dataclass_fields__ if name in kept})

    def keep(self, profile: Profile, secrets: Secrets, *, make_current: bool = False) -> Profile:
        """Keep secrets for a profile, in the keyring where there is one. Returns the profile as it is now."""
        text, account = json.dumps(asdict(secrets)), _account(profile)
        if profile.store != FILE and _keyring_set(account, text):
            kept = replace(profile, store=KEYRING)
        else:
            _write_private(self.directory / "credentials.json", {**self._secrets_file(), account: text})
            kept = replace(profile, store=FILE)
        self.save(kept, make_current=make_current)
        return kept

    def forget(self, profile: Profile) -> Profile:
        """Delete the secrets of a profile; the profile itself stays."""
        if profile.store == KEYRING:
            _keyring_delete(_account(profile))
        elif profile.store == FILE:
            kept = self._secrets_file()
            kept.pop(_account(profile), None)
            _write_private(self.directory / "credentials.json", kept)
        empty = replace(profile, store="", email="", organization="")
        self.save(empty)
        return empty

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """One pixie at a time: a refresh token works once, and using it twice would end the session."""
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        path, deadline = self.directory / "lock", time.monotonic() + LOCK_WAIT_S
        while True:
            try:
                path.mkdir()
                break
            except FileExistsError:
                with contextlib.suppress(OSError):
                    if time.time() - path.stat().st_mtime > LOCK_STALE_S:
                        path.rmdir()
                        continue
                if time.monotonic() > deadline:
                    raise PixieError("Another pixie is signing in.", f"If none is, delete {path}.") from None
                time.sleep(0.05)
        try:
            yield
        finally:
            with contextlib.suppress(OSError):
                path.rmdir()

    def _secrets_file(self) -> dict[str, str]:
        path = self.directory / "credentials.json"
        if os.name == "posix" and path.exists() and path.stat().st_mode & 0o077:
            path.chmod(0o600)
        return _read(path)

    def _read(self) -> dict[str, Any]:
        return _read(self._path)


def config_directory() -> Path:
    """`PIXIE_CONFIG_DIR`, or where this system keeps the settings of programs."""
    return Path(os.environ.get("PIXIE_CONFIG_DIR") or typer.get_app_dir("pixie"))


def normal_url(url: str) -> str:
    """The server's address without a final slash, and without the `/v1` that SDKs want."""
    url = url.strip().rstrip("/").removesuffix("/v1").rstrip("/")
    if not url.startswith(("http://", "https://")) or len(url) < len("http://x"):
        raise UsageError(f"{url!r} is no address of a server.", "Give one like https://api.example.com.")
    return url


def _account(profile: Profile) -> str:
    return f"{profile.name} {profile.api_url}"


def _read(path: Path) -> dict[str, Any]:
    try:
        told = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise PixieError(f"{path} cannot be read: {error}.", "Repair it, or delete it and sign in again.") from None
    return told if isinstance(told, dict) else {}


def _write_private(path: Path, told: dict[str, Any]) -> None:
    """Replace the file at once by one that only its owner can read."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}")  # made with mode 0600
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            json.dump(told, file, indent=1)
        Path(name).replace(path)
    except OSError as error:
        raise PixieError(
            f"{path} cannot be written: {error.strerror}.", "Set PIXIE_CONFIG_DIR to a directory of yours."
        ) from None


def _keyring() -> Any:
    """The system's keyring; None where there is none, or `PIXIE_CREDENTIALS=file` wants none."""
    if os.environ.get("PIXIE_CREDENTIALS") == FILE:
        return None
    import keyring  # noqa: PLC0415 - slow to import, and seldom needed

    try:
        backend = keyring.get_keyring()
        return backend if backend.priority > 0 else None
    except Exception:  # a keyring may fail in any way of its own
        return None


def _keyring_get(account: str) -> str:
    backend = _keyring()
    try:
        return (backend.get_password(SERVICE, account) if backend else "") or ""
    except Exception as error:
        raise PixieError(
            f"The system's keyring does not open: {type(error).__name__}.",
            "Unlock it, or sign in again with PIXIE_CREDENTIALS=file.",
        ) from None


def _keyring_set(account: str, text: str) -> bool:
    backend = _keyring()
    if backend is None:
        return False
    try:
        backend.set_password(SERVICE, account, text)
    except Exception:  # locked, or out of order: the file does
        return False
    return True


def _keyring_delete(account: str) -> None:
    backend = _keyring()
    with contextlib.suppress(Exception):  # it may be gone already
        if backend is not None:
            backend.delete_password(SERVICE, account)
