"""The error reference names every code that the source can answer with."""

import ast
from collections.abc import Iterator
from pathlib import Path

from proxy import error_reference
from proxy.error_reference import ADVICE, GIVEN, entries

PROXY = Path(error_reference.__file__).parent
# Codes of the request log's rows, not of answers.
NOT_ANSWERED = {"_capture"}


def _trees() -> Iterator[ast.Module]:
    for path in PROXY.rglob("*.py"):
        if "tests" not in path.parts:
            yield ast.parse(path.read_text())


def _given_codes() -> set[str]:
    """`code="…"` wherever an error is raised."""
    calls = (node for tree in _trees() for node in ast.walk(tree) if isinstance(node, ast.Call))
    return {
        word.value.value
        for call in calls
        if getattr(call.func, "id", "") not in NOT_ANSWERED and getattr(call.func, "id", "") != "Limit"
        for word in call.keywords
        if word.arg == "code" and isinstance(word.value, ast.Constant) and isinstance(word.value.value, str)
    }


def _own_codes() -> set[str]:
    """`code = "…"` in the body of an error's class."""
    found = set()
    for tree in _trees():
        for kind in (node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)):
            names = {getattr(base, "id", getattr(base, "attr", "")) for base in kind.bases}
            for line in kind.body:
                target = line.targets[0] if isinstance(line, ast.Assign) else getattr(line, "target", None)
                value = getattr(line, "value", None)
                if getattr(target, "id", "") == "code" and isinstance(value, ast.Constant) and names - {"Exception"}:
                    found.add(value.value)
    return found


def test_every_code_of_the_source_is_in_the_reference() -> None:
    told = {entry.code for entry in entries()}
    missing = (_own_codes() | _given_codes()) - told
    assert not missing, f"say in proxy/error_reference.py what these mean: {sorted(missing)}"


def test_no_advice_is_left_of_a_code_that_is_gone() -> None:
    assert set(ADVICE) == {entry.code for entry in entries()}
    assert set(GIVEN) <= set(ADVICE)


def test_status_type_and_retrying_are_the_errors_own() -> None:
    by_code = {entry.code: entry for entry in entries()}
    assert (by_code["insufficient_quota"].status, by_code["insufficient_quota"].is_retryable) == (429, False)
    assert (by_code["budget_exceeded"].type, by_code["budget_exceeded"].is_retryable) == ("insufficient_quota", False)
    assert (by_code["rate_limit_exceeded"].status, by_code["rate_limit_exceeded"].is_retryable) == (429, True)
    assert (by_code["upstream_timeout"].status, by_code["upstream_timeout"].is_retryable) == (504, True)
    assert (by_code["internal_error"].type, by_code["internal_error"].status) == ("server_error", 500)
    assert by_code["upstream_key_required"].status == 403
