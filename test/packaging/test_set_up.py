# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""What set-up says on a machine that lacks something, and what it does again when something changed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

import pytest


def run_setup(checkout, path, *arguments, **variables):
    """Run the real script with nothing in its environment but these variables."""
    environment = {"PATH": str(path), "HOME": str(checkout), **variables}
    command = [shutil.which("sh"), str(checkout / "scripts/setup"), *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)


def script(folder, name, text):
    path = folder / name
    path.write_text(f"#!{shutil.which('sh')}\n{text}\n", encoding="utf-8")
    path.chmod(0o755)


def test_a_machine_without_python_is_told_which_to_install(checkout, tools):
    result = run_setup(checkout, tools("sh", "dirname"))
    assert result.returncode == 1
    assert "Python 3.11, 3.12 or 3.13 is needed" in result.stderr
    assert "found: no python3" in result.stderr
    assert "apt-get install python3.11 python3.11-venv" in result.stderr


def test_a_machine_with_an_old_python_is_told_its_version(checkout, tools):
    path = tools("sh", "dirname")
    script(path, "python3", '[ "$1" = --version ] && echo "Python 3.9.2" && exit 0\nexit 1')
    result = run_setup(checkout, path)
    assert result.returncode == 1
    assert "found: Python 3.9.2" in result.stderr


@pytest.mark.parametrize("chosen", ["/nowhere/python3.11", "true"])
def test_a_chosen_python_that_does_not_fit_is_refused_by_name(checkout, tools, chosen):
    result = run_setup(checkout, tools("sh", "dirname", "true"), PYTHON=chosen)
    assert result.returncode == 1
    assert f"PYTHON={chosen}" in result.stderr


def test_a_machine_without_build_tools_is_told_all_of_them_at_once(checkout, tools, base_python):
    result = run_setup(checkout, tools("sh", "dirname"), PYTHON=base_python)
    assert result.returncode == 1
    assert "cmake 3.20 or newer is not on PATH" in result.stderr
    assert "apt-get install cmake" in result.stderr
    assert "no C compiler" in result.stderr
    assert "no C++ compiler" in result.stderr
    assert "apt-get install build-essential" in result.stderr
    assert "neither ninja nor make" in result.stderr
    assert not (checkout / ".venv").exists()
    assert "Traceback" not in result.stderr


def test_an_old_cmake_is_named_with_its_version(checkout, tools, base_python):
    path = tools("sh", "dirname", "cc", "c++", "make")
    script(path, "cmake", "echo cmake version 3.16.3")
    result = run_setup(checkout, path, PYTHON=base_python)
    assert result.returncode == 1
    assert "is version 3.16; 3.20 is needed" in result.stderr


def test_make_passes_the_failure_on(checkout, tools):
    path = tools("sh", "dirname", "make", "sed")
    environment = {"PATH": str(path), "HOME": str(checkout)}
    result = subprocess.run(["make", "sim"], cwd=checkout, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 2
    assert "set-up stopped: Python 3.11" in result.stderr


def test_a_python_without_ensurepip_is_told_the_package(load_script, monkeypatch, tmp_path):
    requisites = load_script("requisites")
    script(tmp_path, "python", "exit 1")
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    messages = "\n".join(requisites.missing_python_parts())
    assert "cannot make virtual environments" in messages
    assert f"python3.{sys.version_info.minor}-venv" in messages


def test_a_python_without_headers_is_told_the_package(load_script, monkeypatch, tmp_path):
    requisites = load_script("requisites")
    monkeypatch.setattr(requisites.sysconfig, "get_config_var", lambda name: str(tmp_path))
    assert f"python3.{sys.version_info.minor}-dev" in "\n".join(requisites.missing_python_parts())


def test_a_full_disk_is_told_before_anything_is_written(load_script, monkeypatch, tmp_path):
    requisites = load_script("requisites")
    usage = shutil.disk_usage(tmp_path)._replace(free=1_500_000_000)
    monkeypatch.setattr(requisites.shutil, "disk_usage", lambda path: usage)
    (message,) = requisites.check_disk(tmp_path)
    assert "1.5 GB free; 4 GB are needed" in message


@pytest.mark.parametrize(
    ("machine", "libc", "named"),
    [
        ("aarch64", "glibc 2.36", "linux on aarch64"),
        ("x86_64", "glibc 2.27", "glibc 2.27"),
        ("x86_64", None, "no glibc"),
    ],
)
def test_a_machine_without_ros_wheels_is_sent_to_apt(load_script, monkeypatch, machine, libc, named):
    requisites = load_script("requisites")
    monkeypatch.setattr(requisites.os, "uname", lambda: type("Machine", (), {"machine": machine})())
    monkeypatch.setattr(requisites.os, "confstr", lambda name: libc)
    (message,) = requisites.check_platform()
    assert named in message
    assert "requirements/apt-ros.txt" in message


@pytest.mark.parametrize("libc", ["glibc 2.28", "glibc 2.36", "glibc 3.0"])
def test_a_machine_with_ros_wheels_passes(load_script, monkeypatch, libc):
    requisites = load_script("requisites")
    monkeypatch.setattr(requisites.os, "uname", lambda: type("Machine", (), {"machine": "x86_64"})())
    monkeypatch.setattr(requisites.os, "confstr", lambda name: libc)
    assert requisites.check_platform() == []


# Lines as pip 23 and 25, gcc 12 and cmake 3.25 print them.
@pytest.mark.parametrize(
    ("output", "advice"),
    [
        ("ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device", "disk is full"),
        (
            "WARNING: Retrying (Retry(total=4)) after connection broken by 'NewConnectionError('<...>: Failed to "
            "establish a new connection: [Errno -3] Temporary failure in name resolution')': /simple/numpy/\n"
            "ERROR: Could not find a version that satisfies the requirement numpy==2.4.6 (from versions: none)",
            "cannot be reached. Check the network",
        ),
        (
            "ERROR: Could not find a version that satisfies the requirement numpy==2.4.6 (from versions: none)",
            "No index that pip asked knows numpy==2.4.6",
        ),
        (
            "ERROR: Could not find a version that satisfies the requirement ros-rclpy==9.1.2 (from versions: 9.1.0)\n"
            "ERROR: No matching distribution found for ros-rclpy==9.1.2",
            "no ros-rclpy==9.1.2 for this Python",
        ),
        ("ssl.SSLCertVerificationError: [SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed", "not trusted"),
        ("fatal error: Python.h: No such file or directory", "headers of Python are missing"),
        ("c++: fatal error: Killed signal terminated program cc1plus", "ran out of memory"),
        ("PermissionError: [Errno 13] Permission denied: '/srv/checkout/.venv'", "must belong to you"),
        ("  ERROR: Failed building wheel for pybullet", "pybullet has no wheel"),
    ],
)
def test_a_known_failure_is_explained(load_script, output, advice):
    assert advice in load_script("requisites").explain(output)


def test_an_unknown_failure_is_not_explained_away(load_script):
    assert load_script("requisites").explain("something else went wrong") == ""


def test_an_index_that_does_not_answer_stops_set_up_with_the_reason(checkout, load_script, monkeypatch, base_python):
    set_up = load_script("set_up")
    monkeypatch.setattr(set_up, "ROOT", checkout)
    monkeypatch.setattr(set_up, "PYTHON", sys.executable)
    for name, value in (
        ("PIP_INDEX_URL", "http://127.0.0.1:9/"),
        ("PIP_CONFIG_FILE", os.devnull),
        ("PIP_RETRIES", "0"),
    ):
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)
    monkeypatch.delenv("PIP_EXTRA_INDEX_URL", raising=False)
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "ros-rclpy==9.1.2"]
    with pytest.raises(
        set_up.SetUpError, match=r"(?s)installing failed \(exit code 1\)\. .*cannot be reached"
    ) as caught:
        set_up.Steps().run("installing", command)
    assert "ros-rclpy" in str(caught.value)


@pytest.fixture
def workspace(checkout, load_script, monkeypatch, root):
    """The set-up module of a checkout whose steps are all recorded as done."""
    set_up = load_script("set_up")
    for name in ("launch", "resource"):
        (checkout / name).mkdir()
    (checkout / "launch/sim.launch.py").write_text("# launch\n", encoding="utf-8")
    for name in ("flow_rag_vla_interfaces", "tf2_msgs"):
        shutil.copytree(root / "src" / name, checkout / "src" / name)
    for name in ("setup.py", "setup.cfg", "package.xml", "colcon_defaults.yaml"):
        shutil.copy(root / name, checkout)
    venv = checkout / ".venv"
    for name, value in {
        "ROOT": checkout,
        "VENV": venv,
        "STAMPS": venv / ".set_up",
        "PYTHON": venv / "bin/python",
        "LOCK": checkout / "requirements/lock.txt",
    }.items():
        monkeypatch.setattr(set_up, name, value)
    return set_up


def keys(set_up):
    return set_up.packages_key(), set_up.interfaces_key(), set_up.transforms_key(), set_up.package_key()


def changed(before, after):
    names = ("packages", "interfaces", "transforms", "package")
    return [name for name, a, b in zip(names, before, after, strict=True) if a != b]


def test_the_same_checkout_has_the_same_keys(workspace):
    assert keys(workspace) == keys(workspace)


@pytest.mark.parametrize(
    ("edited", "rebuilt"),
    [
        ("src/flow_rag_vla_interfaces/msg/Embedding.msg", ["interfaces"]),
        ("src/flow_rag_vla_interfaces/msg/New.msg", ["interfaces"]),
        ("src/tf2_msgs/msg/TFMessage.msg", ["transforms"]),
        ("setup.py", ["package"]),
        ("launch/new.launch.py", ["package"]),
        ("launch/sim.launch.py", []),
        ("requirements/lock.txt", ["packages", "interfaces", "transforms", "package"]),
        ("scripts/mend_wheels.py", ["packages", "interfaces", "transforms", "package"]),
    ],
)
def test_only_what_an_edit_touches_is_made_again(workspace, edited, rebuilt):
    before = keys(workspace)
    with (workspace.ROOT / edited).open("a", encoding="utf-8") as file:
        file.write("\n# edited\n")
    assert changed(before, keys(workspace)) == rebuilt


def test_a_finished_step_is_current_only_for_its_inputs(workspace):
    workspace.mark("packages", "key")
    assert workspace.is_current("packages", "key")
    assert not workspace.is_current("packages", "other")
    assert not workspace.is_current("interfaces", "key")


def test_another_folder_or_interpreter_needs_another_environment(workspace, monkeypatch, tmp_path):
    here = workspace.environment_key()
    monkeypatch.setattr(workspace, "ROOT", tmp_path)
    assert workspace.environment_key() != here
    monkeypatch.undo()
    monkeypatch.setattr(sys, "version", "3.12.0")
    assert workspace.environment_key() != here


def test_a_lock_without_a_section_is_refused_by_name(workspace):
    workspace.LOCK.write_text("# [build]\nnumpy==2.0\n", encoding="utf-8")
    assert workspace.lock_section(["build"]) == ["numpy==2.0"]
    with pytest.raises(workspace.SetUpError, match="no section run"):
        workspace.lock_section(["run"])


def test_a_missing_lock_is_refused_by_name(workspace):
    workspace.LOCK.unlink()
    with pytest.raises(workspace.SetUpError, match=r"lock\.txt is missing"):
        workspace.lock_section(["build"])


def test_after_a_failure_no_further_command_starts(load_script, tmp_path):
    set_up = load_script("set_up")
    steps = set_up.Steps()
    steps.stop()
    with pytest.raises(set_up.SetUpError, match="was not started"):
        steps.run("writing", [sys.executable, "-c", f"open({str(tmp_path / 'file')!r}, 'w')"])
    assert not (tmp_path / "file").exists()


@pytest.mark.parametrize(
    ("given", "expected"), [("", "-j3"), ("--no-print-directory", "--no-print-directory -j3"), ("w -j8", "w -j8")]
)
def test_the_build_is_told_how_many_jobs_it_has_unless_a_person_said_so(load_script, monkeypatch, given, expected):
    monkeypatch.setenv("MAKEFLAGS", given)
    monkeypatch.setattr(os, "cpu_count", lambda: 3)
    assert load_script("set_up").child_environment()["MAKEFLAGS"] == expected


def test_the_build_sees_no_other_ros_and_no_other_python(load_script, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", "/opt/ros/lib")
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    monkeypatch.setenv("AMENT_PREFIX_PATH", "/opt/ros")
    set_up = load_script("set_up")
    environment = set_up.child_environment()
    assert "PYTHONPATH" not in environment
    assert "PYTHONDONTWRITEBYTECODE" not in environment
    assert environment["AMENT_PREFIX_PATH"] == environment["CMAKE_PREFIX_PATH"] == str(set_up.VENV)
