# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""How an embedding becomes a correction: the way that the node and a replay share."""

from __future__ import annotations

import numpy as np
import pytest

from flow_rag_vla.core.action import CorrectionMode
from flow_rag_vla.core.goal import Goal
from flow_rag_vla.memory import answering
from flow_rag_vla.memory.answering import Answering, AnsweringSettings, Keying, NoKeyError, Whereabouts
from flow_rag_vla.memory.case import EncoderStamp
from flow_rag_vla.memory.consensus import ConsensusSettings
from flow_rag_vla.memory.episode import EpisodeMemory
from flow_rag_vla.memory.ledger import SuccessSituation
from flow_rag_vla.memory.patience import PatienceSettings
from flow_rag_vla.memory.store import EncoderMismatchError
from flow_rag_vla.policy import situation

SECOND = 1_000_000_000
STAMP = EncoderStamp("situation", "k1", 16)
PUSH = Whereabouts("push", "reach", "push the yellow cylinder to the green zone")


class Reversed:
    """A key that is the embedding backwards: enough to tell the two apart."""

    revision, encoder_revision = "k1", "abc"

    def __call__(self, embedding: np.ndarray, proprioception: np.ndarray, goal: Goal) -> np.ndarray:
        return np.ascontiguousarray(embedding[::-1])


@pytest.fixture
def episode() -> EpisodeMemory:
    made = EpisodeMemory(60 * SECOND)
    made.begin(1, "push", 0)
    made.proprioception.append(SECOND, lambda: np.zeros(3, dtype=np.float32))
    return made


def case_of(make, vector: np.ndarray, **fields: object):
    values = {"encoder": STAMP.encoder, "encoder_revision": STAMP.revision, "correction_source": "expert", **fields}
    return make.case(embedding=vector[::-1].copy(), correction=make.motion(0.008), **values)


def test_the_name_of_keys_is_that_of_the_policy():
    assert answering.SITUATION == situation.NAME


def test_what_is_searched_and_kept_is_the_key(open_memory, make, episode):
    memory, vector = open_memory(), make.unit(1)
    memory.add_all([case_of(make, vector)])
    source = Answering(memory, episode, None, Keying(Reversed(), 16))
    answer = source.answer(SECOND, vector, "compact", "abc", PUSH)
    assert (answer.correction.mode, answer.correction.until) == (CorrectionMode.GUIDANCE, 1.0)
    assert answer.correction.case_ids == (1,) and answer.consensus is not None
    seen = episode.embeddings.at(SECOND)
    assert seen is not None and seen.stamp == STAMP
    np.testing.assert_array_equal(seen.values, vector[::-1])


@pytest.mark.parametrize(
    ("where", "at", "reason"),
    [
        (None, SECOND, "no_episode"),
        (Whereabouts("push", "reach", ""), SECOND, "no_episode"),
        (Whereabouts("push", "reach", "sing"), SECOND, "no_goal"),
        (PUSH, SECOND + answering.STATE_TOLERANCE_NS + 1, "no_state"),
    ],
)
def test_without_episode_state_or_goal_there_is_no_key(open_memory, make, episode, where, at, reason):
    source = Answering(open_memory(), episode, None, Keying(Reversed(), 16))
    with pytest.raises(NoKeyError) as error:
        source.answer(at, make.unit(1), "compact", "abc", where)
    assert error.value.reason == reason
    assert len(episode.embeddings) == 0


@pytest.mark.parametrize(
    ("encoder", "revision", "remedy"),
    [("compact", "abc", "the parameter key to embedding"), ("situation", "k0", "set policy_checkpoint")],
)
def test_vectors_of_another_kind_are_refused_with_the_remedy(open_memory, make, episode, encoder, revision, remedy):
    memory = open_memory()
    memory.add_all([case_of(make, make.unit(1), encoder=encoder, encoder_revision=revision)])
    source = Answering(memory, episode, None, Keying(Reversed(), 16))
    with pytest.raises(EncoderMismatchError, match=remedy):
        source.answer(SECOND, make.unit(1), "compact", "abc", PUSH)


def test_between_episodes_nothing_is_corrected(open_memory, make, episode):
    memory, vector = open_memory(), make.unit(1)
    memory.add_all([case_of(make, vector)])
    source = Answering(memory, episode, None, Keying(Reversed(), 16))
    episode.cancel()
    answer = source.answer(SECOND, vector, "compact", "abc", PUSH)
    assert answer.correction.mode is CorrectionMode.NONE
    assert [item.case_id for item in answer.found] == [1]


def test_answers_use_the_gates_of_the_last_renewal_and_say_when_they_are_out_of_date(open_memory, make, episode):
    memory, vector = open_memory(), make.unit(1)
    memory.add_all([case_of(make, vector)])
    settings = AnsweringSettings(consensus=ConsensusSettings(confidence=0.4))
    source = Answering(memory, episode, settings, Keying(Reversed(), 16), deferred=True)
    source.renew()

    def mode() -> CorrectionMode:
        return source.answer(SECOND, vector, "compact", "abc", PUSH).correction.mode

    assert mode() is CorrectionMode.GUIDANCE
    key = vector[::-1].copy()
    memory.observe_done(
        [SuccessSituation("push", "reach", STAMP, key, make.motion(0.001), number) for number in range(6)]
    )
    assert source.stale and mode() is CorrectionMode.GUIDANCE
    source.renew()
    assert not source.stale and mode() is CorrectionMode.NONE


def test_successes_of_every_phase_count_when_phases_are_not_matched(open_memory, make, episode):
    memory, vector = open_memory(), make.unit(1)
    memory.add_all([case_of(make, vector)])
    key = vector[::-1].copy()
    memory.observe_done(
        [SuccessSituation("push", "reach", STAMP, key, make.motion(0.001), number) for number in range(6)]
    )
    settings = AnsweringSettings(match_phase=False, consensus=ConsensusSettings(confidence=0.4))
    for deferred in (False, True):
        source = Answering(memory, episode, settings, Keying(Reversed(), 16), deferred=deferred)
        source.renew()
        answer = source.answer(SECOND, vector, "compact", "abc", PUSH)
        assert answer.correction.mode is CorrectionMode.NONE


def test_what_led_nowhere_for_long_is_withdrawn_until_it_has_rested(open_memory, make, episode):
    memory, vector = open_memory(), make.unit(1)
    memory.add_all([case_of(make, vector)])
    source = Answering(
        memory, episode, AnsweringSettings(patience=PatienceSettings(SECOND, SECOND // 2)), Keying(Reversed(), 16)
    )

    def modes(start: int, where: Whereabouts = PUSH) -> str:
        told = ""
        for tenth in range(20):
            stamp_ns = start + tenth * SECOND // 10
            episode.proprioception.append(stamp_ns, lambda: np.zeros(3, dtype=np.float32))
            answer = source.answer(stamp_ns, vector, "compact", "abc", where)
            led = answer.correction.mode is CorrectionMode.GUIDANCE
            assert answer.consensus is not None and led == bool(answer.correction.case_ids)
            assert led or answer.correction.mode is CorrectionMode.NONE
            told += "L" if led else "w"
        return told

    assert modes(SECOND) == "L" * 10 + "w" * 5 + "L" * 5
    assert source.patience.withdrawn == 1
    # The next episode begins with all the patience there is, and so does an embedding of another phase.
    episode.begin(2, "push", 3 * SECOND)
    assert modes(3 * SECOND) == "L" * 10 + "w" * 5 + "L" * 5
    assert source.patience.withdrawn == 1
    # A robot whose episodes nobody tells has no phases, and nothing is withdrawn.
    episode.begin(3, "push", 6 * SECOND)
    assert modes(6 * SECOND, Whereabouts("push", "", PUSH.instruction)) == "L" * 20
    source.configure(AnsweringSettings(patience=PatienceSettings(0, 0)))
    episode.begin(4, "push", 9 * SECOND)
    assert modes(9 * SECOND) == "L" * 20


def test_cases_of_a_withdrawn_answer_are_not_passed_over(open_memory, make, episode):
    memory, vector = open_memory(), make.unit(1)
    memory.add_all([case_of(make, vector)])
    settings = AnsweringSettings(patience=PatienceSettings(1, SECOND))
    source = Answering(memory, episode, settings, Keying(Reversed(), 16))
    source.answer(SECOND, vector, "compact", "abc", PUSH)
    withdrawn = source.answer(SECOND + SECOND // 20, vector, "compact", "abc", PUSH)
    assert withdrawn.correction.mode is CorrectionMode.NONE and withdrawn.found[0].similarity >= memory.threshold
    assert episode.end(True, 2 * SECOND, memory.threshold, 0).uses == ()
