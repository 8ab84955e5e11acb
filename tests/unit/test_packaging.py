"""The root folders are mapped into `taskqd`: in the checkout by links, in the wheel by the build."""

from __future__ import annotations

import importlib.metadata
import os
import re
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
SETUPTOOLS = PROJECT["tool"]["setuptools"]
WINGS = ("supervisor", "worker", "config")

TASKS = """
from taskqd import App
app = App("packaged")

@app.task()
def double(number: int) -> int:
    return 2 * number
"""


def _physical_packages() -> dict[str, Path]:
    """Return package name -> folder for every folder with code, links not followed."""
    found = {}
    for top in ("taskqd", *WINGS):
        for marker in (ROOT / top).rglob("__init__.py"):
            folder = marker.parent
            if not any(part.is_symlink() for part in (folder, *folder.parents)):
                parts = folder.relative_to(ROOT).parts
                name = ".".join(parts if top == "taskqd" else ("taskqd", *parts))
                found[name] = folder
    return found


@pytest.mark.parametrize("wing", WINGS)
def test_link_resolves_to_the_mapped_folder(wing: str) -> None:
    link = ROOT / "taskqd" / wing
    assert link.is_symlink()
    assert os.readlink(link) == f"../{wing}"
    assert link.resolve() == (ROOT / SETUPTOOLS["package-dir"][f"taskqd.{wing}"]).resolve()


def test_every_folder_with_code_is_named_in_packages() -> None:
    assert sorted(SETUPTOOLS["packages"]) == sorted(_physical_packages())


def test_every_file_that_is_not_code_is_package_data() -> None:
    declared = SETUPTOOLS["package-data"]
    folders = _physical_packages()
    for name, folder in folders.items():
        patterns = declared.get(name, [])
        shipped = {file for pattern in patterns for file in folder.glob(pattern)}
        for file in _data_of(folder, set(folders.values())):
            assert file in shipped, f"{file} is not shipped"


def _data_of(folder: Path, packages: set[Path]) -> Iterator[Path]:
    """Yield what is no code in a package, and in its folders that are no packages."""
    for file in folder.iterdir():
        if file.is_symlink() or file.name == "__pycache__" or file in packages:
            continue
        if file.is_dir():
            yield from _data_of(file, packages)
        elif not file.name.endswith((".py", ".pyc")):
            yield file


def test_every_dependency_that_users_install_is_imported() -> None:
    names = {re.split(r"[<>=]", each)[0] for each in PROJECT["project"]["dependencies"]}
    folders = _physical_packages().values()
    code = "\n".join(file.read_text() for folder in folders for file in folder.rglob("*.py"))
    assert not {
        name for name in names if not re.search(rf"^\s*(import|from) {name}\b", code, re.MULTILINE)
    }


MAN_PAGES = sorted((ROOT / "docs/man").glob("*.1"))


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a wheel built from an sdist, as a packager would."""
    target = tmp_path_factory.mktemp("dist")
    _run(sys.executable, "-m", "build", "--outdir", target, ROOT)
    (built,) = target.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of an environment that has the wheel and PyPI's supervisor."""
    home = tmp_path_factory.mktemp("elsewhere")
    _run(sys.executable, "-m", "venv", home / "venv")
    _run(
        home / "venv/bin/python", "-m", "pip", "install", "-q", wheel, "supervisor", "setuptools<80"
    )
    return home


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_wheel_holds_every_module_and_no_root_package(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    tops = {name.split("/")[0] for name in names}
    version = PROJECT["project"]["version"]
    assert tops == {"taskqd", f"taskqd-{version}.dist-info", f"taskqd-{version}.data"}
    shared = {name for name in names if name.startswith(f"taskqd-{version}.data/")}
    pages = {f"taskqd-{version}.data/data/share/man/man1/{page.name}" for page in MAN_PAGES}
    assert shared == pages
    for name, folder in _physical_packages().items():
        for file in folder.iterdir():
            if file.is_file() and file.suffix != ".pyc":
                assert f"{name.replace('.', '/')}/{file.name}" in names


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_wheel_installed_outside_the_checkout_runs_a_job(installed: Path) -> None:
    (installed / "tasks.py").write_text(TASKS)
    venv_bin = installed / "venv/bin"
    environment = {**os.environ, "TASKQD_STORAGE": f"sqlite:///{installed}/jobs.db"}
    run = {"cwd": installed, "env": environment}
    queued = _run(
        venv_bin / "python", "-c", "from tasks import double; print(double(21).id)", **run
    )
    _run(venv_bin / "taskqd", "tasks:app", "--burst", "--workers", "1", "--health", "off", **run)
    read = f"from tasks import app; print(app.result({queued.strip()!r}).get(timeout=10))"
    assert _run(venv_bin / "python", "-c", read, **run).strip() == "42"


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_both_commands_know_their_version(installed: Path) -> None:
    version = PROJECT["project"]["version"]
    for command in ("taskqd", "taskqctl"):
        assert version in _run(installed / "venv/bin" / command, "--version", cwd=installed)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_other_supervisor_on_pypi_stays_unharmed(installed: Path) -> None:
    python = installed / "venv/bin/python"
    show = "import supervisor.options, taskqd.supervisor; print(supervisor.__file__)"
    before = _run(python, "-W", "ignore", "-c", show, cwd=installed)
    assert "taskqd" not in before.replace(str(installed), "")
    _run(python, "-m", "pip", "uninstall", "-q", "-y", "taskqd", cwd=installed)
    alone = "import supervisor.options; print(supervisor.__file__)"
    assert _run(python, "-W", "ignore", "-c", alone, cwd=installed) == before


def test_the_checkout_and_the_installed_version_agree() -> None:
    try:
        version = importlib.metadata.version("taskqd")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("taskqd runs uninstalled here")
    assert version == PROJECT["project"]["version"]


def _run(*command: object, **options: object) -> str:
    done = subprocess.run(
        [str(part) for part in command],
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=240,
        check=False,
        **options,
    )
    assert done.returncode == 0, f"{command}: exit {done.returncode}\n{done.stdout}{done.stderr}"
    return done.stdout
