# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Who turns words into plans, and where the past is looked up."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from flow_rag_vla.deliberation.history import EpisodeFact, HistoryError, case_histories, read_history
from flow_rag_vla.deliberation.likeness import COMPARED, NEWEST, Likeness, Sought
from flow_rag_vla.deliberation.score import Experience
from flow_rag_vla.deliberation.stages import Past, Planned, SimilarFailure
from flow_rag_vla.llm.prompts import make_request
from flow_rag_vla.llm.request import Message, deadline_in
from flow_rag_vla.llm.schemas import TaskPlan
from flow_rag_vla.llm.service import LanguageModel
from flow_rag_vla.memory.case import FailureCase
from flow_rag_vla.memory.store import CaseFilter, FailureStore, StoreError

MOST_SIMILAR = 5
"""Remembered failures of a task that are told, the most alike first."""


class LanguagePlanner:
    """A language model in this process."""

    def __init__(self, model: LanguageModel) -> None:
        self._model = model

    async def plan(self, instruction: str, data: Sequence[Message], deadline: float) -> Planned:
        """See ``stages.Planner``.

        Raises:
            LlmError: of the kind that fits.
        """
        request = make_request(instruction, deadline_in(deadline), TaskPlan, data=data)
        answer = await self._model.ask(request)
        assert isinstance(answer.value, TaskPlan)  # the service checked it
        return Planned(answer.value, answer.provider, answer.model)


class FolderRecall:
    """Looks into episode logs and a failure memory's database. Everything is read anew: both grow meanwhile."""

    def __init__(
        self,
        logs: Sequence[str | Path] = (),
        database: str | Path | None = None,
        keep: Callable[[EpisodeFact], bool] = lambda fact: True,
        likeness: Likeness | None = None,
    ) -> None:
        """Look here.

        Args:
            logs: anything that ``history.read_history`` reads; what is not there yet is left out.
            database: of the failure memory; None: none.
            keep: which episodes count.
            likeness: says which failures are most like the present; None: nothing is known of the present.
        """
        self._logs, self._keep = tuple(Path(log).expanduser() for log in logs), keep
        self._likeness = likeness or Likeness()
        self._database = None if database is None else Path(database).expanduser()

    def __call__(self, tasks: Sequence[str], sought: Sought) -> Past:
        """What is known of these tasks; what cannot be read is told, and counts as not known."""
        facts: list[EpisodeFact] = []
        problems: list[str] = []
        for log in self._logs:
            if not log.exists():
                continue
            try:
                facts += [fact for fact in read_history(log) if fact.task in tasks and self._keep(fact)]
            except HistoryError as error:
                problems.append(str(error))
        if self._database is None or not self._database.exists():
            return Past(Experience(tuple(facts)), (), tuple(problems))
        try:
            cases = {task: one for task, one in case_histories(self._database).items() if task in tasks}
            similar, newest = similar_failures(self._database, tasks, sought, self._likeness)
        except StoreError as error:
            return Past(Experience(tuple(facts)), (), (*problems, str(error)))
        return Past(Experience(tuple(facts), cases), similar, tuple(problems), newest)


def similar_failures(
    database: Path, tasks: Sequence[str], sought: Sought, likeness: Likeness
) -> tuple[tuple[SimilarFailure, ...], str]:
    """The cases of each task that are most like what is sought, and why some are not chosen by what is seen.

    Raises:
        StoreError: if the database cannot be read.
    """
    store = FailureStore(database, create=False)
    try:
        found: list[SimilarFailure] = []
        why: list[str] = []
        for task in tasks:
            cases = store.page(CaseFilter(task=task), 0, COMPARED)[1]
            ranked = likeness.rank(cases, sought, MOST_SIMILAR)
            found += [similar_failure(case, value, ranked.measure) for case, value in ranked.cases]
            why += [ranked.why] if ranked.why and ranked.why not in why else []
        return tuple(found), "; ".join(why)
    finally:
        store.close()


def similar_failure(case: FailureCase, similarity: float | None = None, measure: str = NEWEST) -> SimilarFailure:
    """What is told of a case."""
    return SimilarFailure(
        case.case_id,
        case.task,
        case.phase,
        case.failure_type.name.lower(),
        case.correction_source,
        int(case.uses),
        int(case.successes),
        None if similarity is None else round(similarity, 4),
        measure,
    )
