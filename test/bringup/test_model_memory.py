# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""The models of one process as leases within a budget, as the language model node holds them."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from flow_rag_vla.bringup.model_memory import ModelMemory
from flow_rag_vla.llm import errors
from flow_rag_vla.llm.holding import KeepAll, LocalModel, weight_bytes

LAYER = 4 * (100 * 100 + 100)
"""Bytes of one linear layer of 100 by 100."""


class Layer:
    """Something with weights, as a loaded language model is."""

    def __init__(self) -> None:
        self.model = torch.nn.Linear(100, 100)


def model(name, make=Layer, size=LAYER):
    return LocalModel(name, make, size)


def test_models_that_do_not_fit_together_take_turns_and_work_each_time():
    memory = ModelMemory(host_bytes=LAYER + LAYER // 2)
    for name in ("language", "embedder", "language"):
        with memory.hold(model(name), 60.0) as held:
            assert held.model(torch.zeros(1, 100)).shape == (1, 100)
    figures = memory.figures()
    assert figures["model/language"] == "resident" and figures["model/embedder"] == "cold"
    assert figures["memory/host"] == "0 of 0 MB"


def test_models_that_fit_together_stay():
    memory, made = ModelMemory(host_bytes=2 * LAYER), []
    one, two = (model(name, lambda name=name: made.append(name) or Layer()) for name in ("one", "two"))
    for each in (one, two, one, two):
        with memory.hold(each, 60.0):
            pass
    assert made == ["one", "two"]


def test_a_model_in_use_is_not_freed_and_who_waits_for_its_room_is_told_in_time():
    memory = ModelMemory(host_bytes=LAYER)
    with memory.hold(model("one"), 60.0) as held:
        memory.forget("one")
        with pytest.raises(errors.DeadlineError, match="lost: one"), memory.hold(model("two"), 0.05):
            pass
        assert held.model.weight.sum().isfinite()
    with memory.hold(model("two"), 60.0):
        pass


def test_a_model_that_can_never_fit_names_the_parameter():
    memory = ModelMemory(host_bytes=LAYER)
    for size in (LAYER * 2, 1):  # declared too large, and found out to be
        big = LocalModel(f"big {size}", lambda: torch.nn.Linear(200, 200), size)
        with pytest.raises(errors.ProviderDownError, match="host_memory"), memory.hold(big, 60.0):
            pass


@pytest.mark.parametrize(
    ("raised", "kind"),
    [(errors.UnknownModelError("no such"), errors.UnknownModelError), (OSError("x"), errors.LlmError)],
)
def test_what_a_loader_says_reaches_who_asked(raised, kind):
    def fails():
        raise raised

    memory = ModelMemory()
    with pytest.raises(kind), memory.hold(model("a", fails), 60.0):
        pass
    memory.forget("never heard of")


def test_a_forgotten_model_is_loaded_again_when_it_is_asked_for():
    for holder in (KeepAll(), ModelMemory()):
        made = []
        one = model("one", lambda made=made: made.append(1) or Layer())
        for _ in range(2):
            with holder.hold(one, 60.0) as held:
                assert held.model.weight.device.type == "cpu"
            holder.forget("one")
        assert made == [1, 1]


def test_the_size_of_weights_is_read_from_the_headers(tmp_path):
    from safetensors.torch import save_file

    save_file({"a": torch.zeros(10, 3), "b": torch.zeros(5)}, tmp_path / "one.safetensors", {"format": "pt"})
    (tmp_path / "broken.safetensors").write_bytes(b"\xff" * 40)
    (tmp_path / "short.safetensors").write_bytes(b"x")
    assert weight_bytes(tmp_path, 2.0) == 70
    assert weight_bytes(tmp_path / "nowhere", 2.0) == 1


def test_a_process_without_a_local_model_imports_no_torch():
    code = (
        "import sys; from flow_rag_vla.bringup.model_memory import ModelMemory; m = ModelMemory(); m.forget('x');"
        "assert m.figures() == {}; sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
