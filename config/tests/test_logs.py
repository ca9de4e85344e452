"""Nothing that looks like a secret reaches the logs."""

import pytest

from accounts import key_format
from config.logs import scrub

KEY = key_format.generate()


@pytest.mark.parametrize(
    "template",
    [
        "the key {key} was refused",
        "Authorization: Bearer {key}",
        "bearer abc.def.ghi",
        "sk-proj-abcdefghijklmnop",
        "signed with whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        "token eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl",
    ],
)
def test_secrets_in_text_are_masked(template):
    event = scrub(None, "info", {"event": template.format(key=KEY)})["event"]
    assert "[secret]" in event
    for part in (KEY, "abc.def.ghi", "sk-proj", "MfKQ9r8G", "eyJ"):
        assert part not in event


@pytest.mark.parametrize("name", ["authorization", "X-API-Key", "cookie", "password", "stripe-signature"])
def test_fields_named_like_secrets_are_masked(name):
    assert scrub(None, "info", {name: "anything"})[name] == "[secret]"


def test_ids_and_amounts_pass():
    event = {"event": "settled", "request_id": "req_01a1fb4b86b6", "cost": 42_000, "count": 3}
    assert scrub(None, "info", dict(event)) == event
