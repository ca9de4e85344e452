"""docs/security.md tells the truth: every test that it names is there."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "security.md").read_text()
NAMED = sorted(set(re.findall(r"`([\w/]+\.py)::(\w+)`", TEXT)))


def _tests(path: str) -> set[str]:
    tree = ast.parse((ROOT / path).read_text())
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}


@pytest.mark.parametrize("path", sorted({path for path, _ in NAMED}))
def test_every_test_that_is_named_exists(path: str) -> None:
    missing = {name for named, name in NAMED if named == path} - _tests(path)
    assert not missing


def test_the_whole_of_the_top_ten_and_of_asvs_is_there() -> None:
    rows = [line for line in TEXT.splitlines() if line.startswith("|")]
    for name in [f"| API{number} |" for number in range(1, 11)] + [f"| V{number} " for number in range(1, 18)]:
        assert any(row.startswith(name) for row in rows), name


def test_every_file_of_security_tests_is_named() -> None:
    for path in (ROOT / "config" / "tests").glob("test_security_*.py"):
        assert path.name == Path(__file__).name or path.name in TEXT
