"""Which credential goes with a request, and keeping people's tokens fresh."""

import os
import time
from collections.abc import Callable
from dataclasses import replace
from enum import Enum
from typing import Any

from pixie.errors import PixieError, SignedOut
from pixie.profiles import Profile, Profiles, Secrets

KEY_PREFIX = "sk-tup-"
_EARLY_S = 30.0


class Who(Enum):
    """Whom a request is made as."""

    NOBODY = "nobody"
    MAYBE = "maybe"  # with a key if there is one
    KEY = "key"
    PERSON = "person"
    OPERATOR = "operator"


class Access:
    """The credentials for one server. `refresh` trades a refresh token for the answer of `/v1/auth/refresh`."""

    def __init__(self, profiles: Profiles, profile: Profile, refresh: Callable[[str], dict[str, Any]]) -> None:
        self._profiles = profiles
        self._profile = profile
        self._refresh = refresh
        self._secrets: Secrets | None = None

    @property
    def secrets(self) -> Secrets:
        if self._secrets is None:
            self._secrets = self._profiles.secrets_of(self._profile)
        return self._secrets

    @property
    def source(self) -> str:
        """Where the credential for `Who.KEY` comes from; "" where there is none."""
        if os.environ.get("PIXIE_API_KEY"):
            return "PIXIE_API_KEY"
        if self.secrets.api_key or self.secrets.access_token:
            return f"profile {self._profile.name}"
        return "OPENAI_API_KEY" if _key_of_environment() else ""

    def headers(self, who: Who) -> dict[str, str]:
        """The headers that say who asks. Raises `SignedOut`."""
        token = os.environ.get("PIXIE_ADMIN_TOKEN", "")
        if who is Who.OPERATOR and token:
            return {"X-Admin-Token": token}
        secret = self._secret(who)
        if not secret and who not in {Who.NOBODY, Who.MAYBE}:
            is_key_kept = who is Who.PERSON and self.secrets.api_key
            raise SignedOut(
                "This needs a sign-in: a key is not enough." if is_key_kept else "You are not signed in here."
            )
        return {"Authorization": f"Bearer {secret}"} if secret else {}

    def renew(self, headers: dict[str, str]) -> bool:
        """After a 401: whether there is now another access token than the one in `headers`."""
        used = headers.get("Authorization", "").removeprefix("Bearer ")
        if not used or used != self.secrets.access_token or not self.secrets.refresh_token:
            return False
        return self._renew(used)

    def _secret(self, who: Who) -> str:
        if who is Who.NOBODY:
            return ""
        explicit = os.environ.get("PIXIE_API_KEY", "").strip()
        if who is Who.OPERATOR and explicit:  # a key of staff's
            return explicit
        if who is Who.PERSON:
            return self._token() or explicit
        if who is Who.OPERATOR:
            return self._token() or self.secrets.api_key or _key_of_environment()
        return explicit or self.secrets.api_key or self._token() or _key_of_environment()

    def _token(self) -> str:
        kept = self.secrets
        if kept.access_token and kept.refresh_token and kept.expires_at - _EARLY_S < time.time():
            self._renew(kept.access_token)
        return self.secrets.access_token

    def _renew(self, used: str) -> bool:
        with self._profiles.lock():
            kept = self._secrets = self._profiles.secrets_of(self._profile)
            if kept.access_token != used:  # another pixie was faster
                return bool(kept.access_token)
            try:
                told = self._refresh(kept.refresh_token)
            except PixieError as error:
                if not isinstance(error, SignedOut):
                    raise
                self._secrets = replace(kept, access_token="", refresh_token="", expires_at=0.0)
                self._profiles.keep(self._profile, self._secrets)
                if self._secrets.api_key:
                    return False
                raise SignedOut("Your sign-in has ended.") from None
            self._secrets = with_tokens(kept, told)
            self._profiles.keep(self._profile, self._secrets)
        return True


def with_tokens(secrets: Secrets, told: dict[str, Any]) -> Secrets:
    """The secrets with the tokens of an answer that has some."""
    try:
        access, lasts = str(told["access_token"]), float(told.get("expires_in") or 0)
    except (KeyError, TypeError, ValueError):
        raise PixieError("The server's answer has no token in it.", "It may be newer than this pixie.") from None
    return replace(
        secrets,
        access_token=access,
        refresh_token=str(told.get("refresh_token") or secrets.refresh_token),
        expires_at=time.time() + lasts,
    )


def _key_of_environment() -> str:
    """`OPENAI_API_KEY`, where it is a key of this platform's: another's is not sent here."""
    key = os.environ.get("OPENAI_API_KEY", "").strip()
    return key if key.startswith(KEY_PREFIX) else ""
