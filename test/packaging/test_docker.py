# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""What the images are made of is sound, without a container engine: their instructions, steps and compose file."""

from __future__ import annotations

import io
import json
import os
import re
import runpy
import shlex
import shutil
import subprocess
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import pytest
import setuptools
import yaml
from compose_spec import PyCompose
from dockerfile_parse import DockerfileParser

ROOT = Path(__file__).resolve().parents[2]
DOCKERFILES = sorted(path.name for path in (ROOT / "docker").glob("Dockerfile.*"))


def instructions(name: str) -> list[tuple[str, str]]:
    """(INSTRUCTION, value) of a Dockerfile, in order, continued lines joined, comments left out."""
    text = (ROOT / "docker" / name).read_text()
    parser = DockerfileParser(fileobj=io.BytesIO(text.encode()))
    return [(item["instruction"], item["value"]) for item in parser.structure if item["instruction"] != "COMMENT"]


def copied(value: str) -> tuple[list[str], str]:
    """Sources and destination of a COPY."""
    *sources, destination = [part for part in value.split() if not part.startswith("--")]
    return sources, destination


def is_ignored(name: str) -> bool:
    """Whether .dockerignore keeps it out of the build."""
    patterns = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line]
    parts = name.split("/")
    return any(
        fnmatchcase("/".join(parts[: depth + 1]), pattern) or fnmatchcase(parts[depth], pattern.removeprefix("**/"))
        for pattern in patterns
        for depth in range(len(parts))
        if pattern.startswith("**/") or depth == 0
    )


def test_there_is_an_image_on_each_base():
    assert DOCKERFILES == ["Dockerfile.debian", "Dockerfile.ros"]


@pytest.mark.parametrize("name", DOCKERFILES)
def test_the_base_is_of_a_stated_release(name):
    arguments = dict(value.split("=", 1) for kind, value in instructions(name) if kind == "ARG")
    (base,) = (value for kind, value in instructions(name) if kind == "FROM")
    image, _, tag = re.sub(r"\$\{(\w+)\}", lambda found: arguments[found[1]], base).partition(":")
    assert image in ("debian", "ros")
    assert re.fullmatch(r"12-slim|(jazzy|kilted)-ros-base", tag)


@pytest.mark.parametrize("name", DOCKERFILES)
def test_everything_of_ours_is_built_and_runs_without_privileges(name):
    kinds = [kind for kind, _ in instructions(name)]
    users = [value for kind, value in instructions(name) if kind == "USER"]
    assert users == ["robot"]
    root_steps = [value for kind, value in instructions(name)[: kinds.index("USER")] if kind == "RUN"]
    assert len(root_steps) == 1 and "apt-get" in root_steps[0] and "useradd --create-home robot" in root_steps[0]
    for kind, value in instructions(name)[kinds.index("USER") :]:
        assert "sudo" not in value and "apt-get" not in value
        if kind == "COPY":
            assert value.startswith("--chown=robot ")


@pytest.mark.parametrize("name", DOCKERFILES)
def test_nothing_is_fetched_but_by_package_managers_and_their_lists_are_not_kept(name):
    for kind, value in instructions(name):
        assert kind != "ADD"
        if kind != "RUN":
            continue
        assert not re.search(r"\b(curl|wget)\b", value)
        if "apt-get install" in value:
            assert value.startswith("apt-get update") and "rm -rf /var/lib/apt/lists/*" in value
            assert "--yes --no-install-recommends" in value
        elif "apt" not in value:
            assert "PIP_NO_CACHE_DIR=1" in value or "setup" in value


@pytest.mark.parametrize("name", DOCKERFILES)
def test_every_copied_file_is_in_the_repository_and_in_the_build(name):
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False).stdout.split()
    for sources, _ in (copied(value) for kind, value in instructions(name) if kind == "COPY"):
        for source in sources:
            assert (ROOT / source).exists(), source
            assert source == "." or not is_ignored(source), source
            if tracked and source != ".":
                assert any(path == source or path.startswith(f"{source}/") for path in tracked), source
    assert not is_ignored("docker/entrypoint.sh") and is_ignored(".git") and is_ignored("src/x/__pycache__")


@pytest.mark.parametrize("name", DOCKERFILES)
def test_each_step_is_a_script_that_people_use_too(name):
    home = "/home/robot/flow_rag_vla/"
    called = [value for kind, value in instructions(name) if kind in ("RUN", "ENTRYPOINT")]
    scripts = {
        part.removeprefix(home) for value in called for part in re.findall(r"[\w/.]*(?:scripts|docker)/\w[\w.]*", value)
    }
    assert scripts
    for script in scripts:
        assert os.access(ROOT / script, os.X_OK), script
        checked = subprocess.run(["bash", "-n", str(ROOT / script)], capture_output=True, text=True, check=False)
        assert checked.returncode == 0, checked.stderr
    steps = [value for kind, value in instructions(name) if kind == "RUN"][1:]
    assert all(re.search(r"\bmake setup\b|scripts/setup_apt_ros --(python|build)", step) for step in steps)
    assert "setup: " in (ROOT / "Makefile").read_text() and "scripts/setup_apt_ros" in (ROOT / "README.md").read_text()


def layers(name: str, folder: Path, until: str) -> Path:
    """A folder that holds exactly what the image has copied before the step that contains ``until``."""
    for kind, value in instructions(name):
        if kind == "RUN" and until in value:
            return folder
        if kind == "COPY":
            sources, destination = copied(value)
            for source in sources:
                target = folder / destination / source if destination.endswith("/") else folder / destination
                target.parent.mkdir(parents=True, exist_ok=True)
                if (ROOT / source).is_dir():
                    shutil.copytree(ROOT / source, target, ignore=shutil.ignore_patterns("__pycache__"))
                else:
                    shutil.copy(ROOT / source, target)
    raise AssertionError(f"{name} has no step with {until}")


def test_the_ros_image_asks_apt_for_what_the_packages_name(tmp_path):
    folder = layers("Dockerfile.ros", tmp_path, "--apt")
    for distribution in ("jazzy", "kilted"):
        asked = subprocess.run(
            [str(folder / "scripts/setup_apt_ros"), "--apt"],
            env={"PATH": os.environ["PATH"], "ROS_DISTRO": distribution},
            capture_output=True,
            text=True,
            check=True,
        ).stdout.split()
        assert {"python3-pip", "python3-numpy", "python3-opencv", f"ros-{distribution}-rclpy"} <= set(asked)
        assert f"ros-{distribution}-rosidl-default-generators" in asked
        assert not any("flow" in item or "_" in item for item in asked) and len(asked) == len(set(asked))


@pytest.mark.parametrize(
    ("arguments", "variables", "said"),
    [
        (["--apt"], {}, "ROS_DISTRO is not set"),
        (["--build"], {}, "no ROS is sourced"),
        (["--bild"], {}, "is not known; usage"),
    ],
)
def test_the_set_up_on_apt_ros_says_what_is_missing(arguments, variables, said):
    result = subprocess.run(
        [str(ROOT / "scripts/setup_apt_ros"), *arguments],
        env={"PATH": os.environ["PATH"], **variables},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 1 and said in result.stderr


def test_the_first_set_up_of_the_debian_image_has_what_it_reads(tmp_path, load_script, monkeypatch):
    folder = layers("Dockerfile.debian", tmp_path, "make setup")
    monkeypatch.chdir(folder)
    set_up = load_script("set_up")
    assert (folder / Path(set_up.LOCK).relative_to(set_up.ROOT)).is_file()
    for name in ("Makefile", "scripts/setup", "scripts/requisites.py", "scripts/mend_wheels.py", "setup.py"):
        assert (folder / name).is_file()
    helped = subprocess.run(["sh", "scripts/setup", "--help"], cwd=folder, capture_output=True, text=True, check=False)
    assert helped.returncode == 0 and "Make this checkout ready" in helped.stdout


def compose(**variables: str) -> dict[str, Any]:
    """The compose file as Compose reads it: with these variables, others at their defaults, and anchors resolved."""

    def value(found: re.Match[str]) -> str:
        return variables.get(found[1]) or found[2]

    text = re.sub(r"\$\{(\w+):-([^}]*)\}", value, (ROOT / "docker/compose.yaml").read_text())
    read: dict[str, Any] = yaml.safe_load(text)
    return read


def command_of(service: str, **variables: str) -> list[str]:
    """The words of a service's command: those of a string are split as a shell does."""
    command = compose(**variables)["services"][service]["command"]
    return shlex.split(command) if isinstance(command, str) else command


def test_the_compose_file_is_of_the_specification():
    PyCompose.from_yaml(yaml.safe_dump(compose())).validate()
    wrong = compose()
    wrong["services"]["sim"]["network_mod"] = "host"
    with pytest.raises(ValueError, match="network_mod"):
        PyCompose.from_yaml(yaml.safe_dump(wrong))


def test_each_service_shares_network_and_memory_with_the_host_and_has_no_privileges():
    services = compose()["services"]
    assert set(services) == {"sim", "robot", "ros-sim", "ros-robot"}
    for name, service in services.items():
        assert service["network_mode"] == "host" and service["ipc"] == "host", name
        assert service["cap_drop"] == ["ALL"] and "no-new-privileges:true" in service["security_opt"]
        assert "privileged" not in service and "user" not in service
        assert service["environment"]["ROS_AUTOMATIC_DISCOVERY_RANGE"] == "LOCALHOST"
        assert (ROOT / service["build"]["dockerfile"]).is_file()
        image = dict(instructions(Path(service["build"]["dockerfile"]).name))
        (runs,) = (item.split(":")[1] for item in service["volumes"] if item.startswith("runs:"))
        assert image["VOLUME"] == runs


@pytest.mark.parametrize("name", ["ros-sim", "ros-robot"])
def test_the_ros_services_launch_files_that_are_there_with_arguments_that_they_have(name):
    from flow_rag_vla.bringup.graph import ARGUMENTS
    from flow_rag_vla.bringup.robot_graph import ROBOT_ARGUMENTS

    known = {argument.name for argument in (*ARGUMENTS, *ROBOT_ARGUMENTS)}
    default = json.loads(dict(instructions("Dockerfile.ros"))["CMD"])
    for command in (command_of(name), command_of(name, PROFILE="franka"), default):
        assert command[:3] == ["ros2", "launch", "flow_rag_vla"]
        assert (ROOT / "launch" / command[3]).is_file()
        assert {argument.split(":=")[0] for argument in command[4:]} <= known


@pytest.mark.parametrize("name", ["sim", "robot"])
def test_the_debian_services_name_commands_and_options_that_exist(name):
    from typer.testing import CliRunner

    from flow_rag_vla.cli.main import app

    for command in (command_of(name), command_of(name, PROFILE="franka")):
        result = CliRunner().invoke(app, [*command, "--help"])
        assert result.exit_code == 0, result.output


def test_without_a_profile_the_robot_services_start_the_arm_that_is_not_there_and_with_one_they_do_not():
    from flow_rag_vla.bringup.resources import default_params_file
    from flow_rag_vla.bringup.robot_graph import MOCK_ROBOT, robot_graph

    def mocked(arguments: dict[str, str]) -> bool:
        return MOCK_ROBOT in [process.spec for process in robot_graph(arguments, default_params_file())]

    for profile, mock in (("", True), ("franka", False)):
        words = command_of("robot", PROFILE=profile)
        given = {"profile": words[words.index("--profile") + 1], "mock": "true" if "--mock" in words else "false"}
        assert mocked(given) is mock
        assert given["profile"] == (profile or "mock")
        launched = dict(word.split(":=") for word in command_of("ros-robot", PROFILE=profile) if ":=" in word)
        assert mocked(launched) is mock


def test_apt_ros_and_package_xml_together_give_what_the_nodes_import(root, monkeypatch):
    caught: dict[str, Any] = {}
    monkeypatch.chdir(root)
    monkeypatch.setattr(setuptools, "setup", caught.update)
    runpy.run_path("setup.py", run_name="__main__")
    extras = caught["extras_require"]
    wanted = {
        *caught["install_requires"],
        *(n for e in ("sim", "policy", "record", "web", "registry") for n in extras[e]),
    }
    bare = {re.split(r"[<>=\[]", name)[0] for name in wanted}
    lines = (line.split("#")[0].strip() for line in (root / "requirements/apt-ros.txt").read_text().splitlines())
    given = {re.split(r"[<>=\[]", line)[0] for line in lines if line}
    of_apt = {"opencv-python-headless": "opencv", "pillow": "pil", "pyyaml": "yaml"}
    manifest = (root / "package.xml").read_text()
    missing = {n for n in bare - given if f"<exec_depend>python3-{of_apt.get(n, n)}</exec_depend>" not in manifest}
    # setuptools comes with colcon.
    assert missing <= {"setuptools"}
