"""What is taken out of the words of requests, and what is left."""

import pytest

from billing.redaction import redact


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Write to ada@example.com.", "Write to [email]."),
        ("a.b+c@mail.example.co.uk and x@y", "[email] and x@y"),
        ("Call +44 20 7946 0958 now", "Call [phone] now"),
        ("(030) 901820-11", "[phone]"),
        ("555-123-4567", "[phone]"),
        ("0171 2345678", "[phone]"),
        ("4111 1111 1111 1111", "[card]"),
        ("5500005555555559, 4/27", "[card], 4/27"),
        ("sk-tup-0123456789abcdefghij", "[key]"),
        ("sk-proj-abc_DEF-0123456789", "[key]"),
        ("ghp_0123456789abcdefghijABCDEF", "[key]"),
        ("AKIAIOSFODNN7EXAMPLE", "[key]"),
        ("Authorization: Bearer abcdef0123456789ABCDEF", "Authorization: Bearer [key]"),
        ("eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJlLXRleHQ", "[key]"),
        ('{"password": "hunter2hunter2"}', '{"password": "[key]"}'),
        ('{"a":"api_key=abcdefgh"}', '{"a":"api_key=[key]"}'),
        ("-----BEGIN RSA PRIVATE KEY-----\nMIIE\n-----END RSA PRIVATE KEY-----!", "[key]!"),
        ("-----BEGIN PRIVATE KEY-----\nMIIE and cut", "[key]"),
    ],
)
def test_it_takes_out(text: str, expected: str) -> None:
    assert redact(text, personal=True) == expected


@pytest.mark.parametrize(
    "text",
    [
        "In 2026 it cost 1,234,567 dollars.",
        "The answer is 42, pi is 3.14159265358979.",
        "id 1712345678901 at 2026-11-20T12:00:00Z",
        "version 10.0.19045",
        "task-list-of-many-words-in-a-row",
        "127.0.0.1:8000",
        "user@host",
    ],
)
def test_it_leaves(text: str) -> None:
    assert redact(text, personal=True) == text


def test_people_may_be_left_in_but_never_keys_and_cards() -> None:
    text = "ada@example.com, +44 20 7946 0958, 4111 1111 1111 1111, sk-tup-0123456789abcdefghij"
    assert redact(text, personal=False) == "ada@example.com, +44 20 7946 0958, [card], [key]"
