# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Make a checkout ready to run: virtual environment, pinned packages, messages, console command.

Each step has a stamp in ``.venv/.set_up`` that holds the hash of its inputs. A step runs when its stamp differs, so a
second set-up does nothing, and a change of a message rebuilds the messages only. Steps that wait for different things
run side by side: the messages compile while pip still unpacks torch.

Standard library only. Run it through ``make setup``; ``scripts/setup`` finds the interpreter.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from requisites import (
    SetUpError,
    check_disk,
    check_platform,
    explain,
    missing_python_parts,
    missing_tools,
    require,
)

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
STAMPS = VENV / ".set_up"
PYTHON = VENV / "bin" / "python"
LOCK = ROOT / "requirements" / "lock.txt"
INTERFACES = "flow_rag_vla_interfaces"
TRANSFORMS = "tf2_msgs"  # no wheel carries it, and viewers hear of frames in nothing else
PACKAGE = "flow_rag_vla"
# The folders whose files setup.py installs: a new file in one of them needs a build, a changed one is a link already.
DATA_FOLDERS = ("launch", "config", "urdf", "rviz", "resource")
LOG_LINES_SHOWN = 25


def digest(*parts: str | Path) -> str:
    """Return a hash of strings and of files' names and bytes."""
    sha = hashlib.sha256()
    for part in parts:
        if isinstance(part, Path):
            sha.update(str(part.relative_to(ROOT)).encode())
            sha.update(part.read_bytes() if part.is_file() else b"missing")
        else:
            sha.update(part.encode())
        sha.update(b"\0")
    return sha.hexdigest()


def files_under(*folders: Path) -> list[Path]:
    """Return the files below ``folders`` in a fixed order, without caches."""
    found = (path for folder in folders for path in folder.rglob("*") if path.is_file())
    return sorted(path for path in found if "__pycache__" not in path.parts)


def is_current(step: str, key: str) -> bool:
    """Tell whether ``step`` was last finished with the same inputs."""
    stamp = STAMPS / step
    return stamp.is_file() and stamp.read_text(encoding="utf-8") == key


def mark(step: str, key: str) -> None:
    """Record that ``step`` is finished with the inputs that ``key`` hashes."""
    STAMPS.mkdir(parents=True, exist_ok=True)
    temporary = STAMPS / f".{step}.tmp"
    temporary.write_text(key, encoding="utf-8")
    temporary.replace(STAMPS / step)


def child_environment() -> dict[str, str]:
    """Return the environment of the tools that set-up starts.

    Variables that lead another ROS or another Python into the build are left out, and bytecode is always written: it is
    part of what set-up prepares. A build is told its number of jobs: colcon would otherwise let it begin no second one
    while the load is that of all cores, and pip, which runs beside it, sees to that.
    """
    flags = os.environ.get("MAKEFLAGS", "")
    dropped = ("PYTHONHOME", "PYTHONPATH", "PYTHONDONTWRITEBYTECODE", "COLCON_PREFIX_PATH")
    environment = {name: value for name, value in os.environ.items() if name not in dropped}
    environment.update(
        VIRTUAL_ENV=str(VENV),
        PATH=f"{VENV / 'bin'}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
        AMENT_PREFIX_PATH=str(VENV),
        CMAKE_PREFIX_PATH=str(VENV),
        PIP_DISABLE_PIP_VERSION_CHECK="1",
        PIP_NO_INPUT="1",
        MAKEFLAGS=flags if "-j" in flags else f"{flags} -j{os.cpu_count() or 1}".lstrip(),
    )
    return environment


class Steps:
    """Runs the steps' commands, keeps their output, and says what went wrong.

    ``run`` may be called from several threads; everything else from the main thread only.
    """

    def __init__(self) -> None:
        self._start = time.monotonic()
        self._children: list[subprocess.Popen[str]] = []
        self.failed = False

    def say(self, text: str) -> None:
        """Print one line with the time since the start."""
        print(f"[{time.monotonic() - self._start:5.1f} s] {text}", flush=True)

    def run(self, what: str, command: Sequence[str | Path]) -> None:
        """Run a command with its output kept.

        Raises:
            SetUpError: It failed; the message has the advice, if the failure is known, and the end of the output.
        """
        if self.failed:
            raise SetUpError(f"{what} was not started.")
        try:
            child = subprocess.Popen(
                [str(part) for part in command],
                cwd=ROOT,
                env=child_environment(),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
            )
        except OSError as error:
            raise SetUpError(f"{what} did not start: {error}") from error
        self._children.append(child)
        output, _ = child.communicate()
        if child.returncode != 0:
            advice = explain(output)
            tail = "\n".join(f"  | {line}" for line in output.rstrip().splitlines()[-LOG_LINES_SHOWN:])
            raise SetUpError(f"{what} failed (exit code {child.returncode}). {advice}\n{tail}".rstrip())

    def stop(self) -> None:
        """End the commands that still run."""
        self.failed = True
        for child in self._children:
            if child.poll() is None:
                child.terminate()


def environment_key() -> str:
    """Return what the virtual environment depends on: the place (its scripts name it) and the interpreter."""
    return digest(str(ROOT), os.path.realpath(sys.executable), sys.version)


def packages_key() -> str:
    """Return what the installed packages depend on."""
    return digest(environment_key(), LOCK, ROOT / "scripts" / "mend_wheels.py")


def interfaces_key() -> str:
    """Return what the built messages depend on."""
    return digest(packages_key(), ROOT / "colcon_defaults.yaml", *files_under(ROOT / "src" / INTERFACES))


def transforms_key() -> str:
    """Return what the message of /tf depends on."""
    return digest(packages_key(), *files_under(ROOT / "src" / TRANSFORMS))


def package_key() -> str:
    """Return what the installed Python package depends on; its modules and data files are links."""
    names = (str(path.relative_to(ROOT)) for path in files_under(*(ROOT / folder for folder in DATA_FOLDERS)))
    inputs = (ROOT / name for name in ("setup.py", "setup.cfg", "package.xml", "colcon_defaults.yaml"))
    return digest(packages_key(), *inputs, ROOT / "scripts" / "link_overlay.py", *names)


def lock_section(names: Iterable[str]) -> list[str]:
    """Return the pinned requirements of some sections of the lock file.

    Raises:
        SetUpError: The lock file is missing or lacks a section.
    """
    if not LOCK.is_file():
        raise SetUpError(f"{LOCK} is missing. Get it back: git checkout -- requirements/lock.txt")
    sections: dict[str, list[str]] = {}
    current: list[str] = []
    for line in LOCK.read_text(encoding="utf-8").splitlines():
        if line.startswith("# [") and line.endswith("]"):
            current = sections.setdefault(line[3:-1], [])
        elif line and not line.startswith("#"):
            current.append(line)
    absent = [name for name in names if name not in sections]
    if absent:
        raise SetUpError(f"{LOCK} has no section {', '.join(absent)}. Write it again: make lock")
    return [line for name in names for line in sections[name]]


def pip_install(name: str, *sections: str) -> list[str | Path]:
    """Return the pip command that installs some sections of the lock exactly as they are."""
    STAMPS.mkdir(parents=True, exist_ok=True)
    requirements = STAMPS / f"{name}.txt"
    requirements.write_text("\n".join(lock_section(sections)) + "\n", encoding="utf-8")
    # Bytecode of 25,000 files would cost 30 s; warm_up.py compiles those that are used.
    command: list[str | Path] = [PYTHON, "-m", "pip", "install", "--quiet", "--no-compile", "--no-warn-script-location"]
    return [*command, "--progress-bar", "off", "--requirement", requirements]


def make_environment(steps: Steps) -> None:
    """Make the virtual environment, in place of one of another interpreter or another folder."""
    key = environment_key()
    if is_current("environment", key) and PYTHON.exists():
        return
    require(check_platform() + missing_python_parts() + missing_tools() + check_disk(ROOT))
    if VENV.exists():
        steps.say("the environment in .venv is of another Python or another folder: making it anew")
    interpreter = os.path.realpath(sys.executable)
    if VENV.exists():
        shutil.rmtree(VENV)
    steps.run("making the virtual environment", [interpreter, "-m", "venv", VENV])
    # colcon takes the wheels' own package.xml files for packages of the workspace otherwise.
    (VENV / "COLCON_IGNORE").touch()
    mark("environment", key)
    steps.say(f"virtual environment: .venv, Python {sys.version.split()[0]}")


def install_build_group(steps: Steps) -> None:
    """Install the ROS wheels and build tools and mend the paths in them."""
    steps.run("installing the ROS 2 wheels", [*pip_install("build", "build"), "--no-deps"])
    steps.run("mending the wheels' paths", [PYTHON, ROOT / "scripts" / "mend_wheels.py"])
    steps.say("ROS 2 wheels and build tools")


def install_other_groups(steps: Steps) -> None:
    """Install everything else; torch last, because only its own dependencies differ from index to index."""
    steps.run("installing the packages", [*pip_install("run", "run", "test"), "--no-deps"])
    steps.say("simulation, memory and test packages")
    index = os.environ.get("TORCH_INDEX", "")
    # A build from the extra index wins over the plain one of the same version: its local label (+cpu) sorts higher.
    chosen = ["--extra-index-url", index] if index else []
    steps.run("installing torch", [*pip_install("torch", "torch"), *chosen])
    steps.say("torch")
    steps.run("importing the packages", [PYTHON, ROOT / "scripts" / "warm_up.py", "--packages"])


def colcon_build(steps: Steps, package: str, *, folder: str = "") -> None:
    """Build one package of the workspace, or of a folder that is none of its packages."""
    generator = ["-G", "Ninja"] if shutil.which("ninja") else []
    cache = ROOT / "build" / package / "CMakeCache.txt"
    if cache.is_file():
        # cmake refuses another generator or another source folder in the same build folder.
        text = cache.read_text(encoding="utf-8", errors="replace")
        wanted = "Ninja" if generator else "Unix Makefiles"
        if (
            f"CMAKE_GENERATOR:INTERNAL={wanted}\n" not in text
            or f"CMAKE_CACHEFILE_DIR:INTERNAL={cache.parent}" not in text
        ):
            shutil.rmtree(cache.parent)
    command = [
        PYTHON,
        VENV / "bin" / "colcon",
        "build",
        "--packages-select",
        package,
        "--event-handlers",
        "console_direct+",
        *(["--base-paths", folder] if folder else []),
    ]
    options = ["--cmake-args", "-DBUILD_TESTING=OFF", "-DMERGE_SOURCES=ON", "-DSKIP_CPP=ON", *generator]
    steps.run(f"building {package}", [*command, *options])
    steps.say(f"built {package}")


def build_interfaces(steps: Steps, key: str) -> None:
    """Build the messages when one of them, or what they are built with, changed."""
    built = ROOT / "install" / INTERFACES / "share" / INTERFACES / "package.xml"
    if is_current("interfaces", key) and built.is_file():
        return
    require(missing_tools())
    colcon_build(steps, INTERFACES)
    mark("interfaces", key)


def build_transforms(steps: Steps, key: str) -> None:
    """Build the message of /tf when it, or what it is built with, changed."""
    built = ROOT / "install" / TRANSFORMS / "share" / TRANSFORMS / "package.xml"
    if is_current("transforms", key) and built.is_file():
        return
    require(missing_tools())
    colcon_build(steps, TRANSFORMS, folder=f"src/{TRANSFORMS}")
    mark("transforms", key)


def build_package(steps: Steps, key: str) -> None:
    """Build the Python package and link all packages into the environment."""
    built = ROOT / "install" / PACKAGE / "share" / PACKAGE / "package.xml"
    if is_current("package", key) and built.is_file():
        return
    colcon_build(steps, PACKAGE)
    steps.run("linking the packages", [PYTHON, ROOT / "scripts" / "link_overlay.py"])
    steps.run("importing the messages", [PYTHON, ROOT / "scripts" / "warm_up.py", "--messages"])
    mark("package", key)


def set_up(steps: Steps) -> bool:
    """Run every step whose inputs changed; return whether any ran.

    Raises:
        SetUpError: A step failed.
    """
    before = {path.name: path.read_text(encoding="utf-8") for path in STAMPS.glob("*")} if STAMPS.is_dir() else {}
    make_environment(steps)
    key = packages_key()
    fresh_packages = not is_current("packages", key)
    with ThreadPoolExecutor(max_workers=1) as pool:
        others: Future[None] | None = None
        try:
            if fresh_packages:
                require(check_disk(ROOT))
                others = pool.submit(install_other_groups, steps)
                install_build_group(steps)
            build_interfaces(steps, interfaces_key())
            build_transforms(steps, transforms_key())
            build_package(steps, digest(interfaces_key(), transforms_key(), package_key()))
            if others is not None:
                others.result()
                mark("packages", key)
        except BaseException:
            steps.stop()
            raise
    after = {path.name: path.read_text(encoding="utf-8") for path in STAMPS.glob("*")}
    return before != after


def main(arguments: Sequence[str] | None = None) -> int:
    """Set the checkout up; return the exit code."""
    parser = argparse.ArgumentParser(prog="make setup", description="Make this checkout ready to run.")
    parser.add_argument("--quiet", action="store_true", help="say nothing when there is nothing to do")
    options = parser.parse_args(arguments)
    steps = Steps()
    folder = os.open(ROOT, os.O_RDONLY)
    try:
        try:
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            steps.say("another set-up of this checkout runs: waiting for it")
            fcntl.flock(folder, fcntl.LOCK_EX)
        changed = set_up(steps)
    except SetUpError as error:
        print(f"set-up stopped: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"set-up stopped: {error}. {explain(str(error))}".rstrip(), file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        steps.stop()
        print("set-up interrupted; `make setup` goes on where it stopped.", file=sys.stderr)
        return 130
    finally:
        os.close(folder)
    if changed:
        steps.say("ready: make sim, make test, make shell")
    elif not options.quiet:
        print("set-up: nothing to do")
    return 0


if __name__ == "__main__":
    sys.exit(main())
