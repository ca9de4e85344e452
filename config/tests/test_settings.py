"""A wrong or missing value stops the start with one line that names it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from config import environment

GOOD = {
    "PATH": os.environ["PATH"],
    "SECRET_KEY": "a-secret-key-that-is-long-enough-0123456789-abcdefghij",
    "DATABASE_URL": "postgres://user@localhost/name",
}


def start(show: str = "", **variables: str) -> subprocess.CompletedProcess[str]:
    """Import the settings; `show` names one to print."""
    show = f"; print(config.settings.{show})" if show else ""
    return subprocess.run(
        [sys.executable, "-c", f"import config.settings{show}"],
        env=GOOD | variables,
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_good_settings_start():
    assert start().returncode == 0


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SECRET_KEY", "short"),
        ("DATABASE_URL", "mysql://localhost/name"),
        ("DATABASE_URL", "postgres://localhost:port/name"),
        ("DEPLOYMENT_MODE", "half-hosted"),
        ("SITE_URL", "example.com"),
        ("DEFAULT_RPM", "many"),
        ("DEFAULT_RPM", "-1"),
        ("DEBUG", "maybe"),
        ("EMAIL_URL", "pigeon://"),
        ("LOG_FORMAT", "xml"),
        ("LOG_LEVEL", "loud"),
        ("MODEL_PRICING_JSON", '{"m": '),
        ("SECRET_KEY_FILE", "/nonexistent"),
        ("JWT_EXPIRES_IN", "soon"),
        ("JWT_EXPIRES_IN", "0"),
        ("STAFF_NEEDS_MFA", "perhaps"),
        ("SELF_SERVICE_ORGANIZATION", "Not a slug"),
    ],
)
def test_a_wrong_value_is_named_in_one_line(name, value):
    stopped = start(**{name: value})
    assert stopped.returncode == 1
    (line,) = stopped.stderr.strip().splitlines()
    assert line.startswith(f"{name}: ")


GITHUB = {"GITHUB_CLIENT_ID": "a", "GITHUB_CLIENT_SECRET": "b"}
OIDC = {"OIDC_ISSUER": "https://login.example.com", "OIDC_CLIENT_ID": "a", "OIDC_CLIENT_SECRET": "b"}
APPLE = {"APPLE_CLIENT_ID": "a", "APPLE_TEAM_ID": "b", "APPLE_KEY_ID": "c", "APPLE_PRIVATE_KEY": "d"}


@pytest.mark.parametrize(
    ("variables", "named"),
    [
        ({"GITHUB_CLIENT_ID": "a"}, "GITHUB_CLIENT_SECRET"),
        ({"GOOGLE_CLIENT_SECRET": "a"}, "GOOGLE_CLIENT_ID"),
        ({"FACEBOOK_CLIENT_ID": "a"}, "FACEBOOK_CLIENT_SECRET"),
        ({"OIDC_ISSUER": "https://login.example.com"}, "OIDC_CLIENT_ID"),
        ({"OIDC_CLIENT_ID": "a", "OIDC_CLIENT_SECRET": "b"}, "OIDC_ISSUER"),
        (OIDC | {"OIDC_ISSUER": "login.example.com"}, "OIDC_ISSUER"),
        (OIDC | {"OIDC_ID": "a/b"}, "OIDC_ID"),
        (OIDC | {"OIDC_SCOPE": "email"}, "OIDC_SCOPE"),
        (APPLE | {"APPLE_TEAM_ID": ""}, "APPLE_TEAM_ID"),
        (APPLE, "APPLE_PRIVATE_KEY"),
        ({"CLOUDFLARE_ACCOUNT_ID": "a"}, "CLOUDFLARE_API_KEY"),
        ({"CLOUDFLARE_API_KEY": "a"}, "CLOUDFLARE_ACCOUNT_ID"),
        ({"JWT_EXPIRES_IN": "40d"}, "JWT_REFRESH_EXPIRES_IN"),
    ],
)
def test_what_is_half_set_is_named_in_one_line(variables, named):
    stopped = start(**variables)
    assert stopped.returncode == 1
    (line,) = stopped.stderr.strip().splitlines()
    assert line.startswith(f"{named}: ")


def test_a_provider_is_on_when_its_variables_are_there():
    told = start(**GITHUB, **OIDC, show="SOCIALACCOUNT_PROVIDERS").stdout
    assert "'github'" in told
    assert "'openid_connect'" in told
    assert "'google'" not in told
    assert start(show="SOCIALACCOUNT_PROVIDERS").stdout.strip() == "{}"


def test_what_belongs_together_is_all_there_or_nothing(monkeypatch):
    assert environment.env_together("NO_SUCH_ID", "NO_SUCH_KEY") == ()
    monkeypatch.setenv("NO_SUCH_KEY", " b ")
    with pytest.raises(environment.SettingError, match=r"^NO_SUCH_ID: is needed with NO_SUCH_KEY$"):
        environment.env_together("NO_SUCH_ID", "NO_SUCH_KEY")
    monkeypatch.setenv("NO_SUCH_ID", "a")
    assert environment.env_together("NO_SUCH_ID", "NO_SUCH_KEY") == ("a", "b")


def test_a_missing_value_is_named(monkeypatch):
    monkeypatch.delenv("NO_SUCH_SETTING", raising=False)
    with pytest.raises(environment.SettingError, match="NO_SUCH_SETTING: is not set"):
        environment.env_secret("NO_SUCH_SETTING")


@pytest.mark.parametrize(
    ("value", "schemes", "is_good"),
    [
        ("", ("https",), True),
        ("https://api.example.com/v1/", ("http", "https"), True),
        ("unix:///run/redis.sock", ("redis", "unix"), True),
        ("rediss://:secret@host:6379/0", ("redis", "rediss"), True),
        ("api.example.com", ("http", "https"), False),
        ("http:///nowhere", ("http", "https"), False),
        ("http://host:port", ("http", "https"), False),
        ("http://host", ("redis", "rediss"), False),
    ],
)
def test_an_address_is_one_of_its_schemes(monkeypatch, value, schemes, is_good):
    monkeypatch.setenv("AN_ADDRESS", value)
    if is_good:
        assert environment.env_url("AN_ADDRESS", "", schemes=schemes) == value.rstrip("/")
        return
    with pytest.raises(environment.SettingError, match=r"^AN_ADDRESS: expected a URL") as stopped:
        environment.env_url("AN_ADDRESS", "", schemes=schemes)
    assert value not in str(stopped.value)


def test_a_secret_may_be_a_file(monkeypatch, tmp_path):
    path = tmp_path / "secret"
    path.write_text("from a file\n")
    monkeypatch.setenv("SOME_SECRET_FILE", str(path))
    assert environment.env_secret("SOME_SECRET") == "from a file"


def test_files_fill_what_the_environment_does_not_set(monkeypatch, tmp_path):
    for name in ("T_A", "T_B", "T_C"):
        monkeypatch.setenv(name, "unset")
        monkeypatch.delenv(name)
    monkeypatch.setenv("T_A", "from the environment")
    (tmp_path / ".env.local").write_text("T_A=x\nexport T_B='quoted value'\n# comment\n\n")
    (tmp_path / ".env").write_text("T_B=y\nT_C = spaced\n")
    environment.read_env_files(tmp_path)
    assert [os.environ[name] for name in ("T_A", "T_B", "T_C")] == ["from the environment", "quoted value", "spaced"]


def test_a_line_that_is_no_setting_is_named(tmp_path):
    (tmp_path / ".env").write_text("GOOD=1\nnonsense\n")
    with pytest.raises(environment.SettingError, match=r"\.env:2: expected NAME=value"):
        environment.read_env_files(tmp_path)


def test_a_database_url_is_taken_apart():
    parsed = environment.database("postgres://us%40er:p%2Fw@db.example:5433/na-me?sslmode=require")
    assert parsed["USER"] == "us@er"
    assert parsed["PASSWORD"] == "p/w"
    assert (parsed["HOST"], parsed["PORT"], parsed["NAME"]) == ("db.example", "5433", "na-me")
    assert parsed["OPTIONS"] == {"sslmode": "require"}
