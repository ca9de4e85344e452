"""Device login, passwords, keys, profiles, refreshing, and where secrets are kept and sent."""

import json
import re
import stat
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import KEY, Answer, Asked, Pixie, Server

ME = {"email": "penny@example.com", "organization": {"slug": "penny", "role": "owner"}}
MADE = {"id": "11111111-1111-1111-1111-111111111111", "secret": "sk-tup-" + "m" * 50}
CODE = {
    "device_code": "dev-1_x", "user_code": "BCDF-GHJK", "verification_uri": "https://here/device",
    "verification_uri_complete": "https://here/device?user_code=BCDF-GHJK", "expires_in": 60, "interval": 0.01,
}  # fmt: skip
BALANCE = {"organization": "penny", "balance": "1.0", "held": "0.0", "credit_limit": "0.0", "available": "1.0000"}


def pair(number: int = 1, expires_in: float = 900) -> dict[str, Any]:
    return {"access_token": f"eyJ.a.{number}", "refresh_token": f"eyJ.r.{number}", "expires_in": expires_in}


def oauth(code: str) -> Answer:
    return Answer({"error": {"message": code, "code": code}}, 400, {"x-should-retry": "false"})


def refused(status: int, code: str, **more: Any) -> Answer:
    return Answer({"error": {"message": code, "code": code, **more}}, status, {"x-should-retry": "false"})


@pytest.fixture
def signing_in(server: Server) -> Server:
    server.on("POST", "/v1/auth/device/code", CODE)
    server.on("POST", "/v1/auth/device/token", pair())
    server.on("GET", "/v1/auth/me", ME)
    server.on("POST", "/v1/auth/api-keys", Answer(MADE, 201))
    server.on("DELETE", f"/v1/auth/api-keys/{MADE['id']}", {"deleted": True})
    server.on("POST", "/v1/auth/logout", {"ended": True})
    server.on("GET", "/v1/credits/balance", BALANCE)
    return server


def test_a_login_by_device(anonymous: Pixie, signing_in: Server) -> None:
    signing_in.on("POST", "/v1/auth/device/token", oauth("authorization_pending"),
                  Answer(b"<html>", 502, {"x-should-retry": "false"}, "text/html"), pair())  # fmt: skip
    begun = time.monotonic()
    done = anonymous("auth", "login")
    assert done.code == 0, done.err
    assert time.monotonic() - begun > 5  # a server that fails is asked less often
    assert "Open https://here/device?user_code=BCDF-GHJK" in done.err
    assert "BCDF-GHJK" in done.err
    assert "Signed in as penny@example.com for penny; kept in the file." in done.err
    polls = signing_in.calls("/v1/auth/device/token")
    assert len(polls) == 3
    assert polls[0].json == {
        "grant_type": "urn:ietf:params:oauth:grant-type:device_code",
        "device_code": "dev-1_x",
        "client_id": "pixie",
    }
    assert signing_in.calls("/v1/auth/device/code")[0].json["client_name"].startswith("pixie on ")
    assert anonymous("credits", "-q").out == "1.0000\n"
    assert signing_in.asked[-1].bearer == MADE["secret"]
    told = anonymous("auth", "status", "--json").json
    assert (told["email"], told["role"], told["kept_in"]) == ("penny@example.com", "owner", "file")
    assert signing_in.asked[-1].bearer == "eyJ.a.1"
    for secret in ("eyJ", "sk-tup-"):
        assert secret not in done.out + done.err


def test_secrets_are_for_their_owner_alone(anonymous: Pixie, signing_in: Server) -> None:
    anonymous("auth", "login")
    config = Path(anonymous.env["PIXIE_CONFIG_DIR"])
    assert stat.S_IMODE(config.stat().st_mode) == 0o700
    path = config / "credentials.json"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert "sk-tup-" not in (config / "profiles.json").read_text()
    path.chmod(0o644)
    anonymous("credits")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.parametrize(
    ("answer", "code", "words"),
    [("access_denied", 4, "turned away"), ("expired_token", 10, "in time"), ("invalid_grant", 1, "invalid_grant")],
)
def test_a_login_that_fails(anonymous: Pixie, signing_in: Server, answer: str, code: int, words: str) -> None:
    signing_in.on("POST", "/v1/auth/device/token", oauth(answer))
    done = anonymous("auth", "login")
    assert done.code == code
    assert words in done.err
    assert anonymous("auth", "status").code == 3


def test_a_login_that_nobody_approves_ends(anonymous: Pixie, signing_in: Server) -> None:
    signing_in.on("POST", "/v1/auth/device/code", CODE | {"expires_in": 0.3})
    signing_in.on("POST", "/v1/auth/device/token", oauth("authorization_pending"))
    assert anonymous("auth", "login").code == 10


@pytest.mark.parametrize("provider", ["github", "google"])
def test_a_provider_is_passed_to_the_page(anonymous: Pixie, signing_in: Server, provider: str) -> None:
    assert f"user_code=BCDF-GHJK&provider={provider}\n" in anonymous("auth", provider).err


def test_a_server_without_device_login_tells_the_other_way(anonymous: Pixie) -> None:
    done = anonymous("auth", "login")
    assert done.code == 5
    assert "--with-key" in done.err


def test_the_browser_is_opened(anonymous: Pixie, signing_in: Server, tmp_path: Path) -> None:
    opener = tmp_path / "browser"
    opener.write_text(f'#!/bin/sh\necho "$1" > {tmp_path}/opened\n')
    opener.chmod(0o755)
    done = anonymous("auth", "login", PIXIE_NO_BROWSER="", BROWSER=f"{opener} %s")
    assert done.code == 0, done.err
    assert (tmp_path / "opened").read_text().strip() == CODE["verification_uri_complete"]


def test_the_state_of_a_device_login(anonymous: Pixie, server: Server) -> None:
    server.on("GET", "/v1/auth/device/dev-1_x/status", {"status": "pending", "expires_in": 5})
    assert anonymous("auth", "device-status", "dev-1_x", "-q").out == "pending\n"
    assert "pending" in anonymous("auth", "device-status", "dev-1_x").out
    assert anonymous("auth", "device-status", "../me").code == 2


def test_a_login_by_password(anonymous: Pixie, signing_in: Server) -> None:
    signing_in.on("POST", "/v1/auth/login", pair() | {"user": {}})
    done = anonymous("auth", "login", "--email", "penny@example.com", "--json", stdin=" two pennies \n")
    assert done.code == 0, done.err
    assert done.json["email"] == "penny@example.com"
    assert signing_in.calls("/v1/auth/login")[0].json["password"] == " two pennies "


def test_a_password_that_is_wrong_or_not_enough(anonymous: Pixie, signing_in: Server) -> None:
    signing_in.on("POST", "/v1/auth/login", refused(401, "invalid_credentials"))
    assert "without --email" in anonymous("auth", "login", "--email", "a@b.c", stdin="x\n").err
    signing_in.on("POST", "/v1/auth/login", refused(401, "mfa_required", methods=["totp"]))
    done = anonymous("auth", "login", "--email", "a@b.c", stdin="x\n")
    assert (done.code, "in a terminal" in done.err) == (3, True)
    assert anonymous("auth", "login", "--email", "a@b.c", stdin="").code == 2


def test_who_may_make_no_keys_is_told_so(anonymous: Pixie, signing_in: Server) -> None:
    signing_in.on("POST", "/v1/auth/api-keys", refused(403, "role"))
    done = anonymous("auth", "login")
    assert done.code == 0
    assert "may make no API keys" in done.err
    anonymous("credits")
    assert signing_in.asked[-1].bearer == "eyJ.a.1"
    assert anonymous("auth", "status", "--json").json["can_call_models"] is False


def test_signing_out_ends_what_pixie_made(anonymous: Pixie, signing_in: Server) -> None:
    anonymous("auth", "login")
    assert anonymous("auth", "logout", "--json").json["signed_in"] is False
    assert signing_in.calls(f"/v1/auth/api-keys/{MADE['id']}")[0].bearer == "eyJ.a.1"
    assert signing_in.calls("/v1/auth/logout")[0].json == {"refresh_token": "eyJ.r.1"}
    assert anonymous("credits").code == 3
    assert anonymous("auth", "logout").code == 0


def test_signing_out_works_while_the_server_is_away(anonymous: Pixie, signing_in: Server) -> None:
    anonymous("auth", "login")
    signing_in.close()
    done = anonymous("auth", "logout", PIXIE_MAX_RETRIES="0")
    assert done.code == 0
    assert "did not hear" in done.err
    assert anonymous("auth", "status").code == 3


def test_signing_in_again_ends_the_login_before(anonymous: Pixie, signing_in: Server) -> None:
    anonymous("auth", "login")
    signing_in.on("POST", "/v1/auth/device/token", pair(2))
    anonymous("auth", "login")
    assert [one.json["refresh_token"] for one in signing_in.calls("/v1/auth/logout")] == ["eyJ.r.1"]
    assert len(signing_in.calls(f"/v1/auth/api-keys/{MADE['id']}")) == 1


def test_a_key_of_ones_own(anonymous: Pixie, signing_in: Server) -> None:
    assert anonymous("auth", "login", "--with-key", stdin="sk-proj-x\n").code == 2
    signing_in.on("GET", "/v1/key", refused(401, "invalid_api_key"))
    assert anonymous("auth", "login", "--with-key", stdin=f"{KEY}\n").code == 3
    assert anonymous("auth", "status").code == 3
    signing_in.on("GET", "/v1/key", {"organization": "penny", "name": "ci", "key": "sk-tup-0…0000"})
    assert "the key ci for penny" in anonymous("auth", "login", "--with-key", stdin=f"{KEY}\n").err
    anonymous("credits")
    assert signing_in.asked[-1].bearer == KEY
    assert anonymous("auth", "status", "--json").json["key_name"] == "ci"
    anonymous("auth", "logout")
    assert signing_in.calls("/v1/auth/logout") == []


# ---------------------------------------------------------------- tokens


def test_a_token_is_renewed_before_it_ends(anonymous: Pixie, signing_in: Server) -> None:
    signing_in.on("POST", "/v1/auth/device/token", pair(1, expires_in=1))
    signing_in.on("POST", "/v1/auth/refresh", pair(2))
    anonymous("auth", "login")
    assert signing_in.calls("/v1/auth/refresh")[0].json == {"refresh_token": "eyJ.r.1"}
    assert "authorization" not in signing_in.calls("/v1/auth/refresh")[0].headers
    anonymous("auth", "status")
    assert signing_in.asked[-1].bearer == "eyJ.a.2"
    assert len(signing_in.calls("/v1/auth/refresh")) == 1


def test_a_token_that_is_refused_is_renewed_once(anonymous: Pixie, signing_in: Server) -> None:
    anonymous("auth", "login")

    def me(asked: Asked) -> Answer:
        return Answer(ME) if asked.bearer == "eyJ.a.2" else refused(401, "invalid_api_key")

    signing_in.on("GET", "/v1/auth/me", me)
    signing_in.on("POST", "/v1/auth/refresh", pair(2))
    assert anonymous("auth", "status").code == 0
    signing_in.on("GET", "/v1/auth/api-keys", refused(401, "invalid_api_key"))
    signing_in.on("POST", "/v1/auth/refresh", pair(3))
    assert anonymous("keys", "list").code == 3
    assert len(signing_in.calls("/v1/auth/refresh")) == 2


def test_many_at_once_use_a_refresh_token_once(anonymous: Pixie, signing_in: Server) -> None:
    """Using it twice would end the session: they wait for each other."""
    signing_in.on("POST", "/v1/auth/api-keys", refused(403, "role"))
    anonymous("auth", "login")
    path = Path(anonymous.env["PIXIE_CONFIG_DIR"]) / "credentials.json"
    told = {name: json.loads(text) | {"expires_at": 0} for name, text in json.loads(path.read_text()).items()}
    path.write_text(json.dumps({name: json.dumps(kept) for name, kept in told.items()}))
    signing_in.on("POST", "/v1/auth/refresh", pair(2), refused(401, "refresh_token_reused"))
    with ThreadPoolExecutor(4) as pool:
        codes = [done.code for done in pool.map(lambda _: anonymous("credits"), range(4))]
    assert codes == [0, 0, 0, 0]
    assert len(signing_in.calls("/v1/auth/refresh")) == 1


def test_a_session_that_has_ended(anonymous: Pixie, signing_in: Server) -> None:
    signing_in.on("POST", "/v1/auth/api-keys", refused(403, "role"))
    anonymous("auth", "login")
    signing_in.on("GET", "/v1/credits/balance", refused(401, "invalid_api_key"))
    signing_in.on("POST", "/v1/auth/refresh", refused(401, "invalid_refresh_token"))
    done = anonymous("credits")
    assert (done.code, "Your sign-in has ended" in done.err) == (3, True)
    assert anonymous("credits").code == 3
    assert len(signing_in.calls("/v1/auth/refresh")) == 1


def test_the_key_outlives_the_session(anonymous: Pixie, signing_in: Server) -> None:
    anonymous("auth", "login")
    signing_in.on("GET", "/v1/auth/me", refused(401, "invalid_api_key"))
    signing_in.on("POST", "/v1/auth/refresh", refused(401, "refresh_token_reused"))
    signing_in.on("GET", "/v1/key", {"organization": "penny", "name": "pixie on x", "key": "sk-tup-m…mmmm"})
    done = anonymous("auth", "status")
    assert done.code == 0
    assert "The sign-in has ended; the key that it made still works." in done.err
    done = anonymous("keys", "list")
    assert (done.code, "a key is not enough" in done.err) == (3, True)
    assert anonymous("credits").code == 0


# ---------------------------------------------------------------- which credential, for whom


def test_secrets_go_to_their_own_server_alone(anonymous: Pixie, signing_in: Server) -> None:
    anonymous("auth", "login")
    del anonymous.env["PIXIE_API_URL"]
    assert anonymous("credits").code == 0  # the profile knows its server
    other = Server()
    other.on("GET", "/v1/credits/balance", BALANCE)
    done = anonymous("credits", "--api-url", other.url)
    assert (done.code, other.asked) == (3, [])
    other.close()


def test_the_environment_goes_before_the_profile(anonymous: Pixie, signing_in: Server) -> None:
    anonymous("auth", "login")
    anonymous("credits", PIXIE_API_KEY=KEY)
    assert signing_in.asked[-1].bearer == KEY
    anonymous("credits", OPENAI_API_KEY=KEY)
    assert signing_in.asked[-1].bearer == MADE["secret"]


def test_openais_variables_work_and_openais_keys_stay_here(anonymous: Pixie, server: Server) -> None:
    server.on("GET", "/v1/credits/balance", BALANCE)
    assert anonymous("credits", OPENAI_API_KEY=KEY).code == 0
    assert anonymous("credits", OPENAI_API_KEY="sk-proj-real").code == 3
    assert len(server.asked) == 1
    del anonymous.env["PIXIE_API_URL"]
    assert anonymous("credits", OPENAI_API_KEY=KEY, OPENAI_BASE_URL=f"{server.url}/v1").code == 0


def test_profiles_are_apart(anonymous: Pixie, signing_in: Server) -> None:
    anonymous("auth", "login")
    signing_in.on("POST", "/v1/auth/device/token", pair(2))
    signing_in.on("POST", "/v1/auth/api-keys", Answer({"id": "2", "secret": "sk-tup-" + "w" * 50}, 201))
    anonymous("auth", "login", "--profile", "work")
    anonymous("credits")
    assert signing_in.asked[-1].bearer == "sk-tup-" + "w" * 50  # the newest login is the current one
    anonymous("credits", "--profile", "default")
    assert signing_in.asked[-1].bearer == MADE["secret"]
    anonymous("credits", PIXIE_PROFILE="default")
    assert signing_in.asked[-1].bearer == MADE["secret"]
    assert anonymous("auth", "profiles", "-q").out.split() == ["default", "work"]
    assert anonymous("auth", "use", "default").code == 0
    told = anonymous("auth", "profiles", "--json").json
    assert [(one["profile"], one["current"]) for one in told] == [("default", True), ("work", False)]
    assert anonymous("auth", "use", "none").code == 2
    assert "default" in anonymous("auth", "profiles").out


def test_a_broken_configuration_is_told(anonymous: Pixie) -> None:
    config = Path(anonymous.env["PIXIE_CONFIG_DIR"])
    config.mkdir()
    (config / "profiles.json").write_text("{")
    done = anonymous("credits")
    assert done.code == 1
    assert "profiles.json cannot be read" in done.err


BACKEND = """
import json, pathlib
import keyring.backend

class Vault(keyring.backend.KeyringBackend):
    priority = 9
    path = pathlib.Path(__file__).with_name("vault.json")

    def all(self):
        return json.loads(self.path.read_text()) if self.path.exists() else {}

    def get_password(self, service, username):
        return self.all().get(f"{service}/{username}")

    def set_password(self, service, username, password):
        self.path.write_text(json.dumps(self.all() | {f"{service}/{username}": password}))

    def delete_password(self, service, username):
        kept = self.all()
        del kept[f"{service}/{username}"]
        self.path.write_text(json.dumps(kept))

class Locked(Vault):
    def set_password(self, service, username, password):
        raise RuntimeError("locked")
"""


@pytest.fixture
def with_keyring(anonymous: Pixie, tmp_path: Path) -> Pixie:
    (tmp_path / "vaults.py").write_text(BACKEND)
    anonymous.env |= {"PYTHONPATH": str(tmp_path), "PYTHON_KEYRING_BACKEND": "vaults.Vault", "PIXIE_CREDENTIALS": ""}
    return anonymous


def test_secrets_are_in_the_keyring_where_there_is_one(with_keyring: Pixie, signing_in: Server, tmp_path: Path) -> None:
    assert "kept in the keyring" in with_keyring("auth", "login").err
    assert not (Path(with_keyring.env["PIXIE_CONFIG_DIR"]) / "credentials.json").exists()
    vault = json.loads((tmp_path / "vault.json").read_text())
    assert list(vault) == [f"pixie/default {with_keyring.env['PIXIE_API_URL']}"]
    assert with_keyring("credits").code == 0
    with_keyring("auth", "logout")
    assert json.loads((tmp_path / "vault.json").read_text()) == {}


def test_a_keyring_that_is_locked_is_replaced_by_the_file(with_keyring: Pixie, signing_in: Server) -> None:
    with_keyring.env["PYTHON_KEYRING_BACKEND"] = "vaults.Locked"
    assert "kept in the file" in with_keyring("auth", "login").err
    assert with_keyring("credits").code == 0


@pytest.mark.skipif(sys.platform == "win32", reason="needs a terminal")
def test_nothing_secret_is_on_the_command_line() -> None:
    """What is there, every user of the machine can read."""
    shown = subprocess.run(
        [Path(sys.executable).parent / "pixie", "auth", "login", "--help"], capture_output=True, text=True, check=True
    ).stdout
    assert not re.search(r"--(password|key|token)\b", shown)
