# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Actions and affordances as lines of JSON, by the command that writes them."""

from __future__ import annotations

import json

import numpy as np
from typer.testing import CliRunner

from flow_rag_vla.cli.main import app
from flow_rag_vla.labeling.detections import Origin, ScoreKind
from flow_rag_vla.labeling.registry.actions import ActionSequence, Affordance, Role
from flow_rag_vla.labeling.registry.registry import Registry
from flow_rag_vla.labeling.registry.values import ImageDraft, ObjectDraft, SourceDraft, SourceKind


def lines(file):
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def test_a_line_says_what_was_done_with_which_object_where_it_was_and_what_can_be_done_with_it(tmp_path):
    steps = np.arange(14, dtype=np.float32).reshape(2, 7) / 8
    with Registry(tmp_path / "labels") as registry:
        source = registry.add_source(SourceDraft(SourceKind.BAG, "/bags/e1", episode="e1"))
        (image,) = registry.add_images(source.source_id, [ImageDraft("camera/front", 64, 48, 3, 120)])
        drafts = [
            ObjectDraft(image.image_id, name, (4, 4, 9, 9), 0.9, ScoreKind.SIGMOID, Origin("detector"))
            for name in ("컵", "tray")
        ]
        cup, tray = registry.register(drafts, who="pipeline").object_ids
        how = {"gripper_width": 0.04}
        said = Affordance(cup, "graspable", 1.0, ScoreKind.GROUND_TRUTH, "e1", how)
        registry.actions.add_affordance(said, who="anna")
        pairs = ((cup, Role.TARGET), (tray, Role.DESTINATION))
        done = ActionSequence(source.source_id, "put it down", steps, 100, 25, "e1", True, pairs)
        registry.actions.add_sequence(done, who="robot")
    output = tmp_path / "actions"
    result = CliRunner().invoke(app, ["registry", "actions", str(tmp_path / "labels"), "-o", str(output)])
    assert result.exit_code == 0 and "1 action sequences and 1 affordances" in result.output, result.output
    (sequence,) = lines(output / "sequences.jsonl")
    assert (sequence["instruction"], sequence["succeeded"], sequence["episode"]) == ("put it down", True, "e1")
    assert (sequence["start_ns"], sequence["period_ns"], sequence["source"]) == (100, 25, "/bags/e1")
    assert np.array_equal(np.array(sequence["actions"], np.float32), steps)
    target, destination = sequence["objects"]
    assert (target["role"], target["object_id"], target["category"]) == ("target", cup, "컵")
    assert (target["box"], target["image"], target["frame"], target["stamp_ns"]) == (
        [4, 4, 9, 9],
        "camera/front",
        3,
        120,
    )
    assert [(one["name"], one["parameters"]) for one in target["affordances"]] == [("graspable", how)]
    assert (destination["role"], destination["affordances"]) == ("destination", [])
    (affordance,) = lines(output / "affordances.jsonl")
    assert affordance["name"] == "graspable" and affordance["object"]["object_id"] == cup


def test_a_registry_without_any_gives_empty_files_and_one_that_is_not_there_none(tmp_path):
    with Registry(tmp_path / "labels"):
        pass
    output = tmp_path / "actions"
    result = CliRunner().invoke(app, ["registry", "actions", str(tmp_path / "labels"), "-o", str(output)])
    assert result.exit_code == 0 and not lines(output / "sequences.jsonl") and not lines(output / "affordances.jsonl")
    for arguments in ([str(tmp_path / "none")], [str(tmp_path / "labels"), "--project", "moon"]):
        other = tmp_path / "other"
        result = CliRunner().invoke(app, ["registry", "actions", *arguments, "-o", str(other)])
        assert result.exit_code == 1 and not list(other.glob("*")), result.output
