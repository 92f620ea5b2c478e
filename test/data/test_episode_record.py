# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Episode records on disk."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flow_rag_vla.core.failure import Evidence
from flow_rag_vla.data.episode_record import (
    OUTCOMES,
    CorrectionUse,
    EpisodeRecord,
    EpisodeRecordError,
    FailureRecord,
    LoopSummary,
    PhaseSpan,
    last_episode_id,
    read_record,
    read_records,
    record_path,
    write_record,
)

numbers = st.floats(allow_nan=False, allow_infinity=False, width=32)
stamps = st.integers(0, 2**63 - 1)
words = st.text(max_size=12)
failures = st.builds(
    FailureRecord, stamps, words, numbers, words, words, words, stamps, stamps, numbers,
    st.tuples(st.builds(Evidence, words, numbers, numbers, words)),
)  # fmt: skip
records = st.builds(
    EpisodeRecord, stamps, words, words, words, stamps, st.sampled_from(OUTCOMES), words, stamps, stamps, numbers,
    numbers, st.tuples(st.builds(PhaseSpan, words, numbers, numbers)), st.lists(failures, max_size=2).map(tuple),
    st.tuples(st.builds(CorrectionUse, words, st.tuples(stamps), numbers, stamps, stamps, stamps)),
    st.one_of(st.none(), st.builds(LoopSummary, numbers, numbers, ticks=stamps)),
)  # fmt: skip


def same(left: EpisodeRecord, right: EpisodeRecord) -> bool:
    """Equality in which NaN equals itself."""
    return repr(left) == repr(right)


@given(record=records)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_record_comes_back_as_it_was(tmp_path: Path, record: EpisodeRecord) -> None:
    write_record(tmp_path / "a.json", record)
    assert same(read_record(tmp_path / "a.json"), record)


def test_nan_is_kept_and_the_file_is_valid_json(tmp_path: Path) -> None:
    record = EpisodeRecord(1, "push", "plain", "push it", 2, "success", "", 0, 1, 1.0, 2.0, loop=LoopSummary())
    write_record(tmp_path / "a.json", record)
    text = (tmp_path / "a.json").read_text(encoding="utf-8")
    assert "NaN" not in text
    loop = read_record(tmp_path / "a.json").loop
    assert loop is not None and math.isnan(loop.rate_hz)


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", '{"format": 99}', '{"format": 1}', '{"format": 1, "colour": 3}',
     '{"format": 1, "failures": [{"evidence": 3}]}'],
)  # fmt: skip
def test_what_is_no_record_is_named_and_left_out(tmp_path: Path, text: str) -> None:
    path = tmp_path / "000001.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(EpisodeRecordError, match=r"000001\.json"):
        read_record(path)
    found, problems = read_records(tmp_path)
    assert found == () and len(problems) == 1


def test_an_unknown_outcome_is_refused(tmp_path: Path) -> None:
    record = EpisodeRecord(1, "push", "plain", "push it", 2, "success", "", 0, 1, 1.0, 2.0)
    write_record(tmp_path / "a.json", record)
    content = json.loads((tmp_path / "a.json").read_text(encoding="utf-8"))
    (tmp_path / "a.json").write_text(json.dumps(content | {"outcome": "splendid"}), encoding="utf-8")
    with pytest.raises(EpisodeRecordError, match="splendid"):
        read_record(tmp_path / "a.json")


def test_records_are_ordered_by_id_and_the_last_id_is_known_from_names(tmp_path: Path) -> None:
    for number in (10, 2):
        record = EpisodeRecord(number, "push", "plain", "", 2, "failure", "", 0, 1, 1.0, 2.0)
        write_record(record_path(tmp_path, number), record)
    (tmp_path / "notes.json").write_text("x", encoding="utf-8")
    assert last_episode_id(tmp_path) == 10
    assert [record.episode_id for record in read_records(tmp_path)[0]] == [2, 10]
    assert last_episode_id(tmp_path / "missing") == 0


@pytest.mark.parametrize(
    ("outcome", "succeeded", "scored"),
    [("success", True, True), ("failure", False, True), ("canceled", False, False), ("aborted", False, False)],
)
def test_only_finished_episodes_are_scored(outcome: str, succeeded: bool, scored: bool) -> None:
    record = EpisodeRecord(1, "push", "plain", "", 2, outcome, "", 0, 1, 1.0, 2.0)
    assert (record.succeeded, record.scored) == (succeeded, scored)
