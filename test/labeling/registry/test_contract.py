# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""What a registry promises on SQLite and on PostgreSQL alike."""

from __future__ import annotations

import secrets
from collections.abc import Iterator

import numpy as np
import pytest
import sqlalchemy as sa

from flow_rag_vla.labeling.detections import Detections, Origin, ScoreKind
from flow_rag_vla.labeling.registry.doctor import examine
from flow_rag_vla.labeling.registry.errors import (
    ConflictError,
    ErrorCode,
    InvalidInputError,
    RegistryError,
    UnknownError,
)
from flow_rag_vla.labeling.registry.queries import ObjectFilter, Order, Way
from flow_rag_vla.labeling.registry.registry import Registry
from flow_rag_vla.labeling.registry.values import (
    BoxConvention,
    ChangeKind,
    Embedder,
    ImageDraft,
    LabelDraft,
    ObjectChange,
    ReviewState,
    SourceDraft,
    SourceKind,
)


@pytest.fixture(params=["sqlite", "postgresql"])
def registry(request, tmp_path, folder) -> Iterator[Registry]:
    """An empty registry on each kind of database."""
    if request.param == "sqlite":
        with Registry(folder) as opened:
            yield opened
        return
    url = sa.make_url(request.getfixturevalue("postgres"))
    name = f"registry_{secrets.token_hex(4)}"
    server = sa.create_engine(url.set(drivername="postgresql+psycopg"), isolation_level="AUTOCOMMIT")
    with server.connect() as connection:
        template = request.getfixturevalue("postgres_template")
        connection.exec_driver_sql(f"CREATE DATABASE {name} TEMPLATE {template}")
    with Registry(url.set(database=name).render_as_string(hide_password=False), files=tmp_path / "files") as opened:
        yield opened
    with server.connect() as connection:
        connection.exec_driver_sql(f"DROP DATABASE {name}")
    server.dispose()


def test_an_object_comes_back_as_it_was_registered(registry, make):
    image = make.image(registry, frame=3, episode="e7")
    draft = make.draft(
        image,
        score=0.25,
        mask=make.mask(),
        embedding=make.unit(1),
        track="left",
        quality=0.75,
        attributes={"colour": "red", "full": True, "count": 2, "weight": 0.5},
    )
    (object_id,) = registry.register([draft], who="pipeline").object_ids
    found = registry.get(object_id)
    assert (found.category, found.box, found.score, found.area) == ("cup", (4, 4, 20, 16), 0.25, 192)
    assert (found.origin, found.score_kind) == (Origin("detector", "r1", "a cup", 0.3), ScoreKind.SIGMOID)
    assert (found.state, found.validated_by, found.version, found.deleted) == (ReviewState.UNREVIEWED, "", 1, False)
    assert (found.image_id, found.source_id, found.frame, found.stamp_ns) == (image.image_id, image.source_id, 3, 1003)
    assert dict(found.attributes) == {"colour": "red", "full": True, "count": 2, "weight": 0.5}
    assert found.quality == 0.75
    assert np.array_equal(registry.mask(object_id), make.mask())
    vector, embedder = registry.embedding(object_id)
    assert np.array_equal(vector, make.unit(1))
    assert embedder == make.embedder == found.embedder
    assert registry.track(found.track_id).name == "left"


def test_what_a_pipeline_found_is_registered_as_one_batch(registry, make):
    image = make.image(registry)
    found = Detections(
        image.width,
        image.height,
        np.array([[0, 0, 10, 10], [10, 10, 30, 20]], np.float32),
        np.array([0.9, 0.4], np.float32),
        ("cup", "tray"),
        ScoreKind.SOFTMAX,
        Origin("compact", "abc"),
        masks=np.stack([make.mask(0, 0, 10, 10), make.mask(10, 10, 30, 20)]),
        embeddings=np.stack([make.unit(1), make.unit(2)]),
    )
    batch = registry.register_detections(
        image.image_id, found, who="pipeline", embedder=make.embedder, tracks=("1", ""), attributes=({"n": 1}, {})
    )
    first, second = registry.get_many(batch.object_ids)
    assert (first.category, second.category) == ("cup", "tray")
    assert first.track_id and not second.track_id
    assert first.attributes == {"n": 1}
    assert second.box == (10, 10, 30, 20)
    assert registry.mask(second.object_id).sum() == 200


def test_a_repeated_batch_gives_the_same_answer_and_another_content_is_refused(registry, make):
    image = make.image(registry)
    drafts = [make.draft(image, mask=make.mask(), embedding=make.unit(n)) for n in range(3)]
    first = registry.register(drafts, who="a", key="job/1")
    again = registry.register(drafts, who="b", key="job/1")
    assert again.object_ids == first.object_ids
    assert again.repeated and not first.repeated
    assert registry.count() == 3
    assert sum(1 for _ in registry.masks.names()) == 3
    for other in (drafts[:2], [*drafts[:2], make.draft(image, score=0.1)], drafts[::-1]):
        with pytest.raises(ConflictError, match="was used for another batch") as error:
            registry.register(other, who="a", key="job/1")
        assert error.value.code is ErrorCode.BATCH_KEY_REUSED
    assert registry.register(drafts, who="a", key="job/2").object_ids != first.object_ids


def test_a_batch_beside_known_objects_is_refused_once_its_image_has_others(registry, make):
    image, elsewhere = make.image(registry), make.image(registry, frame=1)
    first = registry.register([make.draft(image)], who="a", key="one", beside=()).object_ids
    with pytest.raises(ConflictError) as error:
        registry.register([make.draft(elsewhere), make.draft(image, mask=make.mask())], who="b", key="two", beside=())
    assert error.value.code is ErrorCode.IMAGE_LABELLED
    assert registry.count() == 1 and registry.batch("two") is None
    assert registry.register([make.draft(image)], who="a", key="one", beside=()).repeated
    assert not registry.register([make.draft(image)], who="b", key="two", beside=first).repeated
    assert registry.count() == 2


def test_a_batch_with_one_bad_object_leaves_nothing(registry, make):
    image = make.image(registry)
    drafts = [make.draft(image, mask=make.mask()), make.draft(image, box=(5, 5, 5, 9))]
    with pytest.raises(InvalidInputError, match="object 1: box") as error:
        registry.register(drafts, who="a")
    assert error.value.code is ErrorCode.BOX_WITHOUT_AREA
    registry.close_vocabulary("default")
    with pytest.raises(InvalidInputError) as error:
        registry.register([make.draft(image, mask=make.mask())], who="a")
    assert error.value.code is ErrorCode.UNKNOWN_CATEGORY
    assert registry.count() == 0
    assert list(registry.masks.names()) == []
    assert registry.changes() == ()


def test_a_change_can_be_taken_back_and_brought_again(registry, make):
    (object_id,) = registry.register([make.draft(make.image(registry), mask=make.mask())], who="a").object_ids
    before = registry.get(object_id)
    change = ObjectChange(category="mug", box=(0, 0, 8, 8), state=ReviewState.RELABELLED, attributes={"n": 1})
    changed = registry.update(object_id, change, who="anna")
    assert (changed.category, changed.box, changed.validated_by) == ("mug", (0, 0, 8, 8), "anna")
    assert changed.mask_path == "" and changed.validated_ns > 0 and changed.version == 2
    undone = registry.undo(who="anna")
    back = registry.get(object_id)
    assert (back.category, back.box, back.mask_path, back.state) == ("cup", before.box, before.mask_path, before.state)
    assert (back.validated_by, back.validated_ns, back.attributes) == ("", 0, {})
    assert np.array_equal(registry.mask(object_id), make.mask())
    registry.undo(who="anna", change_id=undone.change_id)
    assert registry.get(object_id).category == "mug"
    kinds = [(item.kind, item.who, item.undone) for item in registry.history(object_id)]
    assert kinds == [
        (ChangeKind.CREATED, "a", False),
        (ChangeKind.UPDATED, "anna", False),
        (ChangeKind.UNDONE, "anna", True),
        (ChangeKind.UNDONE, "anna", False),
    ]


def test_undo_takes_the_last_change_of_whoever_asks_or_of_an_object(registry, make):
    image = make.image(registry)
    first, second = registry.register([make.draft(image), make.draft(image)], who="pipeline").object_ids
    registry.update(first, ObjectChange(quality=0.1), who="anna")
    registry.update(second, ObjectChange(quality=0.2), who="ben")
    registry.update(first, ObjectChange(quality=0.3), who="ben")
    assert registry.undo(who="anna", object_id=first).object_id == first
    assert registry.get(first).quality == 0.1
    assert registry.undo(who="anna").object_id == first
    assert registry.get(first).quality is None
    with pytest.raises(UnknownError, match="no change by 'anna' left"):
        registry.undo(who="anna")
    assert registry.undo(who="ben").object_id == second


def test_undo_refuses_what_a_later_change_touched(registry, make):
    (object_id,) = registry.register([make.draft(make.image(registry))], who="a").object_ids
    registry.update(object_id, ObjectChange(category="mug", quality=0.5), who="anna")
    registry.update(object_id, ObjectChange(category="bowl"), who="ben")
    named = registry.history(object_id)[1].change_id
    with pytest.raises(ConflictError, match=r"category of object .* was changed again") as error:
        registry.undo(who="anna", change_id=named)
    assert error.value.code is ErrorCode.UNDO_CONFLICT
    registry.undo(who="anna", object_id=object_id)
    registry.undo(who="anna", change_id=named)
    assert registry.get(object_id).category == "cup"
    with pytest.raises(ConflictError, match="was taken back before"):
        registry.undo(who="anna", change_id=named)


def test_undo_refuses_what_was_reviewed_since_then(registry, make):
    """Else a review stood for what nobody judged, and who registered an object could remove it from under one."""
    (object_id,) = registry.register([make.draft(make.image(registry), mask=make.mask())], who="a").object_ids
    registry.update(object_id, ObjectChange(category="mug"), who="anna")
    registry.update(object_id, ObjectChange(quality=0.5), who="anna")
    registry.update(object_id, ObjectChange(box=(0, 0, 8, 8)), who="anna")
    created, named, rated, drawn = (change.change_id for change in registry.history(object_id))
    accepted = ObjectChange(state=ReviewState.ACCEPTED)
    registry.update(object_id, accepted, who="ben")
    now = registry.get(object_id)
    for change_id in (created, named, drawn):
        with pytest.raises(ConflictError, match=f"was reviewed after change {change_id}") as error:
            registry.undo(who="anna", change_id=change_id)
        assert error.value.code is ErrorCode.UNDO_CONFLICT and registry.get(object_id) == now
    # What no review is about can be taken back, and the rest when the review was.
    registry.undo(who="anna", change_id=rated)
    registry.undo(who="ben", object_id=object_id)
    for change_id in (drawn, named):
        registry.undo(who="anna", change_id=change_id)
    assert (registry.get(object_id).category, registry.get(object_id).quality) == ("cup", None)
    # A review that was there before is of what an undo brings back.
    registry.update(object_id, accepted, who="ben")
    registry.update(object_id, ObjectChange(category="tray"), who="anna")
    registry.undo(who="anna", object_id=object_id)
    assert (registry.get(object_id).category, registry.get(object_id).state) == ("cup", ReviewState.ACCEPTED)


def test_what_was_reviewed_as_something_else_waits_for_a_review_again_on_demand(registry, make):
    registry.add_category("cup", synonyms=("beaker",))
    (object_id,) = registry.register([make.draft(make.image(registry), mask=make.mask())], who="a").object_ids
    accepted = ObjectChange(state=ReviewState.ACCEPTED)

    def state_after(change, **options):
        registry.update(object_id, accepted, who="ben")
        made = registry.update(object_id, change, who="anna", **options)
        assert (made.validated_by == "ben") is (made.validated_ns > 0) is (made.state is ReviewState.ACCEPTED)
        return made.state

    box = registry.get(object_id).box
    for change in (ObjectChange(category="beaker"), ObjectChange(box=box), ObjectChange(quality=0.5)):
        assert state_after(change, reopen=True) is ReviewState.ACCEPTED, "it is what it was"
    assert state_after(ObjectChange(category="mug")) is ReviewState.ACCEPTED
    for change in (ObjectChange(category="cup"), ObjectChange(box=(0, 0, 9, 9)), ObjectChange(mask=make.mask())):
        assert state_after(change, reopen=True) is ReviewState.UNREVIEWED
    rejected = ObjectChange(category="mug", state=ReviewState.REJECTED)
    assert registry.update(object_id, rejected, who="ben", reopen=True).state is ReviewState.REJECTED
    registry.update_many({object_id: ObjectChange(category="cup")}, who="anna", reopen=True)
    assert registry.get(object_id).state is ReviewState.UNREVIEWED
    registry.undo(who="anna", object_id=object_id)
    assert (registry.get(object_id).state, registry.get(object_id).validated_by) == (ReviewState.REJECTED, "ben")


def test_a_deleted_object_leaves_a_tombstone_that_an_undo_brings_back(registry, make):
    image = make.image(registry)
    (object_id,) = registry.register([make.draft(image, embedding=make.unit(1))], who="a").object_ids
    assert registry.delete(object_id, who="anna").deleted
    assert registry.get(object_id).deleted
    assert registry.list_objects().objects == ()
    assert registry.search(make.unit(1), make.embedder).hits == ()
    with pytest.raises(ConflictError) as error:
        registry.update(object_id, ObjectChange(quality=1), who="anna")
    assert error.value.code is ErrorCode.OBJECT_DELETED
    registry.undo(who="anna")
    assert [item.object_id for item in registry.list_objects().objects] == [object_id]
    assert [hit.object.object_id for hit in registry.search(make.unit(1), make.embedder).hits] == [object_id]
    # Registering was a change too.
    registry.undo(who="a")
    assert registry.count() == 0


def test_a_change_made_up_on_an_older_state_is_refused(registry, make):
    (object_id,) = registry.register([make.draft(make.image(registry))], who="a").object_ids
    registry.update(object_id, ObjectChange(quality=0.1), who="anna", expected_version=1)
    for act in (
        lambda: registry.update(object_id, ObjectChange(quality=0.2), who="ben", expected_version=1),
        lambda: registry.delete(object_id, who="ben", expected_version=1),
    ):
        with pytest.raises(ConflictError, match="is at version 2, not 1") as error:
            act()
        assert error.value.code is ErrorCode.STALE_VERSION
        assert error.value.http_status == 409


def test_a_change_that_changes_nothing_leaves_no_trace(registry, make):
    (object_id,) = registry.register([make.draft(make.image(registry))], who="a").object_ids
    assert registry.update(object_id, ObjectChange(category="cup", score=0.5), who="b").version == 1
    assert len(registry.history(object_id)) == 1
    with pytest.raises(InvalidInputError, match="names no field"):
        registry.update(object_id, ObjectChange(), who="b")


@pytest.fixture
def mixed(registry, make):
    """Six objects that differ in everything a filter asks for."""
    one = make.image(registry, "/a", 0, episode="e1", captured_ns=5_000)
    two = make.image(registry, "/b", 5, episode="e2", captured_ns=5_000)
    drafts = [
        make.draft(one, "cup", score=0.1, attributes={"n": 1, "wet": True}),
        make.draft(one, "cup", score=0.2, mask=make.mask()),
        make.draft(one, "tray", score=0.3, embedding=make.unit(3)),
        make.draft(two, "tray", score=0.4, origin=Origin("other"), attributes={"n": "1"}),
        make.draft(two, "mug", score=0.5, track="t", score_kind=ScoreKind.HUMAN),
        make.draft(two, "mug", score=0.5, attributes={"wet": False}, box=(4.0, 4.0, 30.0, 30.0)),
    ]
    ids = registry.register(drafts, who="a").object_ids
    registry.update(ids[0], ObjectChange(state=ReviewState.ACCEPTED), who="anna")
    registry.update(ids[1], ObjectChange(state=ReviewState.REJECTED), who="ben")
    return one, two, ids


def test_filters_select_what_they_say(registry, make, mixed):
    one, two, ids = mixed
    registered = registry.get(ids[0])
    track = registry.get(ids[4]).track_id
    expected = [
        (ObjectFilter(), {0, 1, 2, 3, 4, 5}),
        (ObjectFilter(project="default"), {0, 1, 2, 3, 4, 5}),
        (ObjectFilter(categories=("cup", "mug")), {0, 1, 4, 5}),
        (ObjectFilter(categories=("cup",), project="default"), {0, 1}),
        (ObjectFilter(source_ids=(two.source_id,)), {3, 4, 5}),
        (ObjectFilter(image_ids=(one.image_id,)), {0, 1, 2}),
        (ObjectFilter(track_ids=(track,)), {4}),
        (ObjectFilter(episodes=("e1",)), {0, 1, 2}),
        (ObjectFilter(states=(ReviewState.REJECTED,)), {1}),
        (ObjectFilter(validated=True), {0}),
        (ObjectFilter(validated=False), {1, 2, 3, 4, 5}),
        (ObjectFilter(validated_by="ben"), {1}),
        (ObjectFilter(models=("other",)), {3}),
        (ObjectFilter(score_kinds=(ScoreKind.HUMAN,)), {4}),
        (ObjectFilter(min_score=0.2, max_score=0.4), {1, 2, 3}),
        (ObjectFilter(captured_from_ns=6_001), {3, 4, 5}),
        (ObjectFilter(captured_until_ns=6_001), {0, 1, 2}),
        (ObjectFilter(created_from_ns=registered.created_ns), {0, 1, 2, 3, 4, 5}),
        (ObjectFilter(created_until_ns=registered.created_ns), set()),
        (ObjectFilter(has_mask=True), {1}),
        (ObjectFilter(has_mask=False), {0, 2, 3, 4, 5}),
        (ObjectFilter(has_embedding=True), {2}),
        (ObjectFilter(has_embedding=False), {0, 1, 3, 4, 5}),
        (ObjectFilter(max_area=192.0), {0, 1, 2, 3, 4}),
        (ObjectFilter(min_area=192.5, max_area=676.0), {5}),
        (ObjectFilter(min_area=676.5), set()),
        (ObjectFilter(attributes={"n": 1}), {0}),
        (ObjectFilter(attributes={"n": "1"}), {3}),
        (ObjectFilter(attributes={"wet": True}), {0}),
        (ObjectFilter(attributes={"wet": False}), {5}),
        (ObjectFilter(categories=("cup",), states=(ReviewState.ACCEPTED, ReviewState.REJECTED), min_score=0.15), {1}),
    ]
    for where, numbers in expected:
        found = {ids.index(item.object_id) for item in registry.list_objects(where).objects}
        assert found == numbers, where
        assert registry.count(where) == len(numbers), where


def test_a_time_is_that_of_a_stamp_or_of_the_source_and_what_is_unknown_is_neither_before_nor_after(registry, make):
    taken = {}
    for kind, captured_ns, stamp_ns in (
        (SourceKind.BAG, 0, 200),
        (SourceKind.FOLDER, 0, 300),
        (SourceKind.FOLDER, 400, 0),
        (SourceKind.UPLOAD, 0, 0),
        (SourceKind.VIDEO, 0, 150),
        (SourceKind.VIDEO, 400, 100),
        (SourceKind.VIDEO, 600, 0),
    ):
        source = registry.add_source(SourceDraft(kind, f"/{len(taken)}", captured_ns=captured_ns))
        (image,) = registry.add_images(source.source_id, [ImageDraft("a", 64, 48, stamp_ns=stamp_ns)])
        (made,) = registry.register([make.draft(image)], who="a").object_ids
        taken[made] = (kind.value, captured_ns, stamp_ns)

    def found(start, until):
        where = ObjectFilter(captured_from_ns=start, captured_until_ns=until)
        return sorted(taken[item.object_id] for item in registry.list_objects(where).objects)

    assert (
        found(1, 0)
        == found(0, 10_000)
        == [
            ("bag", 0, 200),
            ("folder", 0, 300),
            ("folder", 400, 0),
            ("video", 400, 100),
            ("video", 600, 0),
        ]
    )
    assert found(300, 500) == [("folder", 0, 300), ("folder", 400, 0)]
    assert found(500, 600) == [("video", 400, 100)]
    unknown = next(made for made, what in taken.items() if what == ("upload", 0, 0))
    registry.describe_source(registry.get(unknown).source_id, captured_ns=550)
    assert ("upload", 0, 0) in found(500, 600)


@pytest.mark.parametrize("order", list(Order))
def test_pages_show_everything_once_in_order(registry, mixed, order):
    for number in (0, 3):
        registry.update(mixed[2][number], ObjectChange(quality=0.9 - 0.1 * number), who="test")
    everything = registry.list_objects(order=order).objects
    keys = {
        Order.LOWEST_QUALITY: lambda item: (
            2 if item.quality is None else item.quality,
            mixed[2].index(item.object_id),
        ),
        Order.HIGHEST_QUALITY: lambda item: (-(item.quality or -1.0), -mixed[2].index(item.object_id)),
        Order.NEWEST: lambda item: -mixed[2].index(item.object_id),
        Order.OLDEST: lambda item: mixed[2].index(item.object_id),
        Order.LOWEST_SCORE: lambda item: (item.score, mixed[2].index(item.object_id)),
        Order.HIGHEST_SCORE: lambda item: (-item.score, -mixed[2].index(item.object_id)),
    }
    assert list(everything) == sorted(everything, key=keys[order])
    paged, cursor = [], ""
    while True:
        page = registry.list_objects(order=order, limit=2, cursor=cursor)
        paged += page.objects
        cursor = page.cursor
        if not cursor:
            break
    assert paged == list(everything)
    assert len(paged) == 6


def test_similar_objects_come_nearest_first_and_only_those_that_pass(registry, make):
    image = make.image(registry)
    query = make.unit(0)
    vectors = [query, make.unit(1), make.unit(2), -query]
    drafts = [make.draft(image, name, embedding=vector) for name, vector in zip("abab", vectors, strict=True)]
    ids = registry.register([*drafts, make.draft(image, "a")], who="a").object_ids
    answer = registry.search(query, make.embedder, k=10)
    assert [hit.similarity for hit in answer.hits] == pytest.approx(
        sorted((float(vector @ query) for vector in vectors), reverse=True), abs=1e-6
    )
    assert answer.hits[0].object.object_id == ids[0]
    assert (answer.answered.way, answer.answered.matching) == (Way.EXACT_ALL, 4)
    only = registry.search(query, make.embedder, where=ObjectFilter(categories=("b",)))
    assert {hit.object.object_id for hit in only.hits} == {ids[1], ids[3]}
    assert only.answered.way is Way.EXACT_FILTERED
    assert ids[0] not in {hit.object.object_id for hit in registry.similar(ids[0]).hits}
    nothing = registry.search(query, make.embedder, where=ObjectFilter(min_score=0.9))
    assert (nothing.hits, nothing.answered.way) == ((), Way.NOTHING)


def test_a_new_vector_takes_the_place_of_the_old_one(registry, make):
    (object_id,) = registry.register([make.draft(make.image(registry), embedding=make.unit(1))], who="a").object_ids
    assert registry.search(make.unit(1), make.embedder).hits[0].similarity == pytest.approx(1, abs=1e-6)
    registry.set_embeddings({object_id: make.unit(2)}, make.embedder, who="a")
    answer = registry.search(make.unit(2), make.embedder)
    assert [hit.similarity for hit in answer.hits] == pytest.approx([1], abs=1e-6)
    with pytest.raises(ConflictError, match="replaced a vector"):
        registry.undo(who="a", change_id=registry.history(object_id)[-1].change_id)


def test_vectors_of_two_embedders_are_never_compared(registry, make):
    image = make.image(registry)
    other = Embedder("tiny", "v2", 8)
    old, new = registry.register(
        [make.draft(image, embedding=make.unit(1)), make.draft(image, embedding=make.unit(2), embedder=other)], who="a"
    ).object_ids
    for embedder in (make.embedder, other, Embedder("third", "", 8)):
        with pytest.raises(ConflictError, match=r"holds vectors of tiny@v\d .*set_embeddings") as error:
            registry.search(make.unit(1), embedder)
        assert error.value.code is ErrorCode.EMBEDDER_MISMATCH
    registry.set_embeddings({old: make.unit(1)}, other, who="a")
    assert {hit.object.object_id for hit in registry.search(make.unit(1), other).hits} == {old, new}
    with pytest.raises(InvalidInputError) as refused:
        registry.search(make.unit(1, 9), other)
    assert refused.value.code is ErrorCode.WRONG_DIMENSION


def test_projects_keep_their_words_apart(registry, make):
    registry.add_project("kitchen", description="cups")
    with pytest.raises(ConflictError, match="there is a project"):
        registry.add_project("kitchen")
    assert [project.name for project in registry.projects()] == ["default", "kitchen"]
    registry.add_category("cup", project="kitchen", synonyms=["beaker", "tumbler"])
    registry.add_category("cup", project="kitchen", synonyms=["chalice"])
    with pytest.raises(ConflictError, match="already means the category 'cup'"):
        registry.add_category("beaker", project="kitchen")
    registry.close_vocabulary("kitchen")
    image = make.image(registry, project="kitchen")
    (object_id,) = registry.register([make.draft(image, "beaker")], who="a").object_ids
    assert registry.get(object_id).category == "cup"
    assert registry.get(object_id).project == "kitchen"
    with pytest.raises(InvalidInputError, match="no category 'plate'; known: cup"):
        registry.register([make.draft(image, "plate")], who="a")
    with pytest.raises(InvalidInputError, match="no category 'plate'"):
        registry.update(object_id, ObjectChange(category="plate"), who="a")
    registry.register([make.draft(make.image(registry), "plate")], who="a")
    assert registry.count(ObjectFilter(project="kitchen")) == 1
    assert registry.count(ObjectFilter(categories=("chalice",))) == 1
    (cup,) = registry.categories("kitchen", counted=True)
    assert (cup.synonyms, cup.objects) == (("beaker", "chalice", "tumbler"), 1)


def test_a_synonym_that_somebody_says_is_the_category_in_the_history_too_and_can_be_taken_back(registry, image, make):
    registry.add_category("cup", synonyms=["mug"])
    cup, tray = registry.register([make.draft(image), make.draft(image, "tray")], who="a").object_ids
    assert registry.update(cup, ObjectChange(category="mug"), who="anna").version == 1
    registry.update(tray, ObjectChange(category="mug"), who="anna")
    assert registry.history(tray)[-1].after == {"category": "cup"}
    registry.undo(who="anna", object_id=tray)
    assert registry.get(tray).category == "tray"


def test_a_renamed_category_keeps_its_objects_its_old_word_and_what_can_be_taken_back(registry, image, make):
    ids = registry.register([make.draft(image, "cupp"), make.draft(image, "tray")], who="a").object_ids
    registry.update(ids[1], ObjectChange(category="cupp"), who="anna")
    made = registry.rename_category("cupp", "cup")
    assert (made.name, made.synonyms, made.objects) == ("cup", ("cupp",), 2)
    assert {item.category for item in registry.get_many(ids)} == {"cup"}
    assert registry.count(ObjectFilter(categories=("cupp",))) == 2
    (third,) = registry.register([make.draft(image, "cupp")], who="a").object_ids
    assert registry.get(third).category == "cup"
    registry.undo(who="anna", object_id=ids[1])
    assert registry.get(ids[1]).category == "tray"
    assert registry.rename_category("cup", "cupp").synonyms == ("cup",)
    for name, to in (("cupp", "tray"), ("moon", "sun"), ("cupp", " ")):
        with pytest.raises((ConflictError, InvalidInputError)):
            registry.rename_category(name, to)
    assert {item.name for item in registry.categories()} == {"cupp", "tray"}


def test_a_merged_category_is_gone_with_all_that_refers_to_it(registry, image, make, monkeypatch):
    monkeypatch.setattr("flow_rag_vla.labeling.registry.renaming.AT_ONCE", 2)
    drafts = [make.draft(image, "pedestrian", embedding=make.unit(n)) for n in range(5)]
    ids = registry.register([*drafts, make.draft(image, "person")], who="a").object_ids
    registry.add_category("pedestrian", synonyms=["walker"])
    registry.add_labels(
        [LabelDraft(ids[5], "pedestrian", (4.0, 4.0, 20.0, 16.0), 0.5, ScoreKind.SIGMOID, Origin("other"))], who="a"
    )
    registry.delete(ids[4], who="a")
    assert registry.search(make.unit(0), make.embedder, where=ObjectFilter(categories=("pedestrian",))).hits
    made = registry.merge_category("pedestrian", "person", who="anna")
    assert (made.synonyms, made.objects) == (("pedestrian", "walker"), 5)
    assert [item.name for item in registry.categories()] == ["person"]
    assert {item.category for item in registry.get_many(ids)} == {"person"}
    assert [label.category for label in registry.labels([ids[5]])[ids[5]]] == ["person"]
    assert registry.count(ObjectFilter(categories=("walker",))) == 5
    where = ObjectFilter(categories=("person",))
    assert len(registry.search(make.unit(0), make.embedder, k=9, where=where).hits) == 4
    change = registry.history(ids[0])[-1]
    assert (change.who, change.before, change.after) == ("anna", {"category": "pedestrian"}, {"category": "person"})
    # The words mean the same from now on: there is nothing to part them by.
    with pytest.raises(ConflictError) as error:
        registry.undo(who="anna", change_id=change.change_id)
    assert error.value.code is ErrorCode.UNDO_CONFLICT and not registry.history(ids[0])[-1].undone
    registry.undo(who="a", object_id=ids[4])
    assert registry.get(ids[4]).category == "person" and not examine(registry)
    for name, into in (("person", "person"), ("moon", "person"), ("person", "walker")):
        with pytest.raises(InvalidInputError):
            registry.merge_category(name, into, who="anna")


def test_what_is_registered_twice_is_one(registry, make):
    draft = SourceDraft(SourceKind.BAG, "/bags/7", episode="e", licence="CC-BY-4.0", attributes={"robot": 7})
    source = registry.add_source(draft)
    assert registry.add_source(draft) == source == registry.source(source.source_id)
    assert registry.add_source(SourceDraft(SourceKind.BAG, "/bags/7", episode="f")) != source
    images = [ImageDraft("/camera".strip("/"), 64, 48, frame=n, stamp_ns=n) for n in range(3)]
    first = registry.add_images(source.source_id, images[:2])
    assert registry.add_images(source.source_id, images)[:2] == first
    assert registry.images(source.source_id, limit=2) == first
    assert [image.frame for image in registry.images(source.source_id, after=first[1].image_id)] == [2]
    with pytest.raises(ConflictError, match="is 64 x 48, not 32 x 48"):
        registry.add_images(source.source_id, [ImageDraft("camera", 32, 48)])
    assert len(registry.sources("default")) == 2
    assert len(registry.sources(after=source.source_id)) == 1


def test_a_track_is_shown_in_the_order_of_time(registry, make):
    images = [make.image(registry, frame=frame) for frame in (5, 1, 3)]
    drafts = [make.draft(image, score=0.1 * n, track="t") for n, image in enumerate(images, 1)]
    ids = registry.register(drafts, who="a").object_ids
    (track,) = registry.tracks(images[0].source_id)
    assert track.object_ids == (ids[1], ids[2], ids[0])
    assert (track.start_frame, track.end_frame, track.start_ns, track.end_ns) == (1, 5, 1001, 1005)
    assert track.mean_score == pytest.approx(0.2)
    made = registry.add_track(images[0].source_id, ids[:2], who="anna")
    assert made.object_ids == (ids[1], ids[0])
    assert registry.track(track.track_id).object_ids == (ids[2],)
    registry.update(ids[1], ObjectChange(track_id=""), who="anna")
    assert registry.track(made.track_id).object_ids == (ids[0],)
    registry.undo(who="anna")
    assert registry.track(made.track_id).object_ids == (ids[1], ids[0])
    elsewhere = registry.register([make.draft(make.image(registry, "/other"))], who="a").object_ids
    with pytest.raises(ConflictError, match="make one track a source"):
        registry.add_track(images[0].source_id, elsewhere, who="anna")
    with pytest.raises(UnknownError, match="has no track"):
        registry.update(elsewhere[0], ObjectChange(track_id=made.track_id), who="anna")


def test_statistics_count_what_is_alive(registry, make, mixed):
    registry.delete(mixed[2][5], who="anna")
    found = registry.statistics()
    assert (found.objects, found.sources, found.images, found.tracks) == (5, 2, 2, 1)
    assert (found.with_mask, found.with_embedding) == (1, 1)
    assert found.by_category == {"cup": 2, "tray": 2, "mug": 1}
    assert found.by_state == {"unreviewed": 3, "accepted": 1, "rejected": 1, "relabelled": 0}
    assert found.by_model == {"detector": 4, "other": 1}
    assert found.mean_score == pytest.approx(0.3)
    assert found.validated_share == pytest.approx(0.2)
    registry.add_project("empty")
    assert registry.statistics("empty").objects == 0
    assert registry.statistics("empty").sources == 0


def test_what_is_not_there_is_named(registry, make):
    nobody = "0" * 32
    for act, code in (
        (lambda: registry.get(nobody), ErrorCode.UNKNOWN_OBJECT),
        (lambda: registry.get_many([nobody]), ErrorCode.UNKNOWN_OBJECT),
        (lambda: registry.history(nobody), ErrorCode.UNKNOWN_OBJECT),
        (lambda: registry.update(nobody, ObjectChange(score=1), who="a"), ErrorCode.UNKNOWN_OBJECT),
        (lambda: registry.image(nobody), ErrorCode.UNKNOWN_IMAGE),
        (lambda: registry.register([make.draft(nobody)], who="a"), ErrorCode.UNKNOWN_IMAGE),
        (lambda: registry.source(nobody), ErrorCode.UNKNOWN_SOURCE),
        (lambda: registry.tracks(nobody), ErrorCode.UNKNOWN_SOURCE),
        (lambda: registry.track(nobody), ErrorCode.UNKNOWN_TRACK),
        (lambda: registry.undo(who="a", change_id=77), ErrorCode.UNKNOWN_CHANGE),
        (lambda: registry.list_objects(ObjectFilter(project="none")), ErrorCode.UNKNOWN_PROJECT),
        (lambda: registry.list_objects(ObjectFilter(categories=("none",))), ErrorCode.UNKNOWN_CATEGORY),
        (lambda: registry.datasets.get(nobody), ErrorCode.UNKNOWN_DATASET),
        (lambda: registry.actions.sequence(nobody), ErrorCode.UNKNOWN_SEQUENCE),
    ):
        with pytest.raises(RegistryError) as error:
            act()
        assert error.value.code is code
        assert error.value.http_status in (404, 422)


def test_boxes_of_every_convention_come_back_as_one(registry, make):
    image = make.image(registry)
    same = {
        BoxConvention.LTRB: (16.0, 12.0, 32.0, 36.0),
        BoxConvention.LTRB_INCLUSIVE: (16.0, 12.0, 31.0, 35.0),
        BoxConvention.XYWH: (16.0, 12.0, 16.0, 24.0),
        BoxConvention.CXCYWH_NORMALISED: (0.375, 0.5, 0.25, 0.5),
    }
    drafts = [make.draft(image, box=box, convention=convention) for convention, box in same.items()]
    for found, convention in zip(registry.get_many(registry.register(drafts, who="a").object_ids), same, strict=True):
        assert found.box == (16, 12, 32, 36)
        assert found.convention is convention


def test_several_objects_are_changed_in_one_step_and_taken_back_in_one(registry, image, make):
    ids = registry.register([make.draft(image, mask=make.mask()) for _ in range(4)], who="a").object_ids
    registry.update(ids[3], ObjectChange(category="tray"), who="a")
    tray = ObjectChange(category="tray", state=ReviewState.RELABELLED)
    changes = registry.update_many(dict.fromkeys(ids[:3], tray), who="anna", expected_versions=dict.fromkeys(ids, 1))
    assert [(change.object_id, change.kind, change.who) for change in changes] == [
        (object_id, ChangeKind.UPDATED, "anna") for object_id in ids[:3]
    ]
    assert registry.changes_by_id([change.change_id for change in changes]) == changes
    now = registry.get_many(ids)
    assert {item.category for item in now} == {"tray"}
    assert [(item.validated_by, item.version, bool(item.mask_path)) for item in now[:3]] == [("anna", 2, True)] * 3
    assert registry.update_many({ids[0]: ObjectChange(category="tray")}, who="anna") == (), "it is so already"

    # One that cannot be changed, and none is.
    cup = ObjectChange(category="cup")
    for expected, error, code in (
        ({ids[1]: 1}, ConflictError, ErrorCode.STALE_VERSION),
        ({"0" * 32: 1}, UnknownError, ErrorCode.UNKNOWN_OBJECT),
    ):
        with pytest.raises(error) as refused:
            registry.update_many(dict.fromkeys([ids[0], *expected], cup), who="anna", expected_versions=expected)
        assert refused.value.code is code
    for change in (ObjectChange(), ObjectChange(mask=make.mask())):
        with pytest.raises(InvalidInputError):
            registry.update_many({ids[0]: cup, ids[1]: change}, who="anna")
    assert registry.get_many(ids) == now

    numbers = [change.change_id for change in changes]
    registry.update(ids[1], cup, who="grace")
    with pytest.raises(ConflictError) as refused:
        registry.undo_many(numbers, who="anna")
    assert refused.value.code is ErrorCode.UNDO_CONFLICT and ids[1] in refused.value.message
    assert registry.get(ids[2]) == now[2]
    registry.undo(who="grace", object_id=ids[1])
    taken = registry.undo_many(numbers, who="anna")
    assert [change.undoes for change in taken] == numbers[::-1]
    assert [item.category for item in registry.get_many(ids)] == ["cup", "cup", "cup", "tray"]
    assert {item.state for item in registry.get_many(ids)} == {ReviewState.UNREVIEWED}
    with pytest.raises(UnknownError):
        registry.changes_by_id([numbers[0], 10**9])
