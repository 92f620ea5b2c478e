# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Classes from a few examples, over a real registry."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from flow_rag_vla.cli.main import app
from flow_rag_vla.labeling.curation.few_shot import MODEL, classify, propose
from flow_rag_vla.labeling.pipeline.errors import SettingError
from flow_rag_vla.labeling.registry.queries import ObjectFilter
from flow_rag_vla.labeling.registry.values import ImageDraft, ObjectChange, ReviewState, SourceDraft, SourceKind

from .conftest import clusters, drafts

RUNNER = CliRunner()


@pytest.fixture
def things(registry):
    """Thirty objects that the detector calls "thing", of three looks: ten each; and which look each has."""
    source = registry.add_source(SourceDraft(SourceKind.FOLDER, "/pictures"))
    vectors, of = clusters([10, 10, 10])
    images = registry.add_images(source.source_id, [ImageDraft(f"{n}.png", 640, 48) for n in range(3)])
    ids = []
    for number, image in enumerate(images):
        rows = [("thing", vectors[10 * number + n], 0.9) for n in range(10)]
        ids += registry.register(drafts(image.image_id, rows), who="detector").object_ids
    return registry, ids, of


def teach(registry, ids):
    """Two examples of each look: the first is called open, the second shut, the third is none at all."""
    for look, change in enumerate(
        (
            ObjectChange(category="open", state=ReviewState.RELABELLED),
            ObjectChange(category="shut", state=ReviewState.RELABELLED),
            ObjectChange(state=ReviewState.REJECTED),
        )
    ):
        for object_id in ids[10 * look : 10 * look + 2]:
            registry.update(object_id, change, who="anna")


def test_a_few_examples_tell_the_rest_and_how_well_they_tell_each_other(things):
    registry, ids, of = things
    with pytest.raises(SettingError, match="at least two"):
        classify(registry)
    teach(registry, ids)
    found = classify(registry)
    assert found.examples == {"open": 2, "shut": 2, "": 2} and found.told == 1.0
    assert len(found.verdicts) == 24
    for verdict in found.verdicts:
        look = of[ids.index(verdict.object_id)]
        assert (verdict.is_now, verdict.category) == ("thing", ("open", "shut", "")[look])
        assert verdict.probability > 0.5
    shares = [verdict.probability for verdict in found.verdicts]
    assert shares == sorted(shares, reverse=True)
    assert classify(registry, ObjectFilter(image_ids=("0" * 32,))).verdicts == ()


def test_examples_that_look_alike_are_said_to_tell_nothing(things):
    registry, ids, _ = things
    for place, object_id in enumerate(ids[:10]):
        name = ("open", "shut")[place % 2]
        registry.update(object_id, ObjectChange(category=name, state=ReviewState.RELABELLED), who="anna")
    assert classify(registry).told < 0.8


def test_a_word_stands_beside_the_object_until_it_is_taken_or_taken_off(things):
    registry, ids, _ = things
    teach(registry, ids)
    found = classify(registry)
    assert propose(registry, found.verdicts, found.revision, who="anna") == 16
    assert propose(registry, found.verdicts, found.revision, who="anna") == 0
    (said,) = registry.labels([ids[5]])[ids[5]]
    assert (said.category, said.origin.model, said.origin.revision) == ("open", MODEL, found.revision)
    assert registry.get(ids[5]).category == "thing" and not registry.labels([ids[25]])[ids[25]]
    registry.undo(who="anna", change_id=said.change_id)
    assert not registry.labels([ids[5]])[ids[5]]
    # More examples are another revision, which may say something else.
    registry.update(ids[2], ObjectChange(category="open", state=ReviewState.RELABELLED), who="anna")
    assert classify(registry).revision != found.revision


def test_the_command_lists_what_would_be_called_otherwise_and_writes_only_when_asked(things, tmp_path):
    registry, ids, _ = things
    folder = str(registry.folder)

    def run(*arguments, code=0):
        result = RUNNER.invoke(app, ["curate", "classify", folder, *arguments])
        assert result.exit_code == code, result.output
        return result.output

    assert "at least two" in run(code=1)
    teach(registry, ids)
    said = run("--limit", "3")
    assert "24 of 24 would be called otherwise; examples: open 2, rejected 2, shut 2" in " ".join(said.split())
    assert (
        "100 % of the examples are told by the others; always the same word: 33 %" in " ".join(said.split())
        and not registry.labels([ids[5]])[ids[5]]
    )
    found = json.loads(run("--json", "--limit", "2", "--write", "--who", "ben"))
    assert len(found["objects"]) == 2 and found["written"] == 16 and found["told"] == 1.0
    assert registry.labels([ids[5]])[ids[5]][0].who == "ben"
    assert "0 of 24" in run("--least", "1")
