"""What lies in `deploy/`, read for the tests."""

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
KUBERNETES = DEPLOY / "kubernetes"
EXAMPLE = KUBERNETES / "overlays" / "example"


def documents(path: Path) -> list[dict[str, Any]]:
    return [document for document in yaml.safe_load_all(path.read_text()) if document]


def resources(directory: Path) -> list[dict[str, Any]]:
    """The resources that a kustomization names, those of the kustomizations that it builds on included."""
    found = []
    for name in documents(directory / "kustomization.yaml")[0].get("resources", []):
        path = (directory / name).resolve()
        found += resources(path) if path.is_dir() else documents(path)
    return found


def built(directory: Path) -> list[dict[str, Any]] | None:
    """What `kubectl kustomize` makes of it; None where there is no kubectl."""
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        return None
    done = subprocess.run([kubectl, "kustomize", directory], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return [document for document in yaml.safe_load_all(done.stdout) if document]


def pod_of(resource: dict[str, Any]) -> dict[str, Any]:
    return resource["spec"]["template"]["spec"]


def graceful_s() -> int:
    """For how long the image's server lets running streams end by themselves."""
    (seconds,) = re.findall(r"--timeout-graceful-shutdown (\d+)", (DEPLOY / "docker" / "Dockerfile").read_text())
    return int(seconds)
