"""The Kubernetes manifests: right by their schemas, and true to what the product needs."""

import re

import kubernetes_validate
import pytest

from config.tests.manifests import EXAMPLE, KUBERNETES, built, documents, graceful_s, pod_of, resources
from proxy import runtime
from proxy.gateway import metrics

BASE = resources(KUBERNETES / "base")
CANCELLED_S = 10  # what `Gateway.drain` gives to those that it has to end


def one(kind, name):
    (found,) = [each for each in BASE if (each["kind"], each["metadata"]["name"]) == (kind, name)]
    return found


def workloads():
    return [each for each in BASE if each["kind"] in {"Deployment", "Job"}]


def by_name(each):
    return f"{each['kind']}-{each['metadata']['name']}"


@pytest.mark.parametrize("version", ["1.31", kubernetes_validate.latest_version()])
@pytest.mark.parametrize("resource", resources(EXAMPLE), ids=by_name)
def test_a_resource_is_right_by_its_schema(resource, version):
    kubernetes_validate.validate(resource, version, strict=True)


def test_the_example_builds_and_every_name_in_it_exists():
    made = built(EXAMPLE)
    if made is None:
        pytest.skip("no kubectl here")
    for resource in made:
        kubernetes_validate.validate(resource, kubernetes_validate.latest_version(), strict=True)
    names = {(each["kind"], each["metadata"]["name"]) for each in made}
    for each in made:
        if each["kind"] not in {"Deployment", "Job"}:
            continue
        pod = pod_of(each)
        assert ("ServiceAccount", pod["serviceAccountName"]) in names
        for container in pod["containers"]:
            assert container["image"] == "registry.example.com/tuppence:0.1.0"
            for source in container["envFrom"]:
                ((reference, target),) = source.items()
                kind = {"configMapRef": "ConfigMap", "secretRef": "Secret"}[reference]
                assert (kind, target["name"]) in names


@pytest.mark.parametrize("resource", workloads(), ids=by_name)
def test_nothing_runs_as_root_or_writes_outside_its_own_directory(resource):
    pod = pod_of(resource)
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert pod["automountServiceAccountToken"] is False
    for container in pod["containers"]:
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert container["resources"]["limits"]["memory"]
        assert "cpu" not in container["resources"]["limits"]


def test_a_pod_is_given_the_time_that_its_drain_may_take():
    pod = pod_of(one("Deployment", "web"))
    (container,) = pod["containers"]
    _, pause = container["lifecycle"]["preStop"]["exec"]["command"]
    longest = int(pause) + graceful_s() + runtime.SESSIONS_DRAIN_S + runtime.DRAIN_S + CANCELLED_S
    assert pod["terminationGracePeriodSeconds"] > longest


def test_there_is_one_beat_and_never_two_at_once():
    beat = one("Deployment", "beat")["spec"]
    assert (beat["replicas"], beat["strategy"]) == (1, {"type": "Recreate"})


def test_web_scales_by_a_figure_that_exists():
    scaler = one("HorizontalPodAutoscaler", "web")["spec"]
    figures, cpu = scaler["metrics"]
    (described,) = metrics.HOLDS.describe()
    assert figures["pods"]["metric"]["name"] == described.name
    assert cpu["resource"]["name"] == "cpu"
    (rule,) = documents(KUBERNETES / "prometheus-adapter.yaml")[0]["rules"]["custom"]
    assert re.match(r"\w+", rule["seriesQuery"]).group() == described.name
    assert "replicas" not in one("Deployment", "web")["spec"]


def test_selectors_find_their_pods():
    labels = [each["spec"]["template"]["metadata"]["labels"] for each in workloads()]
    for kind in ("Service", "PodDisruptionBudget"):
        for each in BASE:
            if each["kind"] == kind:
                selector = each["spec"]["selector"]
                assert selector.get("matchLabels", selector) in labels


def test_secrets_are_placeholders_and_lie_outside_the_base():
    assert not [each for each in BASE if each["kind"] == "Secret"]
    (secret,) = documents(EXAMPLE / "secrets.yaml")
    assert all("replace-me" in value for value in secret["stringData"].values())
