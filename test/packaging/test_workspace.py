# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""The repository is one ament_python package and its own colcon workspace."""

from __future__ import annotations

import ast
import configparser
import os
import re
import runpy
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

import flow_rag_vla

NODES = {
    "bag_player",
    "camera_encoder",
    "controller",
    "dashboard",
    "deliberation",
    "episode_manager",
    "failure_detector",
    "failure_memory",
    "flow_policy",
    "labeling",
    "lifecycle_manager",
    "llm",
    "mock_robot",
    "recorder",
    "remote_policy",
    "robot",
    "robot_camera",
    "simulator",
    "simulator_camera",
}


def setup_arguments(root: Path, monkeypatch: pytest.MonkeyPatch) -> dict:
    """What setup.py hands to setuptools."""
    caught: dict = {}
    import setuptools

    monkeypatch.chdir(root)
    monkeypatch.setattr(setuptools, "setup", caught.update)
    runpy.run_path("setup.py", run_name="__main__")
    return caught


def manifest(folder: Path) -> ElementTree.Element:
    return ElementTree.parse(folder / "package.xml").getroot()


def text_of(element: ElementTree.Element, tag: str) -> str:
    found = element.find(tag)
    assert found is not None and found.text
    return found.text


def requirements(path: Path) -> list[Requirement]:
    lines = (line.split("#", 1)[0].strip() for line in path.read_text(encoding="utf-8").splitlines())
    return [Requirement(line) for line in lines if line]


def test_colcon_sees_exactly_the_two_packages_as_ros_packages(root):
    colcon = shutil.which("colcon", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    assert colcon, "colcon is not installed: pip install colcon-common-extensions"
    listed = subprocess.run([colcon, "list"], cwd=root, capture_output=True, text=True, check=True).stdout
    rows = {tuple(line.split("\t")) for line in listed.splitlines()}
    assert rows == {
        ("flow_rag_vla", ".", "(ros.ament_python)"),
        ("flow_rag_vla_interfaces", str(Path("src/flow_rag_vla_interfaces")), "(ros.ament_cmake)"),
    }


@pytest.mark.parametrize("folder", [".", "src/flow_rag_vla_interfaces"])
def test_a_maintainer_has_an_address_that_colcon_accepts(root, folder):
    # colcon takes a package with a short top-level domain for a plain python or cmake one, without a word.
    address = manifest(root / folder).find("maintainer").get("email")
    assert re.fullmatch(
        r"[-a-zA-Z0-9_%+]+(\.[-a-zA-Z0-9_%+]+)*@[-a-zA-Z0-9%]+(\.[-a-zA-Z0-9%]+)*\.[a-zA-Z]{2,}", address
    )


def test_manifest_and_setup_agree(root, monkeypatch):
    arguments = setup_arguments(root, monkeypatch)
    package = manifest(root)
    assert arguments["name"] == text_of(package, "name") == flow_rag_vla.__name__
    assert arguments["version"] == text_of(package, "version") == flow_rag_vla.__version__
    assert arguments["license"] == text_of(package, "license") == "Apache-2.0"
    assert arguments["description"] == text_of(package, "description")
    assert arguments["maintainer_email"] == package.find("maintainer").get("email")
    assert text_of(manifest(root / "src/flow_rag_vla_interfaces"), "version") == arguments["version"]


def test_manifest_names_every_ros_package_that_the_nodes_import(root):
    declared = {element.text for element in manifest(root) if element.tag.endswith("depend")}
    ros = re.compile(r"^(rclpy|launch|launch_ros|flow_rag_vla_interfaces|[a-z_]+_(msgs|srvs|interfaces))$")
    imported = set()
    for path in [*(root / "src/flow_rag_vla").rglob("*.py"), *(root / "launch").glob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module] if isinstance(node, ast.ImportFrom) and node.module and not node.level else []
            imported |= {name.split(".")[0] for name in names if ros.match(name.split(".")[0])}
    assert imported
    assert imported <= declared, f"package.xml lacks {sorted(imported - declared)}"


def test_ros2_run_finds_the_executables_where_setup_puts_them(root):
    # Without these two lines they go to bin, where `ros2 run` and launch do not look.
    settings = configparser.ConfigParser()
    settings.read(root / "setup.cfg")
    assert settings["develop"]["script_dir"] == settings["install"]["install_scripts"] == "$base/lib/flow_rag_vla"


def test_both_manifests_are_of_format_three_and_name_who_and_what(root):
    for folder in (".", "src/flow_rag_vla_interfaces"):
        package = manifest(root / folder)
        assert package.get("format") == "3"
        assert all(text_of(package, tag) for tag in ("name", "version", "description", "maintainer", "license"))


def test_colcon_test_finds_pytest(root, monkeypatch):
    # `colcon test` runs pytest only when this extra names it.
    assert "pytest" in setup_arguments(root, monkeypatch)["extras_require"]["test"]


def test_the_extra_all_has_what_every_other_one_has(root, monkeypatch):
    extras = dict(setup_arguments(root, monkeypatch)["extras_require"])
    everything, _ = set(extras.pop("all")), extras.pop("test")
    assert everything == {name for names in extras.values() for name in names}


def test_every_executable_leads_to_a_function(root, monkeypatch):
    scripts = setup_arguments(root, monkeypatch)["entry_points"]["console_scripts"]
    targets = dict(re.split(r"\s*=\s*", script) for script in scripts)
    assert set(targets) == {"flow_rag_vla", *NODES}
    for target in targets.values():
        module, function = target.split(":")
        path = root / "src" / (module.replace(".", "/") + ".py")
        assert path.is_file(), f"{target} leads to {path}, which does not exist"
        functions = {
            node.name for node in ast.parse(path.read_text(encoding="utf-8")).body if isinstance(node, ast.FunctionDef)
        }
        assert function in functions, f"{path} has no function {function}"


def test_the_graph_and_setup_name_the_same_executables(root, monkeypatch):
    from flow_rag_vla.bringup.graph import EVERY_NODE
    from flow_rag_vla.bringup.replay_graph import PLAYER
    from flow_rag_vla.bringup.robot_graph import ROBOT_NODES

    graph = (*EVERY_NODE, PLAYER, *ROBOT_NODES)
    scripts = setup_arguments(root, monkeypatch)["entry_points"]["console_scripts"]
    assert {node.name for node in graph} == {script.split(" = ")[0] for script in scripts} - {"flow_rag_vla"}


def test_launch_parameters_and_models_are_installed(root, monkeypatch):
    installed = {
        (destination, source)
        for destination, sources in setup_arguments(root, monkeypatch)["data_files"]
        for source in sources
    }
    assert ("share/ament_index/resource_index/packages", "resource/flow_rag_vla") in installed
    assert ("share/flow_rag_vla", "package.xml") in installed
    for folder in ("launch", "config", "urdf", "rviz"):
        for path in (root / folder).rglob("*"):
            if path.is_file() and "__pycache__" not in path.parts:
                source = str(path.relative_to(root))
                assert (f"share/flow_rag_vla/{os.path.dirname(source)}", source) in installed


def test_every_python_package_and_checkpoint_is_installed(root, monkeypatch):
    arguments = setup_arguments(root, monkeypatch)
    source = root / "src"
    expected = {".".join(path.parent.relative_to(source).parts) for path in source.glob("flow_rag_vla/**/__init__.py")}
    assert set(arguments["packages"]) == expected
    for folder in source.glob("flow_rag_vla/*/checkpoints"):
        package = ".".join(folder.parent.relative_to(source).parts)
        assert "checkpoints/**/*" in arguments["package_data"][package]


@pytest.mark.parametrize("group", ["build", "run", "torch", "test"])
def test_the_lock_pins_every_direct_requirement(root, group):
    locked = {}
    for requirement in requirements(root / "requirements/lock.txt"):
        (pin,) = requirement.specifier
        assert pin.operator == "==", f"{requirement} is not pinned"
        assert canonicalize_name(requirement.name) not in locked, f"{requirement.name} is pinned twice"
        locked[canonicalize_name(requirement.name)] = Version(pin.version)
    for requirement in requirements(root / f"requirements/{group}.in"):
        name = canonicalize_name(requirement.name)
        assert name in locked, f"{requirement} is not in lock.txt: run `make lock`"
        assert requirement.specifier.contains(locked[name]), f"{requirement}, but lock.txt has {locked[name]}"


def test_the_lock_names_no_machine_and_no_index(root):
    for line in (root / "requirements/lock.txt").read_text(encoding="utf-8").splitlines():
        assert line == "" or line.startswith("#") or re.match(r"^[a-z0-9-]+==[0-9][0-9a-z.]*( ; .+)?$", line), line


def test_setup_requires_nothing_that_the_lock_lacks(root, monkeypatch):
    arguments = setup_arguments(root, monkeypatch)
    locked = {canonicalize_name(r.name) for r in requirements(root / "requirements/lock.txt")}
    asked = [
        *arguments["install_requires"],
        *(name for names in arguments["extras_require"].values() for name in names),
    ]
    assert {canonicalize_name(Requirement(name).name) for name in asked} <= locked


def test_every_source_names_its_licence(root):
    sources = subprocess.run(
        ["git", "ls-files", "*.py", "*.sh", "scripts", ".ci"], cwd=root, capture_output=True, text=True, check=False
    ).stdout.split()
    if not sources:
        pytest.skip("not a git checkout")
    named = "SPDX-License-Identifier: Apache-2.0\n"
    texts = {name: (root / name).read_text(encoding="utf-8") for name in sources if (root / name).is_file()}
    assert len(texts) > 1000
    assert [name for name, text in texts.items() if named not in text[:300]] == []
