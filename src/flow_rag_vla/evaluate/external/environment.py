# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""A Gymnasium environment made plain: actions in -1..1, float32 observations, success, seeds, a step limit.

What does not fit is refused when the environment is made; what breaks later ends the episode with a reason.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import gymnasium

Array = NDArray[np.float32]
SUCCESS_FROM = 0.5
"""``info[key]`` counts as success from here on: Meta-World gives 0.0 or 1.0, others a bool."""


class ExternalError(ValueError):
    """An environment that cannot be used, or that broke; the text names it, what was found, and the remedy."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one step of the environment said. total_reward: summed over the episode; step: 1 for the first."""

    reward: float
    total_reward: float
    terminated: bool
    truncated: bool
    info: Mapping[str, Any]
    step: int


SuccessRule = Callable[[Outcome], bool]


@dataclass(frozen=True, slots=True)
class Step:
    """After one action. observation: (D,) float32; ended: no further step makes sense."""

    observation: Array
    success: bool
    ended: bool
    reward: float


class Observer(Protocol):
    """Turns what an environment shows into numbers.

    expensive: whether observing costs more than a step, so that it is left out where nobody looks
    """

    expensive: bool

    @property
    def dimension(self) -> int:
        """Length of an observation."""

    def observe(self, environment: gymnasium.Env[Any, Any], state: Any) -> NDArray[np.floating]:
        """(D,) from the environment and the state observation that it returned last."""


class StateObserver:
    """The environment's own observation: a Box as it is, a Dict or Tuple joined in the order of its keys."""

    expensive = False

    def __init__(self, environment: gymnasium.Env[Any, Any], name: str) -> None:
        """Look at the observation space.

        Raises:
            ExternalError: for a space that cannot be joined to a vector, or for pictures.
        """
        from gymnasium import spaces

        space = environment.observation_space
        boxes = list(space.spaces.values()) if isinstance(space, spaces.Dict) else [space]
        if any(isinstance(box, spaces.Box) and box.dtype == np.uint8 and len(box.shape) == 3 for box in boxes):
            raise ExternalError(f"{name} observes pictures ({space}); take observation=pixels")
        if not isinstance(space, spaces.Box | spaces.Dict | spaces.Tuple) or not space.is_np_flattenable:
            raise ExternalError(
                f"{name} observes {space}, expected a Box or a Dict of Boxes; wrap it in an ObservationWrapper"
            )
        self._space = space
        self._flatten: Callable[[Any, Any], Any] = spaces.flatten
        self._dimension = int(spaces.flatdim(space))

    @property
    def dimension(self) -> int:
        """Length of an observation."""
        return self._dimension

    def observe(self, environment: gymnasium.Env[Any, Any], state: Any) -> NDArray[np.floating]:
        """(D,) of the state."""
        return np.asarray(self._flatten(self._space, state))


class BoxEnvironment:
    """One environment. Not safe for use by two threads at once.

    Attributes:
        state: the environment's own latest observation, which scripted experts read.
        steps: taken since the last reset.
    """

    def __init__(
        self,
        environment: gymnasium.Env[Any, Any],
        *,
        name: str,
        success: SuccessRule,
        step_limit: int,
        observer: Observer | None = None,
        reseed: Callable[[gymnasium.Env[Any, Any], int], Any] | None = None,
    ) -> None:
        """Take an environment over.

        Args:
            environment: closed by :meth:`close`.
            name: for messages.
            success: see :func:`success_rule`.
            step_limit: steps after which an episode ends.
            observer: None takes the environment's own observation.
            reseed: what seeds the environment and returns its first observation; None is ``reset(seed=seed)``.

        Raises:
            ExternalError: for an action space other than a bounded Box, or an observation that makes no vector.
            ValueError: for a step limit below 1.
        """
        from gymnasium import spaces

        if step_limit < 1:
            raise ValueError(f"step_limit is {step_limit}, expected at least 1")
        space = environment.action_space
        if not isinstance(space, spaces.Box):
            raise ExternalError(
                f"{name} has the action space {space}; the policy draws chunks of real numbers, so a Box is needed: "
                "take the environment's continuous version or wrap it in an ActionWrapper"
            )
        if not (np.isfinite(space.low).all() and np.isfinite(space.high).all() and (space.high > space.low).all()):
            raise ExternalError(
                f"{name} has the action bounds {space.low} to {space.high}, expected finite ones with low below high; "
                "wrap it in gymnasium.wrappers.RescaleAction or TransformAction"
            )
        self.name = name
        self.step_limit = step_limit
        self.state: Any = None
        self.steps = 0
        self._environment = environment
        self._success = success
        self._observer = observer or StateObserver(environment, name)
        self._reseed = reseed
        self._shape = space.shape
        self._dtype = space.dtype
        self._middle = ((space.high.astype(np.float64) + space.low) / 2.0).reshape(-1)
        self._half = ((space.high.astype(np.float64) - space.low) / 2.0).reshape(-1)
        self._total = 0.0
        self._seen = np.zeros(0, dtype=np.float32)

    @property
    def step_seconds(self) -> float:
        """The environment's time between two actions, seconds; 1 where it says nothing of time."""
        core = self._environment.unwrapped
        rate = (core.metadata or {}).get("render_fps")
        return float(getattr(core, "dt", 0.0) or (1.0 / rate if rate else 1.0))

    @property
    def observation_dim(self) -> int:
        """Length D of an observation."""
        return self._observer.dimension

    @property
    def action_dim(self) -> int:
        """Length A of an action."""
        return int(self._middle.shape[0])

    def reset(self, seed: int) -> Array:
        """Begin the episode of a seed; give its first observation (D,)."""
        if self._reseed is None:
            self.state, _ = self._environment.reset(seed=seed)
        else:
            self.state = self._reseed(self._environment, seed)
        self.steps, self._total = 0, 0.0
        return self._observed()

    def step(self, action: NDArray[np.floating], *, look: bool = True) -> Step:
        """Do one action (A,), each number in -1..1 of its range (what is beyond is cut).

        With ``look`` False nobody will read the observation: pictures are not rendered then, and what was seen last is
        given again.

        Raises:
            ExternalError: for an action that is not finite or of another length, or an observation that is not finite.
        """
        if action.shape != self._middle.shape or not np.isfinite(action).all():
            raise ExternalError(f"action for {self.name} is {action}, expected {self.action_dim} finite numbers")
        scaled = self._middle + self._half * np.clip(action, -1.0, 1.0)
        self.state, reward, terminated, truncated, info = self._environment.step(
            scaled.reshape(self._shape).astype(self._dtype)
        )
        self.steps += 1
        self._total += float(reward)
        outcome = Outcome(float(reward), self._total, bool(terminated), bool(truncated), info, self.steps)
        success = self._success(outcome)
        ended = success or outcome.terminated or outcome.truncated or self.steps >= self.step_limit
        observation = self._observed() if look or not self._observer.expensive else self._seen
        return Step(observation, success, ended, outcome.reward)

    def normalised(self, action: NDArray[np.floating]) -> Array:
        """(A,) in the environment's units to (A,) in -1..1, cut to it."""
        share = (np.asarray(action, dtype=np.float64).reshape(-1) - self._middle) / self._half
        return np.asarray(np.clip(share, -1.0, 1.0), dtype=np.float32)

    def snapshot(self) -> Snapshot:
        """What :meth:`restore` needs to come back to this moment of this episode."""
        return Snapshot(_saved(self._environment.unwrapped), _saved_wrappers(self._environment), self._counters())

    def restore(self, snapshot: Snapshot) -> None:
        """Go back to a moment of the running episode."""
        _load(self._environment.unwrapped, snapshot.core)
        for wrapper, values in zip(_wrappers(self._environment), snapshot.wrappers, strict=True):
            wrapper.__dict__.update(copy.deepcopy(values))
        state, self.steps, self._total = snapshot.counters
        self.state = copy.deepcopy(state)

    def frame(self) -> NDArray[np.uint8]:
        """(H, W, 3) uint8 RGB picture of the environment.

        Raises:
            ExternalError: if it renders none.
        """
        return rendered(self._environment, self.name)

    def close(self) -> None:
        """Close the environment."""
        self._environment.close()

    def __enter__(self) -> BoxEnvironment:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _counters(self) -> tuple[Any, int, float]:
        return copy.deepcopy(self.state), self.steps, self._total

    def _observed(self) -> Array:
        observation = np.asarray(self._observer.observe(self._environment, self.state), dtype=np.float32).reshape(-1)
        if not np.isfinite(observation).all():
            place = int(np.argmin(np.isfinite(observation)))
            raise ExternalError(
                f"observation[{place}] of {self.name} is {observation[place]} after step {self.steps}, expected a "
                "finite number; the simulation has broken: check the actions and its version"
            )
        self._seen = observation
        return observation


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A moment of an episode: the environment's state, its wrappers' counters, ours."""

    core: Mapping[str, Any]
    wrappers: tuple[Mapping[str, Any], ...]
    counters: tuple[Any, int, float]


def success_rule(text: str) -> SuccessRule:
    """Make a success rule from words.

    ``info:KEY``: ``info[KEY]`` is at least 0.5. ``terminated``: the environment ended the episode by itself.
    ``return>=X``: the summed reward reaches X. ``steps>=N``: the episode has lasted N steps, for tasks of staying up.

    Raises:
        ExternalError: for other words; the rule itself, when ``info`` has no such key.
    """
    kind, _, value = text.partition(":")
    if kind == "info" and value:

        def by_key(outcome: Outcome) -> bool:
            if value not in outcome.info:
                known = ", ".join(sorted(map(str, outcome.info))) or "none"
                raise ExternalError(
                    f"info has no key {value!r}; there are: {known}. Name the success as info:KEY, terminated, "
                    "return>=X or steps>=N"
                )
            return float(outcome.info[value]) >= SUCCESS_FROM

        return by_key
    if text == "terminated":
        return lambda outcome: outcome.terminated
    measure, _, limit = text.partition(">=")
    try:
        least = float(limit)
    except ValueError:
        least = float("nan")
    if measure == "return" and np.isfinite(least):
        return lambda outcome: outcome.total_reward >= least
    if measure == "steps" and np.isfinite(least):
        return lambda outcome: outcome.step >= least and not outcome.terminated
    raise ExternalError(f"success {text!r} is not understood; give info:KEY, terminated, return>=X or steps>=N")


def rendered(environment: gymnasium.Env[Any, Any], name: str) -> NDArray[np.uint8]:
    """(H, W, 3) uint8 RGB.

    Raises:
        ExternalError: if the environment renders no picture.
    """
    try:
        picture = environment.render()
    except Exception as error:
        raise ExternalError(
            f"{name} cannot render ({type(error).__name__}: {error}); on a machine without a display set MUJOCO_GL=egl "
            "or MUJOCO_GL=osmesa and install that library"
        ) from error
    if not isinstance(picture, np.ndarray) or picture.ndim != 3 or picture.shape[2] != 3:
        found = getattr(picture, "shape", type(picture).__name__)
        raise ExternalError(f"{name} renders {found}, expected (H, W, 3); make it with render_mode='rgb_array'")
    return np.asarray(picture, dtype=np.uint8)


def _wrappers(environment: gymnasium.Env[Any, Any]) -> list[Any]:
    found: list[Any] = []
    current: Any = environment
    while current is not environment.unwrapped:
        found.append(current)
        current = current.env
    return found


def _saved_wrappers(environment: gymnasium.Env[Any, Any]) -> tuple[Mapping[str, Any], ...]:
    # A wrapper's counters (elapsed steps); never the environment that it holds.
    return tuple(
        {key: copy.copy(value) for key, value in vars(wrapper).items() if isinstance(value, int | float)}
        for wrapper in _wrappers(environment)
    )


_CHANGING = (np.ndarray, np.generic, np.random.Generator, int, float, str, tuple, list, dict)
_UNCHANGING = ("model", "spec", "action_space", "observation_space", "metadata", "mujoco_renderer", "np_random")


def _saved(core: Any) -> Mapping[str, Any]:
    """Everything in an environment that changes during an episode."""
    values: dict[str, Any] = {}
    for key, value in vars(core).items():
        if key in _UNCHANGING:
            continue
        if key == "data" and type(value).__module__.startswith("mujoco"):
            values[key] = _mujoco_state(core)
        elif isinstance(value, _CHANGING) or value is None:
            values[key] = copy.deepcopy(value)
    return values


def _mujoco_state(core: Any) -> NDArray[np.float64]:
    """All that MuJoCo integrates from: positions, velocities, mocap bodies, controls, warm start."""
    import mujoco

    kind = mujoco.mjtState.mjSTATE_INTEGRATION
    state = np.zeros(mujoco.mj_stateSize(core.model, kind))
    mujoco.mj_getState(core.model, core.data, state, kind)
    return state


def _load(core: Any, values: Mapping[str, Any]) -> None:
    for key, value in values.items():
        if key != "data" or isinstance(vars(core)[key], np.ndarray):
            setattr(core, key, copy.deepcopy(value))
            continue
        import mujoco

        kind = mujoco.mjtState.mjSTATE_INTEGRATION
        mujoco.mj_setState(core.model, core.data, value, kind)
        # Places of bodies follow from the state; computing them moves the warm start, so that is put back.
        mujoco.mj_forward(core.model, core.data)
        mujoco.mj_setState(core.model, core.data, value, kind)
