# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""``flow_rag_vla teleop``: a person takes over from the keyboard."""

from __future__ import annotations

import getpass
import os
import select
import sys
import termios
import time
import tty
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import typer

HOLD_S = 0.35
"""How long a key moves the robot: longer than a terminal waits before it repeats a held key."""

KEYS: dict[str, tuple[int, float, str]] = {
    "w": (0, 1.0, "forward (+x)"),
    "s": (0, -1.0, "back (-x)"),
    "a": (1, 1.0, "left (+y)"),
    "d": (1, -1.0, "right (-y)"),
    "r": (2, 1.0, "up (+z)"),
    "f": (2, -1.0, "down (-z)"),
    "q": (5, 1.0, "turn left (+yaw)"),
    "e": (5, -1.0, "turn right (-yaw)"),
}
"""Place in the velocity, direction, and meaning."""

HELP = "\n".join(
    [
        *(f"  {key}      {meaning}" for key, (_, _, meaning) in KEYS.items()),
        "  o c    gripper open, close",
        "  + -    faster, slower",
        "  space  rest where it is, still yours",
        "  Enter  release: back to the policy",
        "  Esc    release and leave (also Ctrl-C, Ctrl-D)",
    ]
)

RELEASE, LEAVE = "\r\n", "\x1b\x03\x04"


@dataclass(slots=True)
class Keyboard:
    """What the keys pressed so far ask for. speed: metres a second; turn: radians a second."""

    speed: float = 0.10
    turn: float = 0.6
    gripper: float = -1.0
    """Below 0 until a gripper key was pressed: as it is."""
    active: bool = False
    _until: dict[int, tuple[float, float]] = field(default_factory=dict)

    def press(self, key: str, now_s: float) -> None:
        """Take one key in; keys without a meaning change nothing."""
        if key in RELEASE:
            self.active, self.gripper = False, -1.0
            self._until.clear()
        elif key in KEYS:
            place, direction, _ = KEYS[key]
            self._until[place] = direction, now_s + HOLD_S
            self.active = True
        elif key in "oc":
            self.gripper, self.active = (1.0 if key == "o" else 0.0), True
        elif key == " ":
            self._until.clear()
            self.active = True
        elif key in "+-":
            factor = 1.25 if key == "+" else 0.8
            self.speed, self.turn = min(self.speed * factor, 0.4), min(self.turn * factor, 2.0)

    def velocity(self, now_s: float) -> tuple[float, ...]:
        """(6,) metres and radians a second, of the keys that still count."""
        values = [0.0] * 6
        for place, (direction, until_s) in self._until.items():
            if now_s < until_s:
                values[place] = direction * (self.speed if place < 3 else self.turn)
        return tuple(values)


def teleop(
    person: str = typer.Option("", help="Your name in the record; empty: the user's."),
    namespace: str = typer.Option("", help="Namespace of the graph."),
    speed: float = typer.Option(0.10, min=0.01, max=0.4, help="Metres a second of one key."),
) -> None:
    """Take the robot over from the keyboard, show it what would have been right, give it back.

    The controller follows you inside the limits that hold for the policy, too. What you do after a failure becomes the
    correction of its case, and the episode is on record as one in which a person took over. If this terminal dies, the
    robot holds until someone is heard again.

    [bold]Examples[/bold]

      flow_rag_vla teleop

      flow_rag_vla teleop --person ada --speed 0.05
    """
    from flow_rag_vla.nodes.teleoperator import PERIOD_S, Teleoperator

    keyboard = Keyboard(speed=speed)
    typer.echo(HELP)
    with Teleoperator(person or getpass.getuser(), namespace) as teleoperator, _single_keys():
        was_active, shown, next_s = False, "", time.monotonic()
        try:
            while True:
                key = _key(max(0.0, next_s - time.monotonic()))
                if key is not None:
                    if key == "" or key in LEAVE:
                        break
                    keyboard.press(key, time.monotonic())
                    continue
                next_s = max(next_s + PERIOD_S, time.monotonic())
                if keyboard.active:
                    teleoperator.ask(keyboard.velocity(time.monotonic()), keyboard.gripper)
                elif was_active and not teleoperator.release():
                    typer.echo("\nthe controller was not heard to release the robot", err=True)
                was_active = keyboard.active
                shown = _show(teleoperator.status, shown)
        except KeyboardInterrupt:
            pass
        released = teleoperator.release()
    typer.echo("\nreleased" if released else "\nthe controller was not heard to release the robot")


def _show(status: str, shown: str) -> str:
    """One line that is written over itself; in a log file, a line whenever the words change."""
    if sys.stdout.isatty():
        sys.stdout.write(f"\r\x1b[2K{status[:110]}")
        sys.stdout.flush()
        return status
    words = status.split(";")[0]
    if words != shown:
        typer.echo(words)
    return words


def _key(timeout_s: float) -> str | None:
    """The next key; None if there is none in time, "" at the end of the input."""
    ready, _, _ = select.select([sys.stdin], [], [], timeout_s)
    if not ready:
        return None
    # Past Python's buffer, which would keep keys from select.
    return os.read(sys.stdin.fileno(), 1).decode(errors="replace")


@contextmanager
def _single_keys() -> Iterator[None]:
    """Each key as it is pressed, unseen; the terminal is as before afterwards. Of a pipe nothing is changed."""
    if not sys.stdin.isatty():
        yield
        return
    before = termios.tcgetattr(sys.stdin)
    try:
        tty.setcbreak(sys.stdin)
        yield
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)
