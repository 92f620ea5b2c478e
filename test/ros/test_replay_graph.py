# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""A recorded run played into real nodes that decide anew, started as a person starts it."""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from flow_rag_vla.bringup.replay_settings import replay_settings
from flow_rag_vla.data.bag import Bag
from flow_rag_vla.evaluate.decisions.fingerprint import command_bytes
from flow_rag_vla.evaluate.decisions.memory import RecordedMemory
from flow_rag_vla.evaluate.decisions.reading import read_recording
from flow_rag_vla.evaluate.decisions.replay import Replay, recorded_decisions
from flow_rag_vla.policy.policy import FlowPolicy

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]


@pytest.fixture(scope="module")
def bag(tmp_path_factory) -> Path:
    """A run of one process, see test/evaluate/decisions/stage.py."""
    name = "flow_rag_vla_test_stage"
    if name not in sys.modules:
        path = Path(__file__).resolve().parents[1] / "evaluate" / "decisions" / "stage.py"
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)
    stage = sys.modules[name].Stage(tmp_path_factory.mktemp("run"), FlowPolicy.load())
    return stage.run(160).bag


def test_the_replay_graph_decides_anew_and_its_own_bag_replays_to_the_same_bytes(bag, tmp_path):
    command = [sys.executable, "-m", "flow_rag_vla.cli.main", "replay", str(bag), "--graph", "--runs", str(tmp_path)]
    command += ["--remake", "chunk,correction,command"]
    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        start_new_session=True,
    )  # fmt: skip
    try:
        output, _ = process.communicate(timeout=150)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGINT)
            process.wait(30)
    assert process.returncode == 0, output
    assert "end of the bag" in output and "Traceback" not in output
    run = next(tmp_path.iterdir())
    made = Bag(run / "bag")
    assert made.topics["/action_chunk"].count > 10 and made.topics["/command"].count > 100
    recording = read_recording(run)
    assert recording.exact
    settings = replay_settings(recording)
    decisions = Replay(
        recording, RecordedMemory(recording), FlowPolicy.load(), policy_settings=settings.policy,
        loop_settings=settings.loop, changes=settings.loop_changes,
    ).run()  # fmt: skip
    live = recorded_decisions(recording)
    assert decisions.digest()["chunks"] == live.digest()["chunks"], decisions.notes
    assert decisions.digest()["corrections"] == live.digest()["corrections"]
    # The player may begin before the controller's first tick; from the first tick record on commands are the same.
    first = next(index for index, tick in enumerate(recording.ticks) if tick.scheduled_ns is not None)
    pairs = zip(decisions.ticks[first:], live.ticks[first:], strict=True)
    same = [command_bytes(one.command) == command_bytes(other.command) for one, other in pairs]
    assert len(same) > 100 and sum(same) >= len(same) - 2


@pytest.mark.parametrize(
    ("content", "said"),
    [(None, "holds no .mcap or .db3 file"), (b"no bag at all", "is not an MCAP file")],
    ids=["an empty folder", "another file"],
)
def test_what_cannot_be_played_ends_the_command_with_its_reason_and_a_code(tmp_path, content, said):
    bag = tmp_path / "bag.mcap"
    if content is None:
        bag.mkdir()
    else:
        bag.write_bytes(content)
    command = [sys.executable, "-m", "flow_rag_vla.cli.main", "replay", str(bag)]
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=120,
        check=False,
    )  # fmt: skip
    assert done.returncode == 1, done.stdout
    assert f"bag_player cannot start: parameter bag: {bag}" in done.stdout and said in done.stdout
    assert "Traceback" not in done.stdout
