"""`taskqctl install`: what it renders is what is shipped, and what systemd accepts."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from taskqd.supervisor.ctl.install import render as install

ROOT = Path(__file__).parents[2]
CTL = [sys.executable, "-c", "from taskqd.supervisor.ctl.main import main; main()"]
BIN = ("--bin", "bin", "--print")
RATING_MAX = 11
"""1.1, as systemd-analyze counts it."""

needs_analyze = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="needs systemd-analyze"
)


def ctl(folder: Path, *words: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*CTL, *words],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), **env},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def rendered(folder: Path, *words: str, **env: str) -> str:
    done = ctl(folder, "install", *words, "--print", **env)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """A folder with an app, and with commands that can be executed."""
    (tmp_path / "tasks.py").write_text("from taskqd import App\napp = App('shop')\n")
    (tmp_path / "bin").mkdir()
    for name in ("taskqd", "taskqctl"):
        (tmp_path / "bin" / name).write_text("#!/bin/sh\n")
        (tmp_path / "bin" / name).chmod(0o755)
    return tmp_path


def test_a_file_that_only_the_environment_named_was_left_out_of_what_is_rendered(
    shop: Path,
) -> None:
    (shop / "prod.toml").write_text('app = "tasks:app"\n[workers]\ncount = 7\n')
    env = {"TASKQD_CONFIG": "prod.toml"}
    assert f"taskqd --config {shop}/prod.toml" in rendered(shop, "systemd", "--bin", "bin", **env)
    assert "count = 7" in rendered(shop, "kubernetes", **env)


# -- systemd ---------------------------------------------------------------------------------------


def test_the_shipped_units_are_the_rendered_ones() -> None:
    one = install.Service(
        config="/etc/taskqd/taskqd.toml",
        head="taskqd: one daemon, configured by /etc/taskqd/taskqd.toml.",
    )
    many = install.Service(
        name="%i",
        config="/etc/taskqd/%i.toml",
        head="taskqd: a daemon for each instance, configured by /etc/taskqd/INSTANCE.toml.",
        of=" (%i)",
    )
    assert (ROOT / "systemd/taskqd.service").read_text() == install.unit(one)
    assert (ROOT / "systemd/taskqd@.service").read_text() == install.unit(many)


@needs_analyze
@pytest.mark.parametrize("name", ["taskqd.service", "taskqd@.service"])
def test_the_shipped_units_are_rated_1_1_or_better(name: str) -> None:
    assert rating(ROOT / "systemd" / name) <= RATING_MAX


@needs_analyze
@pytest.mark.parametrize(
    "more", [(), ("--user", "daemon"), ("--name", "shop", "--config", "c.toml")]
)
def test_a_unit_for_own_paths_is_accepted_and_rated_as_the_shipped_one(
    shop: Path, more: tuple[str, ...]
) -> None:
    (shop / "c.toml").write_text('[storage]\nurl = "sqlite:///jobs.db"\n')
    text = rendered(shop, "systemd", "--app", "tasks:app", "--bin", "bin", *more)
    file = shop / "made.service"
    file.write_text(text)
    done = subprocess.run(
        ["systemd-analyze", "verify", file], capture_output=True, text=True, check=False, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert rating(file) <= RATING_MAX
    assert "<<" not in text


def rating(unit: Path) -> int:
    """Return the exposure of a unit, in tenths."""
    done = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--no-pager", unit],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    (line,) = [line for line in done.stdout.splitlines() if "Overall exposure" in line]
    return round(float(line.split(":")[1].split()[0]) * 10)


def test_the_unit_follows_the_configuration(shop: Path) -> None:
    (shop / "prod.toml").write_text(
        'app = "tasks:app"\nname = "prod"\n'
        '[shutdown]\ngrace_s = "2m"\n[storage]\nurl = "sqlite:////srv/jobs/shop.db"\n'
    )
    lines = rendered(shop, "systemd", "-C", "prod.toml", "--bin", "bin").splitlines()
    assert f"ExecStart={shop}/bin/taskqd --config {shop}/prod.toml --name prod" in lines
    assert f"WorkingDirectory={shop}" in lines
    assert "TimeoutStopSec=125" in lines
    assert "ReadWritePaths=/srv/jobs" in lines
    assert "RuntimeDirectory=taskqd-prod" in lines
    assert "DynamicUser=yes" in lines


def test_code_below_a_home_stays_readable() -> None:
    assert "ProtectHome=read-only" in install.unit(install.Service(bin="/home/ann/shop/bin"))
    assert "ProtectHome=yes" in install.unit(install.Service())


# -- kubernetes ------------------------------------------------------------------------------------


def test_manifests_follow_the_configuration(shop: Path) -> None:
    yaml = pytest.importorskip("yaml")
    text = (
        'app = "tasks:app"\nname = "shop"\n\n[storage]\nurl = "rediss://cache:6380/2"\n'
        '[queues]\nnames = ["critical", "default"]\n[shutdown]\ngrace_s = 60\n'
    )
    (shop / "prod.toml").write_text(text)
    made = rendered(shop, "kubernetes", "-C", "prod.toml", "--image", "registry/shop:7")
    config, deployment, budget, scaling = yaml.safe_load_all(made)
    assert config["data"]["taskqd.toml"] == text
    pod = deployment["spec"]["template"]["spec"]
    assert pod["terminationGracePeriodSeconds"] == 75
    assert pod["containers"][0]["image"] == "registry/shop:7"
    assert "replicas" not in deployment["spec"]
    assert budget["kind"] == "PodDisruptionBudget"
    assert [trigger["metadata"] for trigger in scaling["spec"]["triggers"]] == [
        {
            "address": "cache:6380",
            "databaseIndex": "2",
            "enableTLS": "true",
            "listName": f"{{shop:{queue}}}:ready",
            "listLength": "20",
        }
        for queue in ("critical", "default")
    ]


def test_without_keda_the_number_of_pods_is_said(shop: Path) -> None:
    made = rendered(shop, "kubernetes", "--app", "tasks:app", "--no-keda", "--replicas", "3")
    assert "ScaledObject" not in made
    assert "\n  replicas: 3\n" in made


# -- errors ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        (("systemd", "--app", "tasks:app"), 64, "say --print"),
        (("systemd", "--print"), 64, "say --app"),
        (("systemd", "--app", "tasks:app", "--storage", "redis://:pw@h/0", *BIN), 78, "***@h"),
        (("systemd", "--app", "tasks:app", "--directory", "a b", *BIN), 78, "plainer"),
        (("kubernetes", "--app", "tasks:app", "--name", "no_dots", "--print"), 64, "hyphens"),
        (("kubernetes", "-C", "secret.toml", "--print"), 78, "ConfigMap"),
    ],
)
def test_what_cannot_be_rendered_is_refused_on_one_line(
    shop: Path, words: tuple[str, ...], code: int, text: str
) -> None:
    (shop / "secret.toml").write_text('app = "tasks:app"\n[storage]\nurl = "redis://:pw@h/0"\n')
    done = ctl(shop, "install", *words)
    assert done.returncode == code
    assert done.stdout == ""
    last = done.stderr.splitlines()[-1]
    assert text in last
    assert "pw@" not in done.stderr
