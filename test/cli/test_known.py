# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Names and defaults that help texts tell are those that there are."""

from __future__ import annotations

from dataclasses import fields

import typer

from flow_rag_vla.bringup.graph import ARGUMENTS
from flow_rag_vla.cli.known import FAULTS, SEVERITIES, VARIANTS
from flow_rag_vla.cli.main import app
from flow_rag_vla.evaluate.chaos.plan import KINDS
from flow_rag_vla.proof.claims import EPISODES, EXTERNAL
from flow_rag_vla.proof.stages import ProofSettings
from flow_rag_vla.sim.scene import VARIANTS as SCENES


def listed(text: str) -> list[str]:
    """The names of "a, b or c"."""
    return text.replace(" or ", ", ").split(", ")


def test_the_names_in_help_texts_are_those_that_are_taken():
    assert listed(VARIANTS) == list(SCENES)
    assert listed(FAULTS) == list(KINDS)
    assert listed(SEVERITIES) == list(next(item.choices for item in ARGUMENTS if item.name == "log_level"))


def test_the_defaults_that_the_help_of_proof_tells_are_those_of_the_proof():
    helps = {item.name: item.help for item in typer.main.get_command(app).commands["proof"].params}
    told = {"training_seeds": "training_seed", "grounds": "ground"}
    for field in fields(ProofSettings):
        text = helps.get(told.get(field.name, field.name))
        value = getattr(ProofSettings(), field.name)
        # A flag is off.
        if text is None or value is False:
            continue
        if field.name == "grounds":
            value = tuple(f"{ground.task}/{ground.scene}" for ground in value)
        said = ", ".join(map(str, value)) if isinstance(value, tuple) else value
        assert text.endswith(f"default: {said}"), field.name
    assert f"with --claims {EPISODES} (of a task {EXTERNAL.episodes})" in helps["episodes"]
