# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""The picture of the graph holds what the declarations hold, and is the one that was generated."""

from __future__ import annotations

import dataclasses
import re
from itertools import pairwise
from xml.etree import ElementTree

import pytest

from flow_rag_vla.bringup import graph_picture
from flow_rag_vla.bringup.endpoints import TOPICS
from flow_rag_vla.bringup.graph import EVERY_NODE
from flow_rag_vla.bringup.graph_layout import (
    ARROWS,
    BESIDE,
    HEIGHT,
    PLACES,
    WIDTH,
    LayoutError,
    check,
    heard_otherwise,
)
from flow_rag_vla.bringup.graph_picture import LETTER, THEMES, graph_svg, topics_name, wrapped
from flow_rag_vla.bringup.resources import share_folder

SVG = "{http://www.w3.org/2000/svg}"
FILES = {"light": "graph.svg", "dark": "graph-dark.svg"}


@pytest.mark.parametrize("theme", THEMES)
def test_the_picture_is_the_one_the_declarations_make(theme):
    assert (share_folder() / "docs" / "figures" / FILES[theme]).read_text(encoding="utf-8") == graph_svg(theme)


def test_every_node_and_every_topic_between_nodes_is_in_it():
    root = ElementTree.fromstring(graph_svg())
    texts = {text.text for text in root.iter(f"{SVG}text")}
    assert {spec.name for spec in EVERY_NODE} <= texts
    for topic in TOPICS:
        for subscriber in topic.subscribers:
            drawn = any(topic.name in arrow.topics and subscriber in arrow.ways for arrow in ARROWS)
            assert drawn != (topic.name in heard_otherwise(subscriber, TOPICS))


def test_every_arrow_begins_and_ends_at_the_edge_of_its_boxes():
    for arrow in ARROWS:
        trunk = next(iter(arrow.ways.values()))
        assert on_edge(trunk[0], arrow.publisher)
        for subscriber, way in arrow.ways.items():
            assert on_edge(way[-1], subscriber), (arrow.topics, subscriber)
            assert (
                way[0] == trunk[0]
                or any(between(way[0], *piece) for piece in pairwise(trunk))
                or (on_edge(way[0], arrow.publisher))
            ), (arrow.topics, subscriber)
            # Straight pieces only: a slanted one would cross boxes.
            assert all(a[0] == b[0] or a[1] == b[1] for a, b in pairwise(way))


def test_every_line_of_a_box_is_inside_it():
    rows = [row for row in ElementTree.fromstring(graph_svg()).iter(f"{SVG}text")]
    for name, box in (PLACES | BESIDE).items():
        inside = [
            row
            for row in rows
            if box.left < float(row.get("x", 0)) < box.left + 20
            and box.top < float(row.get("y", 0)) < box.top + box.height
        ]
        assert inside and inside[0].text == name
        for row in inside:
            assert float(row.get("y", 0)) < box.top + box.height - 4, row.text
            end = float(row.get("x", 0)) + LETTER * float(row.get("font-size", 0)) * len(row.text or "")
            assert end < box.left + box.width + 8, row.text


def test_it_is_inside_its_frame_and_asks_for_nothing_from_elsewhere():
    text = graph_svg("dark")
    for arrow in ARROWS:
        for way in arrow.ways.values():
            assert all(0 < x < WIDTH and 0 < y < HEIGHT for x, y in way)
    assert set(re.findall(r"https?://[^\"\s]+", text)) == {"http://www.w3.org/2000/svg"}


def test_a_node_without_a_place_and_an_arrow_without_a_topic_are_refused():
    more = (*EVERY_NODE, dataclasses.replace(EVERY_NODE[0], name="gripper"))
    with pytest.raises(LayoutError, match=r"'gripper' has no place.*PLACES or BESIDE"):
        check(TOPICS, more)
    with pytest.raises(LayoutError, match=r"'embedding', which is no topic"):
        check([topic for topic in TOPICS if topic.name != "embedding"], EVERY_NODE)
    with pytest.raises(LayoutError, match=r"'llm', which is no node"):
        check(TOPICS, [spec for spec in EVERY_NODE if spec.name != "llm"])
    deaf = [dataclasses.replace(topic, subscribers=()) for topic in TOPICS]
    with pytest.raises(LayoutError, match="does not hear"):
        check(deaf, EVERY_NODE)
    mute = [dataclasses.replace(topic, publishers=("llm",)) for topic in TOPICS]
    with pytest.raises(LayoutError, match="does not publish"):
        check(mute, EVERY_NODE)


def test_an_unknown_theme_is_refused():
    with pytest.raises(ValueError, match="'blue' is none of: light, dark"):
        graph_picture.graph_svg("blue")


def test_long_names_are_broken_and_similar_ones_are_joined():
    assert wrapped("camera/*/image_raw", 12) == ["camera/*/", "image_raw"]
    assert wrapped("says when something went wrong", 12) == ["says when", "something", "went wrong"]
    assert wrapped("unbreakable", 4) == ["unbreakable"]
    assert topics_name(("camera/front/image_raw", "camera/wrist/image_raw")) == "camera/*/image_raw"
    assert topics_name(("emergency_stop", "takeover")) == "emergency_stop, takeover"


def on_edge(point, name):
    box = PLACES[name]
    x, y = point
    across = box.left <= x <= box.left + box.width and y in (box.top, box.top + box.height)
    down = box.top <= y <= box.top + box.height and x in (box.left, box.left + box.width)
    return across or down


def between(point, start, end):
    return all(min(a, b) <= at <= max(a, b) for at, a, b in zip(point, start, end, strict=True))
