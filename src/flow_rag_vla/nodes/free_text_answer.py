"""What the language model answered to a command in free words: one known task, or why not."""

from __future__ import annotations

from flow_rag_vla.core.goal import UnknownTaskError
from flow_rag_vla.deliberation.reading import second_reading
from flow_rag_vla.llm.schemas import PlanStep
from flow_rag_vla.nodes.deliberation_messages import plan_of
from flow_rag_vla_interfaces.srv import Ask


def step_of(instruction: str, answer: Ask.Response) -> PlanStep:
    """The one task that an answer means, if it is clear, and its speed.

    Raises:
        UnknownTaskError: if there is no answer or no plan, it is refused, is more than one task or is read in two ways.
    """
    if not answer.ok:
        raise UnknownTaskError(f"the language model does not say what {instruction!r:.200} means: {answer.message}")
    try:
        plan = plan_of(answer.plan)
    except ValueError as error:
        raise UnknownTaskError(f"the language model gave no plan for {instruction!r:.200}: {error}") from None
    if not plan.accepted:
        raise UnknownTaskError(f"instruction {instruction!r:.200} is refused ({plan.refusal}): {plan.reason}")
    if len(plan.goals) != 1:
        steps = "; then ".join(goal.instruction for goal in plan.goals)
        raise UnknownTaskError(
            f"instruction {instruction!r:.200} is {len(plan.goals)} tasks ({steps}) and an episode is one; ask for "
            "them one by one, or use flow_rag_vla ask --run"
        )
    doubts = second_reading(instruction, plan)
    if doubts:
        raise UnknownTaskError(
            f"instruction {instruction!r:.200} needs a person's look ({doubts[0]}); use the action deliberate_task"
        )
    return plan.steps[0]
