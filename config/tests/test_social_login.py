"""Signing in with another account, end to end, at an OpenID Connect provider that this project did not write."""

import re
import secrets
from collections.abc import Iterator
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from config.tests import identity
from config.tests.identity import Identity
from config.tests.processes import Installation, Service
from sandbox.processes import free_port

pytestmark = [pytest.mark.processes, pytest.mark.xdist_group("identity")]


@pytest.fixture(scope="module")
def provider(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Identity]:
    with identity.running(tmp_path_factory.mktemp("identity")) as made:
        yield made


@pytest.fixture(scope="module")
def site_with(installation: Installation, provider: Identity) -> Service:
    """A web worker with the provider, and with GitHub, which nobody calls."""
    return installation.web(
        DEBUG="1",
        OIDC_ISSUER=provider.url,
        OIDC_CLIENT_ID="tuppence",
        OIDC_CLIENT_SECRET="secret",
        OIDC_NAME="Works",
        OIDC_TRUST_EMAIL="1",
        GITHUB_CLIENT_ID="a",
        GITHUB_CLIENT_SECRET="b",
    )


@pytest.fixture(scope="module")
def site_with_all(installation: Installation) -> Iterator[Service]:
    """A web worker with the four that have addresses of their own, which nobody calls here."""
    key = ec.generate_private_key(ec.SECP256R1())
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    ours = {
        f"{name}_CLIENT_{part}": f"{name.lower()}-{part.lower()}"
        for name in ("GITHUB", "GOOGLE", "FACEBOOK")
        for part in ("ID", "SECRET")
    }
    apple = {"APPLE_CLIENT_ID": "apple-id", "APPLE_TEAM_ID": "team", "APPLE_KEY_ID": "key"}
    site = installation.web(DEBUG="1", **ours, **apple, APPLE_PRIVATE_KEY=pem.replace("\n", "\\n"))
    yield site
    site.stop()


def address() -> str:
    return f"ada-{secrets.token_hex(4)}@example.com"


def browser(site: Service) -> httpx.Client:
    return httpx.Client(base_url=site.url, follow_redirects=False, timeout=30)


def begin(visitor: httpx.Client, path: str = "/accounts/oidc/sso/login/?process=login") -> httpx.Response:
    """Send the form of the button on the sign-in page."""
    visitor.get("/accounts/login/")
    form = {"csrfmiddlewaretoken": visitor.cookies["csrftoken"]}
    return visitor.post(path, data=form, headers={"referer": str(visitor.base_url)})


def come_back(visitor: httpx.Client, answer: httpx.Response) -> httpx.Response:
    """Follow redirects, to the provider and back, until there is a page."""
    while answer.is_redirect:
        answer = visitor.get(answer.headers["location"])
    return answer


def test_the_buttons_are_those_of_what_is_on(site_with: Service) -> None:
    for path in ("/accounts/login/", "/accounts/signup/"):
        page = httpx.get(site_with.url + path).text
        assert re.findall(r"Continue with (\w+)", page) == ["GitHub", "Works"]


def test_somebody_new_gets_an_account_and_an_organization(
    site_with: Service, provider: Identity, installation: Installation
) -> None:
    email = address()
    provider.becomes(sub=secrets.token_hex(8), email=email, email_verified=True, name="Ada Lovelace")
    with browser(site_with) as visitor:
        sent = begin(visitor)
        asked = parse_qs(urlsplit(sent.headers["location"]).query)
        assert sent.headers["location"].startswith(f"{provider.url}/authorize")
        assert set(asked["scope"][0].split()) == {"openid", "profile", "email"}
        assert asked["code_challenge_method"] == ["S256"]
        page = come_back(visitor, sent)
        assert page.status_code == 200
        assert re.fullmatch(r"/o/[a-z0-9-]+/", page.url.path)
        assert email in page.text
    (user,) = installation.query(
        "select u.name, m.role, o.is_personal from accounts_user u join accounts_membership m on m.user_id = u.id"
        " join accounts_organization o on o.id = m.organization_id where u.email = %s",
        email,
    )
    assert user == {"name": "Ada Lovelace", "role": "owner", "is_personal": True}


def test_a_program_names_whom_the_device_page_asks(site_with: Service, provider: Identity) -> None:
    provider.becomes(sub=secrets.token_hex(8), email=address(), email_verified=True)
    with browser(site_with) as visitor:
        sent = visitor.get("/device?user_code=BCDF-GHJK&provider=sso").headers["location"]
        assert sent.startswith("/accounts/oidc/sso/login/?process=login&next=%2Fdevice%3Fuser_code%3DBCDF-GHJK")
        page = come_back(visitor, begin(visitor, sent))
        assert (page.url.path, page.url.params["user_code"]) == ("/device", "BCDF-GHJK")
    github = httpx.get(f"{site_with.url}/device?provider=github").headers["location"]
    assert github == "/accounts/github/login/?process=login&next=%2Fdevice"


def test_the_same_person_comes_back_to_the_same_account(
    site_with: Service, provider: Identity, installation: Installation
) -> None:
    email, sub = address(), secrets.token_hex(8)
    provider.becomes(sub=sub, email=email, email_verified=True)
    seen = set()
    for _ in range(2):
        with browser(site_with) as visitor:
            seen.add(come_back(visitor, begin(visitor)).url.path)
    assert len(seen) == 1
    assert len(installation.query("select 1 from accounts_user where email = %s", email)) == 1


def test_a_verified_address_leads_to_the_account_that_is_here(site_with: Service, provider: Identity) -> None:
    """The provider's word is taken; but whoever registered without confirming the address loses every way in."""
    email = address()
    made = httpx.post(f"{site_with.url}/v1/auth/register", json={"email": email, "password": "copper-pine-42"}).json()
    provider.becomes(sub=secrets.token_hex(8), email=email, email_verified=True)
    with browser(site_with) as visitor:
        page = come_back(visitor, begin(visitor))
    assert page.url.path == f"/o/{made['organization']['slug']}/"
    assert "end what is not yours" in page.text
    mine = {"authorization": f"Bearer {made['access_token']}"}
    assert httpx.get(f"{site_with.url}/v1/auth/me", headers=mine).status_code == 401
    kept = httpx.post(f"{site_with.url}/v1/auth/refresh", json={"refresh_token": made["refresh_token"]})
    assert kept.status_code == 401
    again = httpx.post(f"{site_with.url}/v1/auth/login", json={"email": email, "password": "copper-pine-42"})
    assert again.status_code == 401


def test_an_address_that_the_provider_has_not_verified_takes_no_account(site_with: Service, provider: Identity) -> None:
    email = address()
    httpx.post(f"{site_with.url}/v1/auth/register", json={"email": email, "password": "copper-pine-42"})
    provider.becomes(sub=secrets.token_hex(8), email=email, email_verified=False)
    with browser(site_with) as visitor:
        page = come_back(visitor, begin(visitor))
        assert page.url.path == "/accounts/3rdparty/signup/"
        assert visitor.get("/account/").is_redirect


def test_an_answer_that_was_not_asked_for_signs_nobody_in(site_with: Service, provider: Identity) -> None:
    provider.becomes(sub="mallory", email=address(), email_verified=True)
    with browser(site_with) as visitor:
        page = come_back(visitor, visitor.get("/accounts/oidc/sso/login/callback/?code=x&state=forged"))
        assert "went wrong" in page.text
        assert visitor.get("/account/").is_redirect


def test_a_provider_that_is_off_is_not_there(site_with: Service) -> None:
    with browser(site_with) as visitor:
        assert visitor.get("/accounts/google/login/").status_code == 404
        assert begin(visitor, "/accounts/oidc/another/login/").status_code == 404


@pytest.mark.parametrize(
    ("name", "page", "scope"),
    [
        ("github", "https://github.com/login/oauth/authorize", "user:email"),
        ("google", "https://accounts.google.com/o/oauth2/v2/auth", "email"),
        ("facebook", "https://www.facebook.com/", "email"),
        ("apple", "https://appleid.apple.com/auth/authorize", "email"),
    ],
)
def test_each_provider_is_asked_in_its_own_way(site_with_all: Service, name: str, page: str, scope: str) -> None:
    with browser(site_with_all) as visitor:
        sent = begin(visitor, f"/accounts/{name}/login/")
        policy = visitor.get("/accounts/login/").headers["content-security-policy"]
    assert sent.headers["location"].startswith(page)
    asked = parse_qs(urlsplit(sent.headers["location"]).query)
    assert asked["client_id"] == [f"{name}-id"]
    assert asked["redirect_uri"] == [f"{site_with_all.url}/accounts/{name}/login/callback/"]
    assert scope in re.split("[ ,]", asked["scope"][0])
    assert asked["state"]
    (forms,) = [part for part in policy.split(";") if "form-action" in part]
    assert "/".join(page.split("/")[:3]) in forms


def test_a_provider_that_is_away_is_an_error_that_people_can_read(installation: Installation) -> None:
    away = installation.web(
        DEBUG="1", OIDC_ISSUER=f"http://localhost:{free_port()}", OIDC_CLIENT_ID="a", OIDC_CLIENT_SECRET="b"
    )
    with browser(away) as visitor:
        page = come_back(visitor, begin(visitor))
    away.stop()
    assert "went wrong" in page.text
