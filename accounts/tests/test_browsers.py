"""Names of browsers in lists of sessions."""

import pytest

from accounts import browsers
from accounts.templatetags import ui


@pytest.mark.parametrize(
    ("user_agent", "name"),
    [
        ("Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 Chrome/156.0.0.0 Safari/537.36", "Chrome on Linux"),
        ("Mozilla/5.0 (Windows NT 10.0) AppleWebKit/537.36 Chrome/156.0 Safari/537.36 Edg/156.0", "Edge on Windows"),
        ("Mozilla/5.0 (iPhone; CPU iPhone OS 19_0 like Mac OS X) Version/19.0 Safari/604.1", "Safari on iPhone"),
        ("Mozilla/5.0 (Macintosh; Intel Mac OS X 10.15; rv:150.0) Gecko/20100101 Firefox/150.0", "Firefox on macOS"),
        ("python-httpx/0.28 extra", "python-httpx/0.28"),
        ("", "Unknown browser"),
    ],
)
def test_a_browser_is_named_as_people_name_it(user_agent: str, name: str) -> None:
    assert browsers.name_of(user_agent) == name


def test_an_audit_entry_is_told_in_words() -> None:
    data = {"period": "day", "token_cap": None, "observes": False, "kinds": ["a", "b"], "subject": "", "limit": 0}
    assert ui.details(data) == [("period", "day"), ("observes", "no"), ("kinds", "a, b"), ("limit", "0")]
