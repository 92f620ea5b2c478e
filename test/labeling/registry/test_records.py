# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Affordances, action sequences and dataset versions."""

from __future__ import annotations

import numpy as np
import pytest

from flow_rag_vla.labeling.detections import ScoreKind
from flow_rag_vla.labeling.registry.actions import ActionSequence, Affordance, Role
from flow_rag_vla.labeling.registry.errors import ErrorCode, InvalidInputError, UnknownError
from flow_rag_vla.labeling.registry.memberships import Member
from flow_rag_vla.labeling.registry.values import ObjectChange, SourceDraft, SourceKind


@pytest.fixture
def ids(registry, image, make) -> tuple[str, ...]:
    return registry.register([make.draft(image) for _ in range(3)], who="a").object_ids


def test_what_can_be_done_with_an_object_is_found_by_its_name(registry, ids):
    width = {"gripper_width": 0.04}
    for object_id, score in zip(ids, (0.2, 0.9, 0.6), strict=True):
        registry.actions.add_affordance(Affordance(object_id, "graspable", score, ScoreKind.HUMAN), who="a")
    registry.actions.add_affordance(Affordance(ids[0], "stackable", 1.0, ScoreKind.GROUND_TRUTH, "e1"), who="a")
    again = Affordance(ids[0], "graspable", 0.7, ScoreKind.CALIBRATED, parameters=width)
    registry.actions.add_affordance(again, who="b")
    found = registry.actions.affordances(ids[0])
    assert [(item.name, item.score, item.who) for item in found] == [("graspable", 0.7, "b"), ("stackable", 1.0, "a")]
    assert found[0].parameters == width and found[1].episode == "e1"
    graspable = registry.actions.objects_affording("graspable", min_score=0.65)
    assert [item.object_id for item in graspable] == [ids[1], ids[0]]
    registry.delete(ids[1], who="a")
    assert [item.object_id for item in registry.actions.objects_affording("graspable")] == [ids[0], ids[2]]
    assert registry.actions.objects_affording("edible") == ()
    with pytest.raises(InvalidInputError):
        registry.actions.add_affordance(Affordance(ids[0], "graspable", 2, ScoreKind.HUMAN), who="a")


def test_all_that_was_recorded_is_listed_in_parts_by_project(registry, image, ids, make, monkeypatch):
    monkeypatch.setattr("flow_rag_vla.labeling.registry.actions._AT_ONCE", 2)
    registry.add_project("other")
    elsewhere = make.image(registry, "/elsewhere", 0, project="other")
    (theirs,) = registry.register([make.draft(elsewhere)], who="a").object_ids
    for number, object_id in enumerate((*ids, theirs)):
        said = Affordance(object_id, "graspable", 0.1 * number, ScoreKind.HUMAN)
        registry.actions.add_affordance(said, who="a")
    steps = np.zeros((1, 7), np.float32)
    made = [
        registry.actions.add_sequence(ActionSequence(source, str(number), steps, 9 - number, 1), who="a").sequence_id
        for number, source in enumerate([image.source_id] * 3 + [elsewhere.source_id])
    ]
    assert [item.sequence_id for item in registry.actions.all_sequences()] == made
    assert [item.sequence_id for item in registry.actions.all_sequences("default")] == made[:3]
    assert [item.object_id for item in registry.actions.all_affordances()] == [*ids, theirs]
    assert [item.object_id for item in registry.actions.all_affordances("other")] == [theirs]
    registry.delete(ids[1], who="a")
    assert [item.object_id for item in registry.actions.all_affordances("default")] == [ids[0], ids[2]]
    for listing in (registry.actions.all_sequences, registry.actions.all_affordances):
        with pytest.raises(UnknownError):
            next(listing("moon"))


def test_what_a_robot_did_comes_back_with_the_objects_it_did_it_to(registry, image, ids):
    actions = np.arange(14, dtype=np.float32).reshape(2, 7)
    objects = ((ids[0], Role.TARGET), (ids[1], Role.DESTINATION), (ids[0], Role.TOOL))
    made = registry.actions.add_sequence(
        ActionSequence(image.source_id, "put the cup on the tray", actions, 5, 25_000_000, "e1", True, objects), who="a"
    )
    found = registry.actions.sequence(made.sequence_id)
    assert np.array_equal(found.actions, actions)
    assert set(found.objects) == set(objects)
    assert (found.instruction, found.succeeded, found.period_ns) == ("put the cup on the tray", True, 25_000_000)
    unknown = ActionSequence(image.source_id, "", actions, 1, 1, "e1")
    later = registry.actions.add_sequence(unknown, who="a")
    assert later.succeeded is None
    in_episode = registry.actions.sequences_of_episode("e1")
    assert [item.sequence_id for item in in_episode] == [later.sequence_id, made.sequence_id]
    assert [item.sequence_id for item in registry.actions.sequences_with(ids[1])] == [made.sequence_id]
    for bad in (np.zeros((0, 7)), np.zeros(7), np.full((2, 7), np.nan)):
        with pytest.raises(InvalidInputError, match="actions"):
            registry.actions.add_sequence(ActionSequence(image.source_id, "", bad, 0, 1), who="a")
    with pytest.raises(UnknownError):
        registry.actions.add_sequence(
            ActionSequence(image.source_id, "", actions, 0, 1, objects=(("0" * 32, Role.TOOL),)), who="a"
        )
    assert len(registry.actions.sequences_of_episode("")) == 0


def test_action_sequences_are_read_page_by_page_and_of_one_project(registry, image, ids):
    registry.add_project("kitchen")
    kitchen = registry.add_source(SourceDraft(SourceKind.FOLDER, "/kitchen", "kitchen"))
    actions = np.zeros((2, 7), np.float32)

    def record(source_id, start_ns):
        about = ((ids[0], Role.TARGET),)
        sequence = ActionSequence(source_id, "", actions, start_ns, 1, "e1", objects=about)
        return registry.actions.add_sequence(sequence, who="a").sequence_id

    late, early, twin = (record(image.source_id, start) for start in (9, 3, 3))
    other = record(kitchen.source_id, 5)
    for listed in (
        lambda **asked: registry.actions.sequences_of_episode("e1", **asked),
        lambda **asked: registry.actions.sequences_with(ids[0], **asked),
    ):

        def read(listed=listed, **asked):
            return [item.sequence_id for item in listed(**asked)]

        assert read() == [early, twin, other, late]
        assert read(limit=2) == [early, twin] and read(limit=2, after=twin) == [other, late]
        assert read(limit=1, after=early) == [twin] and read(after=late) == []
        assert read(project="kitchen") == [other] and read(project="default", after=twin) == [late]
        with pytest.raises(UnknownError, match="moon"):
            read(project="moon")
        with pytest.raises(InvalidInputError, match="cursor"):
            read(project="kitchen", after=early)
    assert registry.project("kitchen").name == "kitchen"
    with pytest.raises(UnknownError, match="moon"):
        registry.project("moon")


def test_a_dataset_version_never_changes(registry, ids):
    registry.update(ids[0], ObjectChange(quality=0.5), who="a")
    first = registry.datasets.add(
        "cups", [Member(ids[0], "train"), Member(ids[1], "val")], who="a", description={"seed": 7}
    )
    registry.update(ids[0], ObjectChange(category="mug"), who="a")
    second = registry.datasets.add("cups", [Member(ids[0], "test")], who="b")
    assert (first.version, first.members, first.description) == (1, 2, {"seed": 7})
    assert (second.version, second.members, second.last_change) == (2, 1, first.last_change + 1)
    assert list(registry.datasets.members(first.dataset_id)) == [Member(ids[0], "train", 2), Member(ids[1], "val", 1)]
    assert list(registry.datasets.members(second.dataset_id)) == [Member(ids[0], "test", 3)]
    assert registry.datasets.list_versions("default", "cups") == (first, second)
    assert registry.datasets.list_versions(name="plates") == ()
    assert registry.datasets.get(first.dataset_id) == first


def test_members_are_read_in_parts(registry, image, make, monkeypatch):
    monkeypatch.setattr("flow_rag_vla.labeling.registry.memberships.PAGE", 4)
    ids = registry.register([make.draft(image) for _ in range(8)], who="a").object_ids
    made = registry.datasets.add("all", [Member(object_id, "train") for object_id in ids], who="a")
    assert [member.object_id for member in registry.datasets.members(made.dataset_id)] == list(ids)


def test_a_dataset_that_makes_no_sense_is_refused_whole(registry, ids):
    for members, description, kind, code in (
        ([Member(ids[0], "a"), Member(ids[0], "b")], {}, InvalidInputError, ErrorCode.INVALID_VALUE),
        ([Member(ids[0], "")], {}, InvalidInputError, ErrorCode.INVALID_VALUE),
        ([], {"x": float("nan")}, InvalidInputError, ErrorCode.INVALID_VALUE),
        ([], {"x": object()}, InvalidInputError, ErrorCode.INVALID_VALUE),
        ([], {"x": "x" * 1_000_001}, InvalidInputError, ErrorCode.INVALID_VALUE),
        ([Member(ids[0], "a"), Member("0" * 32, "a")], {}, UnknownError, ErrorCode.UNKNOWN_OBJECT),
    ):
        with pytest.raises(kind) as error:
            registry.datasets.add("d", members, who="a", description=description)
        assert error.value.code is code
    assert registry.datasets.list_versions() == ()
