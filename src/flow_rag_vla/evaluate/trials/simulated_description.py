# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""What a bench of the simulated robot is: everything that decides its results, without what runs it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from flow_rag_vla.evaluate.rollout import RolloutSettings
from flow_rag_vla.evaluate.trials.answers import ANSWERS
from flow_rag_vla.evaluate.trials.bank import CaseBank, open_bank
from flow_rag_vla.evaluate.trials.lessons import PRACTISED
from flow_rag_vla.evaluate.trials.protocol import Start, TrialError
from flow_rag_vla.evaluate.trials.rewinding import REWINDS
from flow_rag_vla.evaluate.trials.variants import AS_GRAPH, BY_CASE, InForce, parse
from flow_rag_vla.policy.checkpoint import SHIPPED_POLICY, load_checkpoint

CONSENSUS = ("consensus", "relocation", "by_cause", "steadfast")
"""Methods that answer from failures and successes together."""


@dataclass(frozen=True, slots=True)
class SimulatedDescription:
    """A task in a scene variant with a checkpoint.

    policy: name and revision of the checkpoint; checkpoint: its folder, None: the one that ships
    cases, cases_revision: the bank that memories are built from; dagger: folder of the fine-tuned checkpoint
    workspace: folder in which growing memories live; source: who corrects there, see ``lessons``
    """

    task: str
    scene: str
    policy: str
    checkpoint: str | None = None
    encoder: str = "compact"
    settings: RolloutSettings = field(default_factory=RolloutSettings)
    cases: str | None = None
    cases_revision: str = ""
    dagger: str | None = None
    dagger_revision: str = ""
    workspace: str | None = None
    source: str = "expert"

    @property
    def key(self) -> str:
        """Environment, task, scene, policy."""
        return f"pybullet/{self.task}/{self.scene}/{self.policy}"

    def describe(self) -> Mapping[str, Any]:
        """Everything that decides results; where folders lie does not, what is in them does."""
        values = asdict(self)
        for name in ("checkpoint", "cases", "dagger", "workspace"):
            del values[name]
        return values

    def check(self, variant: str) -> None:
        """Refuse a variant that cannot be run; see ``protocol.BenchSpec``."""
        found = parse(variant)
        name = REWINDS.get(found.method.name) or found.method.name
        if name == "dagger" and self.dagger is None:
            raise TrialError("memory 'dagger' needs the fine-tuned checkpoint: --dagger FOLDER")
        if found.needs_cases and self.cases is None:
            how = "by `flow_rag_vla practice`" if name in CONSENSUS else "with --collect N"
            raise TrialError(f"memory {variant!r} needs a bank of cases: --cases FOLDER, made {how}")
        if found.online and self.workspace is None:
            raise TrialError(f"memory {variant!r} grows, which needs a folder: --output FOLDER")
        if name in CONSENSUS and found.needs_cases and self.cases and not CaseBank(self.cases).answers_consensus:
            raise TrialError(
                f"memory {variant!r} answers from situations and from what was done where nothing failed; {self.cases} "
                "holds neither: make a bank with `flow_rag_vla practice`, or ask for guide"
            )
        if name in CONSENSUS and found.online and self.source not in PRACTISED:
            raise TrialError(f"memory {variant!r} grows by practice: give --source {' or '.join(PRACTISED)}")
        if found.method.needs_cases and name not in ANSWERS:
            raise TrialError(f"memory {variant!r} is not known in this simulator; it knows {', '.join(ANSWERS)}")
        if found.episodes is not None and found.episodes > self.bank_episodes:
            raise TrialError(
                f"memory {variant!r}: the bank {self.cases} has {self.bank_episodes} known episodes of {self.key}; ask "
                "for fewer, or collect more"
            )

    @property
    def in_force(self) -> InForce:
        """What ``on`` means here: what the graph does, unless the bank, or what a memory grows by, cannot answer that.

        Raises:
            StoreError: if the bank cannot be read.
        """
        allowed = self.cases is None or CaseBank(self.cases).answers_consensus
        return InForce(AS_GRAPH if allowed else BY_CASE, AS_GRAPH if self.source in PRACTISED else BY_CASE)

    @property
    def bank_episodes(self) -> int:
        """Episodes of this bench that its bank was made of; 0 without a bank, or if it does not say."""
        return 0 if self.cases is None else sum(item.bench == self.key for item in open_bank(self.cases).episodes)

    def failed_starts(self) -> tuple[Start, ...]:
        """Starts of this bench that failed while its bank was made."""
        return () if self.cases is None else open_bank(self.cases).failed_starts(self.key)


def policy_folder(checkpoint: str | Path | None) -> Path:
    """Folder of a checkpoint; None: the one that ships."""
    return SHIPPED_POLICY if checkpoint is None else Path(checkpoint)


@lru_cache(maxsize=16)
def policy_name(checkpoint: str | Path | None) -> str:
    """Folder name (``shipped`` for the one that ships) and revision of a checkpoint.

    Raises:
        CheckpointError: if it cannot be loaded.
    """
    revision = load_checkpoint(checkpoint)[2]
    return f"{'shipped' if checkpoint is None else Path(checkpoint).resolve().name}@{revision}"
