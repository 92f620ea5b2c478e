# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Every command is explained, whether it follows a chunk or holds, and a wrong wish is answered with what there is."""

from __future__ import annotations

import pytest

from flow_rag_vla.control.ladder import Mode
from flow_rag_vla.core.action import CorrectionMode
from flow_rag_vla.evaluate.decisions.explanation import TickError, explain, find_tick
from flow_rag_vla.evaluate.decisions.reading import read_recording
from flow_rag_vla.evaluate.decisions.why_page import why_page
from flow_rag_vla.evaluate.decisions.why_text import headline, sections


def text_of(found) -> str:
    return "\n".join(sentence for section in sections(found) for sentence in section.sentences)


def test_every_tick_of_a_run_has_an_explanation_that_names_its_mode(perform, policy):
    made = perform(110, stop_at=70)
    recording = read_recording(made.bag)
    for index in range(0, len(made.commands), 3):
        command = made.commands[index]
        found = explain(recording, index, policy)
        assert found.command.tick == command.tick and command.mode.name in headline(found)
        assert found.same or index == 0, headline(found)
        if command.mode is Mode.FOLLOW:
            assert found.chunk is not None and found.chunk.remade
        else:
            assert command.reason_text in text_of(found)
        assert why_page(found, "run").endswith("</html>\n")


def test_guidance_is_explained_with_its_case_and_with_what_would_have_been_without(perform, policy):
    made = perform(120, mode=CorrectionMode.GUIDANCE)
    recording = read_recording(made.bag)
    index = next(i for i, c in enumerate(made.commands) if c.provenance.correction is CorrectionMode.GUIDANCE)
    found = explain(recording, index, policy)
    assert found.chunk is not None and found.chunk.without is not None and found.chunk.remade
    assert abs(found.chunk.without.actions - found.chunk.chunk.actions).max() > 0.0
    text = text_of(found)
    assert "case 41 (used)" in text and "GUIDANCE, strength 0.750" in text and "without it the same noise" in text
    assert "failure memory is not there any more" in text
    page = why_page(found, "run")
    assert "without the memory" in page and "stored correction" in page


def test_a_shift_is_explained_with_where_the_target_was_taken_to_be(perform, policy):
    made = perform(120, mode=CorrectionMode.SHIFT)
    index = next(i for i, c in enumerate(made.commands) if c.provenance.correction is CorrectionMode.SHIFT)
    found = explain(read_recording(made.bag), index, policy)
    assert found.chunk is not None and found.chunk.without is not None and found.chunk.remade
    text = text_of(found)
    assert "SHIFT, strength 0.750" in text and "+15, -9, +0 mm (x, y, z) from where it was read" in text
    assert why_page(found, "run").endswith("</html>\n")


def test_a_correction_of_the_controller_shows_as_a_changed_row(perform, policy):
    made = perform(120, mode=CorrectionMode.RESIDUAL)
    recording = read_recording(made.bag)
    followed = [
        index
        for index, command in enumerate(made.commands)
        if command.mode is Mode.FOLLOW and command.provenance.correction is CorrectionMode.RESIDUAL
    ]
    texts = [text_of(explain(recording, index, policy)) for index in followed]
    assert any("the arbiter changed the row by" in text for text in texts)


def test_a_hold_says_what_became_of_the_observations_before_it(perform, policy):
    made = perform(60)
    recording = read_recording(made.bag)
    index = next(i for i, c in enumerate(made.commands) if c.reason_text.startswith("no chunk for episode"))
    text = text_of(explain(recording, index, policy))
    assert "no observation came in the 1.5 s before" in text
    # The first observation was made, its chunk is on its way.
    later = next(
        i
        for i, c in enumerate(made.commands)
        if c.mode is Mode.HOLD and any(seen.log_ns < recording.ticks[i].log_ns for seen in recording.embeddings)
    )
    first = made.chunks[0].chunk_id
    assert f"chunk {first} came" in text_of(explain(recording, later, policy))


def test_without_a_policy_the_rest_is_explained_and_that_is_said(perform):
    made = perform(60)
    recording = read_recording(made.bag)
    found = explain(recording, len(made.commands) - 1, None)
    assert "no policy was loaded" in text_of(found)


def test_ticks_are_found_by_number_time_and_episode(perform):
    made = perform(60)
    recording = read_recording(made.bag)
    assert find_tick(recording, "5")[0] == 4
    assert find_tick(recording, "1.0s")[0] in (39, 40)
    index, _ = find_tick(recording, "episode:1")
    assert made.commands[index].mode is not Mode.IDLE


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        ("999", "holds ticks 1 to 40"),
        ("99s", "lasts"),
        ("failure:1", "nothing failed in this run: name episode:1"),
        ("episode:9", "episodes: 1"),
        ("yesterday", "names no tick"),
        ("failure:x", "names no tick"),
    ],
)
def test_a_tick_that_is_not_there_is_answered_with_those_that_are(perform, wanted, said):
    recording = read_recording(perform(40).bag)
    with pytest.raises(TickError, match=said):
        find_tick(recording, wanted)
