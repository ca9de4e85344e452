"""The documentation: every setting is in it and exists, every link leads somewhere, every page is on the site."""

import ast
import re
from pathlib import Path

import pytest
import yaml

from config.tests.manifests import ROOT, documents

DOCS = ROOT / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
READERS = {"env_url", "env", "env_bool", "env_int", "env_seconds", "env_secret", "env_share", "env_together"}
# Names that the code puts together, or that other programs read from the same environment.
MADE = {
    *(f"{name}_CLIENT_{part}" for name in ("GITHUB", "GOOGLE", "FACEBOOK") for part in ("ID", "SECRET")),
    *(f"LEGAL_{name}" for name in ("TERMS", "PRIVACY", "IMPRINT")),
}
OTHERS = {
    "PROMETHEUS_MULTIPROC_DIR",
    "WEB_CONCURRENCY",
    "OTEL_SERVICE_NAME",
    "OTEL_RESOURCE_ATTRIBUTES",
    "OTEL_EXPORTER_OTLP_HEADERS",
    "PORT",
    "HOST",
    "DATA_DIR",
    "DEMO_PAST",
}


def read_settings():
    """Every variable that the settings read."""
    found = set(MADE)
    for path in (ROOT / "config" / "settings.py", ROOT / "config" / "sign_in.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") in READERS:
                names = node.args if node.func.id == "env_together" else node.args[:1]
                found |= {name.value for name in names if isinstance(name, ast.Constant)}
            # `env_together(*names)`: the names stand in a tuple.
            if isinstance(node, ast.Tuple) and all(isinstance(each, ast.Constant) for each in node.elts):
                found |= {each.value for each in node.elts if re.fullmatch(r"APPLE_[A-Z_]+", str(each.value))}
    return found


def documented_settings():
    """The names in the first column of the page's tables."""
    page = (DOCS / "settings.md").read_text()
    cells = re.findall(r"^\| (`[^|]+) \|", page, re.MULTILINE)
    return {name for cell in cells for name in re.findall(r"`([A-Z][A-Z0-9_]+)`", cell)}


def test_every_setting_is_documented_and_no_other():
    assert documented_settings() - OTHERS == read_settings()


def test_manifests_and_examples_set_only_what_exists():
    known = read_settings() | OTHERS | {"SITE_ADDRESS", "POSTGRES_PASSWORD"}
    known |= {f"{name}_FILE" for name in known}
    given = set()
    for path in (ROOT / ".env.example", ROOT / "deploy" / "systemd" / "tuppence.env.example"):
        given |= set(re.findall(r"^([A-Z][A-Z0-9_]+)=", path.read_text(), re.MULTILINE))
    for path in (ROOT / "deploy" / "kubernetes").rglob("*.yaml"):
        for document in documents(path):
            if document.get("kind") in {"ConfigMap", "Secret"}:
                given |= set(document.get("data") or document["stringData"])
    assert given <= known


def slug(title: str) -> str:
    """A heading's anchor, as Markdown's table of contents makes it."""
    return re.sub(r"[-\s]+", "-", re.sub(r"[^\w\s-]", "", title.replace("`", "")).strip().lower())


def anchors(path: Path) -> set[str]:
    return {slug(title) for title in re.findall(r"^#+ (.+)$", path.read_text(), re.MULTILINE)}


@pytest.mark.parametrize("path", [*PAGES, ROOT / "README.md"], ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(path):
    text = re.sub(r"```.*?```", "", path.read_text(), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        found = (path.parent / name).resolve() if name else path
        assert found.exists(), target
        if path.is_relative_to(DOCS):
            assert found.is_relative_to(DOCS), f"{target} leads out of the site"
        if anchor:
            assert anchor in anchors(found), target


def test_every_page_is_on_the_site():
    class Loader(yaml.SafeLoader):
        """Reads what MkDocs writes with tags, too."""

    Loader.add_multi_constructor("tag:yaml.org,2002:python/", lambda loader, suffix, node: suffix)
    site = yaml.load((ROOT / "mkdocs.yml").read_text(), Loader)
    listed = set(re.findall(r"[\w/.-]+\.md", str(site["nav"])))
    assert listed == {str(page.relative_to(DOCS)) for page in PAGES}
