"""Signing in with another account: each provider is on when its environment variables are there, and only then."""

import re
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from config.environment import SettingError, env, env_bool, env_together

# Where a browser is sent to sign in: a form that leads there must be allowed to.
_ORIGINS = {
    "github": "https://github.com",
    "google": "https://accounts.google.com",
    "facebook": "https://www.facebook.com",
    "apple": "https://appleid.apple.com",
}


@dataclass
class Providers:
    """What Django's settings need: apps, allauth's own settings, and the origins that forms may lead to."""

    apps: list[str] = field(default_factory=list)
    settings: dict[str, dict[str, Any]] = field(default_factory=dict)
    origins: list[str] = field(default_factory=list)

    def add(self, name: str, app: dict[str, Any], *, origin: str, trusts_email: bool, **more: Any) -> None:
        """`trusts_email`: an address that the provider has verified signs its owner in to the account that is here."""
        self.apps.append(f"allauth.socialaccount.providers.{name}")
        self.settings[name] = {"APPS": [app], "EMAIL_AUTHENTICATION": trusts_email, **more}
        self.origins.append(origin)


def providers() -> Providers:
    """The providers that are on. Raises `SettingError` for one that is half set."""
    found = Providers()
    for name in ("github", "google", "facebook"):
        given = env_together(f"{name.upper()}_CLIENT_ID", f"{name.upper()}_CLIENT_SECRET")
        if given:
            client_id, secret = given
            app = {"client_id": client_id, "secret": secret}
            more = _MORE.get(name, {})
            found.add(name, app, origin=_ORIGINS[name], trusts_email=name != "facebook", **more)
    _add_apple(found)
    _add_openid_connect(found)
    return found


_MORE: dict[str, dict[str, Any]] = {
    "github": {"SCOPE": ["read:user", "user:email"]},
    "google": {"SCOPE": ["openid", "profile", "email"], "OAUTH_PKCE_ENABLED": True, "FETCH_USERINFO": True},
}


def _add_apple(found: Providers) -> None:
    names = ("APPLE_CLIENT_ID", "APPLE_TEAM_ID", "APPLE_KEY_ID", "APPLE_PRIVATE_KEY")
    given = env_together(*names)
    if not given:
        return
    client_id, team_id, key_id, private_key = given
    pem = private_key.replace("\\n", "\n")
    try:
        is_right = isinstance(load_pem_private_key(pem.encode(), None), EllipticCurvePrivateKey)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        is_right = False
    if not is_right:
        raise SettingError("APPLE_PRIVATE_KEY", "is not the content of the .p8 file that Apple gave you")
    app = {"client_id": client_id, "secret": key_id, "key": team_id, "settings": {"certificate_key": pem}}
    found.add("apple", app, origin=_ORIGINS["apple"], trusts_email=True)


def _add_openid_connect(found: Providers) -> None:
    given = env_together("OIDC_ISSUER", "OIDC_CLIENT_ID", "OIDC_CLIENT_SECRET")
    if not given:
        return
    issuer, client_id, secret = given
    parts = urlsplit(issuer)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise SettingError("OIDC_ISSUER", "expected a URL such as https://login.example.com")
    provider_id = env("OIDC_ID", "sso")
    if not re.fullmatch(r"[a-z0-9-]{1,30}", provider_id):
        raise SettingError("OIDC_ID", "expected lower-case letters, digits and dashes")
    app = {
        "provider_id": provider_id,
        "name": env("OIDC_NAME", "Single sign-on"),
        "client_id": client_id,
        "secret": secret,
        "settings": {"server_url": issuer.rstrip("/")},
    }
    trusts = env_bool("OIDC_TRUST_EMAIL")
    scope = env("OIDC_SCOPE", "openid profile email").split()
    if "openid" not in scope:
        raise SettingError("OIDC_SCOPE", "must name the scope openid")
    origin = f"{parts.scheme}://{parts.netloc}"
    found.add("openid_connect", app, origin=origin, trusts_email=trusts, OAUTH_PKCE_ENABLED=True, SCOPE=scope)
    # Where people sign in at another host than the issuer's.
    for more in env("OIDC_FORM_ORIGINS", "").split(","):
        if more.strip():
            found.origins.append(more.strip())
