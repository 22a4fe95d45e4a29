"""The images hold what they need, run as nobody in particular and are told no secrets."""

from __future__ import annotations

import fnmatch
import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FILES = sorted((ROOT / "deploy").glob("*.Dockerfile"))


def instructions(path: Path) -> list[str]:
    """The file's instructions, comments dropped and continued lines joined."""
    lines = [line for line in path.read_text().splitlines() if not line.lstrip().startswith("#")]
    return [line.strip() for line in "\n".join(lines).replace("\\\n", " ").splitlines() if line.strip()]


def test_there_is_an_image_for_every_service() -> None:
    assert [path.stem.removesuffix(".Dockerfile") for path in FILES] == [
        "controller",
        "grafana",
        "prometheus",
        "proxy",
        "redis",
        "worker",
    ]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_what_an_image_copies_is_let_through_by_dockerignore(path: Path) -> None:
    allowed = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    for line in instructions(path):
        if not line.startswith("COPY") or "--from=" in line:
            continue
        for source in line.split()[1:-1]:
            assert (ROOT / source).exists(), source
            assert any(
                source == entry or source.startswith(entry + "/") or fnmatch.fnmatch(entry, source + "/*")
                for entry in allowed
            ), source


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_commands_are_lists_so_that_signals_reach_the_process(path: Path) -> None:
    for line in instructions(path):
        if line.startswith(("CMD", "ENTRYPOINT")):
            assert isinstance(json.loads(line.split(maxsplit=1)[1]), list)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_base_image_is_an_argument_with_a_tag_that_names_a_version(path: Path) -> None:
    defaults = dict(re.findall(r"^ARG (\w+_IMAGE)=(\S+)$", path.read_text(), re.MULTILINE))
    stages = {line.split()[-1] for line in instructions(path) if line.startswith("FROM") and " AS " in line}
    assert defaults
    for line in instructions(path):
        if line.startswith("FROM"):
            name = line.split()[1]
            assert name in {f"${{{argument}}}" for argument in defaults} | stages
    for argument, image in defaults.items():
        assert re.search(r":v?\d", image) or (argument, image) == ("WHEELS_IMAGE", "scratch")


@pytest.mark.parametrize("name", ["controller", "worker"])
def test_our_own_images_run_as_a_user_of_their_own_without_a_package_manager_in_reach(name: str) -> None:
    lines = instructions(ROOT / f"deploy/{name}.Dockerfile")
    final = lines[max(i for i, line in enumerate(lines) if line.startswith("FROM")) :]
    assert "USER 10001:10001" in final
    assert not [line for line in final if "pip" in line]
    assert any("venv --without-pip" in line for line in lines)


def test_the_controller_has_no_torch_and_checks_its_own_health() -> None:
    lines = instructions(ROOT / "deploy/controller.Dockerfile")
    (install,) = [line for line in lines if " install -c " in line]
    assert install.endswith("'.[server]'")
    (check,) = [line for line in lines if line.startswith("HEALTHCHECK")]
    assert 'CMD ["python", "-m", "dcao_server.healthcheck"]' in check


@pytest.mark.parametrize("name", ["controller", "worker"])
def test_the_work_folder_is_open_to_whichever_user_an_engine_chooses(name: str) -> None:
    """OpenShift and `docker run --user` do; the image itself is run so by the compose test."""
    text = " ".join(instructions(ROOT / f"deploy/{name}.Dockerfile"))
    assert "install -d -o dcao -g dcao -m 1777 /data" in text
    assert "WORKDIR /data" in text


def test_pip_settings_are_secrets_and_not_arguments() -> None:
    """An argument or variable would stay in the image's history."""
    for path in FILES:
        for line in instructions(path):
            if line.startswith(("ARG", "ENV")):
                assert not re.search("PIP_|CERT|PASSWORD|TOKEN|SECRET", line), line
            if "pip" in line and line.startswith("RUN"):
                assert "--mount=type=secret,id=pip_conf" in line
                assert "--mount=type=secret,id=ca" in line


def test_the_worker_trains_with_the_torch_that_the_tests_use() -> None:
    pinned = re.search(r"^torch==(\S+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    used = re.search(r"^ARG TORCH_VERSION=(\S+)$", (ROOT / "deploy/worker.Dockerfile").read_text(), re.MULTILINE)
    assert pinned is not None
    assert used is not None
    assert used[1] == pinned[1]
