# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Mending the wheels and linking the built packages into the environment."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import numpy
import pytest

EXPORT = (
    'set_target_properties(x PROPERTIES INTERFACE_INCLUDE_DIRECTORIES "/opt/python/{cp}-{cp}/include/python{v};'
    '/opt/python/{cp}-{cp}/lib/python{v}/site-packages/numpy/_core/include;${{_IMPORT_PREFIX}}/include")\n'
)


@pytest.fixture
def share(tmp_path):
    """The share folder of wheels that were built for three interpreters."""
    for package, version in (("std_msgs", "3.11"), ("geometry_msgs", "3.12"), ("sensor_msgs", "3.13")):
        folder = tmp_path / "share" / package / "cmake"
        folder.mkdir(parents=True)
        text = EXPORT.format(cp=f"cp{version.replace('.', '')}", v=version)
        (folder / "export.cmake").write_text(text, encoding="utf-8")
    return tmp_path / "share"


def test_every_path_of_the_build_machine_is_replaced_by_one_that_exists(load_script, share):
    assert load_script("mend_wheels").mend(share) == 3
    for path in share.glob("*/cmake/*.cmake"):
        text = path.read_text(encoding="utf-8")
        assert "/opt/python" not in text
        directories = text.split('"')[1].split(";")
        assert (Path(directories[0]) / "Python.h").is_file()
        assert os.path.samefile(directories[1], numpy.get_include())
        assert directories[2] == "${_IMPORT_PREFIX}/include"


def test_mending_twice_changes_nothing(load_script, share):
    mend_wheels = load_script("mend_wheels")
    mend_wheels.mend(share)
    before = {path: path.stat().st_mtime_ns for path in share.rglob("*.cmake")}
    assert mend_wheels.mend(share) == 0
    assert {path: path.stat().st_mtime_ns for path in share.rglob("*.cmake")} == before


def test_an_environment_without_wheels_is_refused(load_script, tmp_path):
    mend_wheels = load_script("mend_wheels")
    with pytest.raises(mend_wheels.MendError, match="ROS wheels are not installed"):
        mend_wheels.mend(tmp_path)


def test_a_python_without_headers_is_refused_with_the_package(load_script, share, monkeypatch, tmp_path):
    mend_wheels = load_script("mend_wheels")
    monkeypatch.setattr(mend_wheels.sysconfig, "get_path", lambda name: str(tmp_path))
    monkeypatch.setattr(mend_wheels.sysconfig, "get_config_var", lambda name: None)
    with pytest.raises(mend_wheels.MendError, match=rf"python3\.{sys.version_info.minor}-dev"):
        mend_wheels.mend(share)


@pytest.mark.parametrize("script", ["mend_wheels", "link_overlay"])
def test_outside_an_environment_nothing_is_touched(root, base_python, script):
    command = [base_python, "-I", str(root / f"scripts/{script}.py")]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert "is not in a virtual environment" in result.stderr


@pytest.fixture
def built(tmp_path):
    """A checkout after ``colcon build`` and an empty environment: (root, prefix, site_packages)."""
    root = tmp_path / "checkout"
    files = {
        "flow_rag_vla_interfaces": (
            "lib/libflow_rag_vla_interfaces__rosidl_generator_c.so",
            "lib/python3.11/site-packages/flow_rag_vla_interfaces/__init__.py",
            "share/flow_rag_vla_interfaces/package.xml",
            "share/ament_index/resource_index/packages/flow_rag_vla_interfaces",
            "share/ament_index/resource_index/rosidl_interfaces/flow_rag_vla_interfaces",
        ),
        "tf2_msgs": ("lib/python3.11/site-packages/tf2_msgs/__init__.py", "share/tf2_msgs/package.xml"),
        "flow_rag_vla": (
            "lib/flow_rag_vla/controller",
            "share/flow_rag_vla/package.xml",
            "share/ament_index/resource_index/packages/flow_rag_vla",
        ),
    }
    for package, names in files.items():
        for name in names:
            path = root / "install" / package / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(package, encoding="utf-8")
    prefix = root / ".venv"
    site_packages = prefix / "lib/python3.11/site-packages"
    (prefix / "bin").mkdir(parents=True)
    (prefix / "share").mkdir()
    site_packages.mkdir(parents=True)
    return root, prefix, site_packages


def tree(prefix):
    """Each path below with where it leads and when it was made."""
    return {path: (os.path.realpath(path), path.lstat().st_mtime_ns) for path in prefix.rglob("*")}


def test_the_environment_finds_libraries_messages_sources_and_index(load_script, built):
    root, prefix, site_packages = built
    load_script("link_overlay").link_overlay(*built)
    paths = (site_packages / "flow_rag_vla.pth").read_text(encoding="utf-8").split()
    assert paths[:3] == [
        str(root / "src"),
        str(root / "install/flow_rag_vla_interfaces/lib/python3.11/site-packages"),
        str(root / "install/tf2_msgs/lib/python3.11/site-packages"),
    ]
    for name in (
        "lib/libflow_rag_vla_interfaces__rosidl_generator_c.so",
        "lib/flow_rag_vla/controller",
        "share/flow_rag_vla/package.xml",
        "share/ament_index/resource_index/packages/flow_rag_vla",
        "share/ament_index/resource_index/rosidl_interfaces/flow_rag_vla_interfaces",
    ):
        assert (prefix / name).is_file(), name
    assert os.access(prefix / "bin/flow_rag_vla", os.X_OK)


def test_linking_twice_changes_nothing(load_script, built):
    link_overlay = load_script("link_overlay")
    link_overlay.link_overlay(*built)
    before = tree(built[1])
    link_overlay.link_overlay(*built)
    assert tree(built[1]) == before


def test_a_library_that_is_gone_loses_its_link_and_no_other_does(load_script, built):
    root, prefix, _ = built
    link_overlay = load_script("link_overlay")
    link_overlay.link_overlay(*built)
    (prefix / "lib/libelse.so").symlink_to("/nowhere/libelse.so")
    (root / "install/flow_rag_vla_interfaces/lib/libflow_rag_vla_interfaces__rosidl_generator_c.so").unlink()
    link_overlay.link_overlay(*built)
    assert not (prefix / "lib/libflow_rag_vla_interfaces__rosidl_generator_c.so").is_symlink()
    assert (prefix / "lib/libelse.so").is_symlink()


def test_a_real_file_is_never_replaced_by_a_link(load_script, built):
    link_overlay = load_script("link_overlay")
    wheel = built[1] / "lib/libflow_rag_vla_interfaces__rosidl_generator_c.so"
    wheel.write_text("of a wheel", encoding="utf-8")
    with pytest.raises(link_overlay.LinkError, match="is in the way"):
        link_overlay.link_overlay(*built)
    assert wheel.read_text(encoding="utf-8") == "of a wheel"


@pytest.mark.parametrize("package", ["flow_rag_vla_interfaces", "tf2_msgs"])
def test_messages_that_are_not_built_are_refused_with_the_command(load_script, built, package):
    root, _, _ = built
    (root / f"install/{package}/lib/python3.11/site-packages/{package}/__init__.py").unlink()
    link_overlay = load_script("link_overlay")
    with pytest.raises(link_overlay.LinkError, match="Run `make setup`"):
        link_overlay.link_overlay(*built)


def test_a_command_runs_inside_the_environment(root):
    if not (root / ".venv/bin/python").exists():
        pytest.skip("this checkout runs without an environment of its own (apt ROS)")
    code = "import os, sys; print(sys.prefix, os.environ['VIRTUAL_ENV'], os.environ['AMENT_PREFIX_PATH'].split(':')[0])"
    command = [str(root / "scripts/run"), "python", "-c", code]
    result = subprocess.run(command, capture_output=True, text=True, check=True, cwd="/")
    assert result.stdout.split() == [str(root / ".venv")] * 3


def test_a_checkout_without_an_environment_says_how_to_get_one(checkout):
    result = subprocess.run([str(checkout / "scripts/run"), "python"], capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert "Run: make setup" in result.stderr


def test_a_package_that_cannot_be_imported_is_named(load_script, monkeypatch, capsys):
    warm_up = load_script("warm_up")
    monkeypatch.setitem(warm_up.GROUPS, "--packages", ("json", "a_package_that_is_not_there"))
    assert warm_up.main(["--packages"]) == 1
    assert "a_package_that_is_not_there: ModuleNotFoundError" in capsys.readouterr().err


def test_messages_are_missing_with_the_command_that_builds_them(root):
    """Without the messages the nodes name the remedy instead of a bare ModuleNotFoundError."""
    code = (
        "import sys\n"
        "sys.modules['flow_rag_vla_interfaces'] = None\n"
        f"sys.path.insert(0, {str(root / 'src')!r})\n"
        "import flow_rag_vla.nodes\n"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert "make setup" in result.stderr and "colcon build" in result.stderr


def test_the_environment_of_this_run_is_that_of_the_lock(root):
    if Path(sysconfig.get_path("data")) != root / ".venv":
        pytest.skip("these tests run in another environment than the checkout's own")
    import importlib.metadata

    different = []
    for line in (root / "requirements/lock.txt").read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            name, version = line.split(" ;")[0].split("==")
            installed = importlib.metadata.version(name).split("+")[0]
            if installed != version:
                different.append(f"{name}: {installed} is installed, {version} is locked")
    assert not different
