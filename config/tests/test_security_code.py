"""What the code may not contain, read from the code itself: so that a later change cannot bring it back unseen."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
APPS = ("accounts", "billing", "config", "gallery", "proxy", "status")
SQL = {"execute", "executemany", "raw", "RawSQL", "extra", "mogrify"}
# SQL that is put together of our own constants; every value in it is a parameter.
OWN_SQL = {
    *("accounts/tenancy.py", "billing/reconciliation.py", "billing/request_log.py", "billing/reservations.py"),
    "proxy/listener.py",
}
EXECUTION = {"eval", "exec", "compile", "__import__"}
MODULES = {"pickle", "marshal", "shelve", "subprocess", "ctypes", "xml.etree.ElementTree"}
SECRETS = re.compile(r"(^|_)(signature|digest|hash|token|secret|password|hmac|mac)$", re.IGNORECASE)
SAFE_HTML = {"proxy/templatetags/guides.py", "proxy/page_texts.py"}  # escaped, or HTML is off
CSRF_EXEMPT = {"billing/payment_views.py", "status/views.py"}  # a signature, or a token, is the proof


def _sources() -> Iterator[tuple[str, ast.AST]]:
    for app in APPS:
        for path in sorted((ROOT / app).rglob("*.py")):
            if not {"tests", "migrations"}.intersection(path.parts):
                yield path.relative_to(ROOT).as_posix(), ast.parse(path.read_text())


SOURCES = list(_sources())


def _name(node: ast.AST) -> str:
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def _calls(tree: ast.AST) -> Iterator[ast.Call]:
    return (node for node in ast.walk(tree) if isinstance(node, ast.Call))


def _is_put_together(node: ast.AST) -> bool:
    """Whether a text has values in it: an f-string, `%`, `+` or `.format`."""
    if isinstance(node, ast.JoinedStr):
        return any(isinstance(part, ast.FormattedValue) for part in node.values)
    if isinstance(node, ast.BinOp):
        return True
    return isinstance(node, ast.Call) and _name(node.func) == "format"


def test_no_sql_is_made_of_texts() -> None:
    """LiteLLM CVE-2026-42208: the caller's key stood in a query, on the path of errors."""
    found = [
        f"{path}:{call.lineno}"
        for path, tree in SOURCES
        for call in _calls(tree)
        if _name(call.func) in SQL and any(_is_put_together(argument) for argument in call.args)
    ]
    assert [place for place in found if place.partition(":")[0] not in OWN_SQL] == []


def test_no_words_of_a_caller_become_names_of_fields() -> None:
    """Django CVE-2025-57833, CVE-2026-1287, -1312: `**` of a request in filter, annotate, order_by."""
    verbs = {"filter", "exclude", "annotate", "alias", "order_by", "aggregate", "extra", "values", "update", "create"}
    bad = []
    for path, tree in SOURCES:
        for call in _calls(tree):
            if _name(call.func) not in verbs:
                continue
            inner = [keyword.value for keyword in call.keywords if keyword.arg is None] + list(call.args)
            text = " ".join(ast.unparse(value) for value in inner)
            if re.search(r"request\.(GET|POST|data|query_params)(?!\.get|\[)", text):
                bad.append(f"{path}:{call.lineno}")
    assert bad == []


def test_nothing_is_executed() -> None:
    """LiteLLM CVE-2026-42271: a command of the body was run."""
    for path, tree in SOURCES:
        for call in _calls(tree):
            assert not (isinstance(call.func, ast.Name) and call.func.id in EXECUTION), f"{path}:{call.lineno}"
        for node in ast.walk(tree):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not MODULES.intersection(names), f"{path} imports {names}"


def test_secrets_are_compared_in_constant_time() -> None:
    """Where a secret is compared at all; looking one up by its keyed digest is no comparison."""
    bad = []
    for path, tree in SOURCES:
        for node in ast.walk(tree):
            if not isinstance(node, ast.Compare) or not isinstance(node.ops[0], ast.Eq | ast.NotEq):
                continue
            sides = [node.left, *node.comparators]
            if any(isinstance(side, ast.Constant) for side in sides):
                continue
            if any(SECRETS.search(_name(side)) for side in sides):
                bad.append(f"{path}:{node.lineno} {ast.unparse(node)}")
    assert bad == []


def test_html_is_escaped_but_where_it_is_said() -> None:
    users = {path for path, tree in SOURCES for call in _calls(tree) if _name(call.func) in {"mark_safe", "SafeString"}}
    assert users <= SAFE_HTML
    for path in [*ROOT.glob("templates/**/*.html"), *ROOT.glob("*/templates/**/*.html")]:
        text = path.read_text()
        assert "autoescape off" not in text, path
        if path.name != "field.html":  # help texts of our own forms
            assert not re.search(r"\|\s*safe\b", text), path
        assert not re.search(r"<script(?![^>]*(\bsrc=|type=\"application/json\"))", text), path
        assert not re.search(r"\son[a-z]+=", text), path


def test_forms_without_a_token_are_few() -> None:
    found = {path for path, tree in SOURCES for node in ast.walk(tree) if _name(node) == "csrf_exempt"}
    assert found == CSRF_EXEMPT


def test_forms_of_models_name_their_fields() -> None:
    """Mass assignment: no form or serializer takes every field that a model has, or will have."""
    for path, tree in SOURCES:
        for node in ast.walk(tree):
            if isinstance(node, ast.Assign) and any(_name(target) in {"fields", "exclude"} for target in node.targets):
                assert not (isinstance(node.value, ast.Constant) and node.value.value == "__all__"), path


@pytest.mark.parametrize("name", ["verify=False", "check_hostname = False", "CERT_NONE", "_create_unverified_context"])
def test_no_certificate_goes_unchecked(name: str) -> None:
    for app in APPS:
        for path in (ROOT / app).rglob("*.py"):
            if "tests" not in path.parts:
                assert name not in path.read_text(), path
