"""What is in deploy/, checked without a cluster, a registry or a container engine."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

from taskqd.config import load
from taskqd.supervisor.ctl.install import render as install
from tests.support.machines.namespaces import ROOT
from tests.support.machines.pod import Image
from tests.support.servers.redis_server import RedisServer

from .conftest import Shop

yaml: Any = pytest.importorskip("yaml")

BASE = ROOT / "deploy/kustomize/base"
DOCKERFILE = ROOT / "deploy/Dockerfile"
SCRIPTS = (".ci/run", ".ci/venv", "tests/support/machines/new_root.sh")
VERSIONS = ("1.28", "1.31", "")
"""Of Kubernetes; "": the newest that the validator knows."""
HOOK_S = 5.0
"""What a hook that asks the daemon may take."""


def needs(tool: str) -> str:
    """Return where a tool is, of this environment or the machine's; skip the test without it."""
    beside = Path(sys.executable).with_name(tool)
    found = str(beside) if beside.exists() else shutil.which(tool)
    if found is None:
        pytest.skip(f"needs {tool}: pip install --group deploy, or your distribution")
    return found


def run(*command: object) -> str:
    done = subprocess.run(
        [str(word) for word in command], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def built(folder: str) -> dict[str, Any]:
    """Return the documents of a kustomization by kind."""
    text = run(needs("kubectl"), "kustomize", ROOT / "deploy/kustomize" / folder)
    return {document["kind"]: document for document in yaml.safe_load_all(text)}


def base(name: str) -> Any:
    return yaml.safe_load((BASE / f"{name}.yaml").read_text())


# -- the manifests ---------------------------------------------------------------------------------


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("folder", ["base", "without-keda"])
def test_manifests_are_valid(folder: str, version: str) -> None:
    if importlib.util.find_spec("kubernetes_validate") is None:
        pytest.skip("needs kubernetes-validate: pip install --group deploy")
    import kubernetes_validate

    for document in built(folder).values():
        if document["kind"] != "ScaledObject":
            known = version or kubernetes_validate.latest_version()
            kubernetes_validate.validate(document, known, strict=True)


def test_the_base_is_what_taskqctl_renders() -> None:
    pod = install.Pod(
        name="taskqd",
        image="taskqd:latest",
        config=(BASE / "taskqd.toml").read_text(),
        triggers=install.triggers("redis://redis:6379/0", "shop", ["default"]),
    )
    rendered = {doc["kind"]: doc for doc in yaml.safe_load_all(install.manifests(pod))}
    shipped = built("base")
    shipped["ConfigMap"]["metadata"]["name"] = "taskqd"  # a hash of its contents is behind it
    (volume, *_others) = shipped["Deployment"]["spec"]["template"]["spec"]["volumes"]
    assert volume["configMap"]["name"].startswith("taskqd-")
    volume["configMap"]["name"] = "taskqd"
    assert shipped == rendered


def test_without_keda_the_number_of_pods_is_fixed() -> None:
    documents = built("without-keda")
    assert set(documents) == {"ConfigMap", "Deployment", "PodDisruptionBudget"}
    assert documents["Deployment"]["spec"]["replicas"] == 2


def test_the_pod_meets_the_restricted_security_standard() -> None:
    """Source: Kubernetes documentation, Pod Security Standards, profile Restricted."""
    spec = base("deployment")["spec"]["template"]["spec"]
    assert not {"hostNetwork", "hostPID", "hostIPC"} & set(spec)
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["runAsUser"] > 0
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    (container,) = spec["containers"]
    own = container["securityContext"]
    assert own["allowPrivilegeEscalation"] is False
    assert own["capabilities"] == {"drop": ["ALL"]}
    assert own["readOnlyRootFilesystem"] is True
    allowed = {"configMap", "secret", "emptyDir", "projected", "downwardAPI"}
    assert all(set(volume) - {"name"} <= allowed for volume in spec["volumes"])
    assert not any("hostPort" in port for port in container["ports"])
    assert spec["automountServiceAccountToken"] is False


def test_the_grace_covers_hook_and_drain() -> None:
    settings = load(file=BASE / "taskqd.toml", env={}, flags={}).settings
    spec = base("deployment")["spec"]["template"]["spec"]
    assert spec["terminationGracePeriodSeconds"] >= settings.shutdown.grace_s + HOOK_S


def test_the_shipped_configuration_is_accepted_without_a_warning() -> None:
    loaded = load(file=BASE / "taskqd.toml", env={}, flags={})
    assert not loaded.warnings
    assert loaded.settings.workers.count == 2


def test_keda_counts_the_jobs_that_wait(redis: RedisServer, shop: Shop) -> None:
    scaled = base("scaledobject")["spec"]
    assert scaled["minReplicaCount"] >= 1, "delayed and periodic jobs need a daemon"
    assert scaled["scaleTargetRef"]["name"] == base("deployment")["metadata"]["name"]
    (trigger,) = scaled["triggers"]
    assert all(isinstance(value, str) for value in trigger["metadata"].values())
    shop.order("a", "b", "c")
    with redis.client() as client:
        assert client.llen(trigger["metadata"]["listName"]) == 3
        client.flushall()


# -- the image -------------------------------------------------------------------------------------


def test_hadolint_finds_no_fault_in_the_image() -> None:
    assert run(needs("hadolint"), "--no-color", DOCKERFILE) == ""


def test_the_image_starts_the_daemon_as_process_1_and_not_as_root() -> None:
    image = Image()
    assert image.entrypoint == ["/opt/taskqd/bin/taskqd"], "exec form: no shell is process 1"
    assert image.user > 0
    assert (
        image.user == base("deployment")["spec"]["template"]["spec"]["securityContext"]["runAsUser"]
    )


def test_the_image_copies_all_that_the_wheel_is_made_of() -> None:
    copies = [line.split() for line in DOCKERFILE.read_text().splitlines() if line[:5] == "COPY "]
    copied = {word for words in copies if "--from=build" not in words for word in words[1:-1]}
    allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text().split() if line[0] == "!"}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    folders = set(project["tool"]["setuptools"]["package-dir"].values())
    assert copied == allowed == folders | {"pyproject.toml", "README.md", "LICENSE"}


@pytest.mark.parametrize("script", SCRIPTS)
def test_shellcheck_finds_no_fault_in_the_scripts(script: str) -> None:
    assert run(needs("shellcheck"), ROOT / script) == ""
