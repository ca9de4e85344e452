"""Building the description, once per process: it depends on the code alone."""

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from drf_spectacular.generators import SchemaGenerator

HERE = Path(__file__).parent
METHODS = frozenset({"get", "post", "put", "patch", "delete"})


@cache
def described() -> dict[str, Any]:
    """The whole description but for the server's address."""
    made: dict[str, Any] = SchemaGenerator().get_schema(request=None, public=True)
    return made


def hand_kept() -> Iterator[tuple[str, dict[str, Any]]]:
    """Paths and their operations, from every file of `paths/`."""
    for file in sorted((HERE / "paths").glob("*.yaml")):
        yield from yaml.safe_load(file.read_text(encoding="utf-8")).items()


def keep_served(endpoints: list[tuple[str, str, str, Any]], **_: Any) -> list[tuple[str, str, str, Any]]:
    """drf-spectacular's hook before: the catch-all that answers 404 is no endpoint."""
    return [row for row in endpoints if row[3].cls.__name__ != "unknown"]


def merge_hand_kept(result: dict[str, Any], **_: Any) -> dict[str, Any]:
    """drf-spectacular's hook after: the hand-kept texts win; every operation can fail in OpenAI's shape."""
    components = yaml.safe_load((HERE / "components.yaml").read_text(encoding="utf-8"))
    _over(result.setdefault("components", {}), components)
    for path, operations in hand_kept():
        _over(result["paths"].setdefault(path, {}), operations)
    for path, operations in result["paths"].items():
        for method in METHODS & operations.keys():
            _finish(path, operations[method])
    used = {tag for operations in result["paths"].values() for one in _operations(operations) for tag in one["tags"]}
    texts = yaml.safe_load((HERE / "tags.yaml").read_text(encoding="utf-8"))
    known = [{"name": name, "description": text} for name, text in texts.items() if name in used]
    result["tags"] = known + [{"name": name} for name in sorted(used - texts.keys())]
    result["paths"] = dict(sorted(result["paths"].items(), key=lambda item: _order(item, list(texts))))
    return result


def _finish(path: str, operation: dict[str, Any]) -> None:
    """What every operation has: a tag, a short summary, the shape of a failure."""
    if not operation.get("tags") or operation["tags"] == ["v1"]:
        operation["tags"] = [path.split("/")[2].replace("_", " ").capitalize()]
    if "summary" not in operation and operation.get("description"):
        operation["summary"] = operation["description"].split("\n")[0].split(". ")[0].rstrip(".")[:100]
    operation.setdefault("responses", {}).setdefault("default", {"$ref": "#/components/responses/Error"})


def _operations(operations: dict[str, Any]) -> Iterator[dict[str, Any]]:
    return (operations[method] for method in METHODS & operations.keys())


def _order(item: tuple[str, dict[str, Any]], tags: list[str]) -> tuple[int, str]:
    path, operations = item
    tag = next(_operations(operations))["tags"][0]
    return (tags.index(tag) if tag in tags else len(tags), path)


def _over(base: dict[str, Any], wanted: dict[str, Any]) -> None:
    """Merge `wanted` into `base`; of two values that are no objects the wanted one counts."""
    for name, value in wanted.items():
        if isinstance(value, dict) and isinstance(base.get(name), dict):
            _over(base[name], value)
        else:
            base[name] = value
