# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""The page of a chaos run: one self-contained HTML file, drawn from the content of ``chaos.json``."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import numpy as np

from flow_rag_vla.evaluate.chaos.plan import KILL, KINDS, RESTART
from flow_rag_vla.evaluate.chaos.verdict import DOWN, LOOP, MACHINE
from flow_rag_vla.evaluate.report.style import document

Content = Mapping[str, Any]

REASONS = (
    "none", "no chunk", "chunk exhausted", "chunk too old", "state missing", "state too old", "invalid action",
    "memory asks to hold", "emergency stop", "no episode", "clock jumped", "taken over", "takeover lost",
)  # fmt: skip
"""Words for ControlCommand.REASON_*, by number."""

RESTART_TARGET_S, LAUNCH_TARGET_S = 2.0, 10.0
"""A killed node is back, its imports and models aside; the first command of a graph."""

_SHOWN = 200


def by_kind(content: Content) -> list[dict[str, Any]]:
    """One row a kind of fault: rounds, violations, reactions by reason, and how long following was interrupted."""
    wrong = Counter(item["round"] for item in content["violations"])
    rows = []
    for kind in KINDS:
        rounds = [done for done in content["rounds"] if done["kind"] == kind]
        if not rounds:
            continue
        reactions: Counter[str] = Counter()
        for done in rounds:
            reactions.update(done["reactions"])
        following = [done["following_ms"] for done in rounds if done["following_ms"] is not None]
        rows.append(
            {
                "kind": kind,
                "rounds": len(rounds),
                "violations": sum(wrong[done["number"]] for done in rounds),
                "kept_following": sum(value == 0.0 for value in following),
                "longest_ms": max(following, default=0.0),
                "reactions": {REASONS[int(reason)]: count for reason, count in reactions.most_common()},
            }
        )
    return rows


def by_node(content: Content) -> list[dict[str, Any]]:
    """One row a node that was killed or restarted: how often, and how long it took to report again."""
    times: dict[str, list[float]] = defaultdict(list)
    for done in content["rounds"]:
        if done["kind"] in (KILL, RESTART) and done["back_ms"] is not None:
            times[done["target"]].append(done["back_ms"])
    return [
        {
            "node": node,
            "times": len(values),
            "median_ms": float(np.median(values)),
            "longest_ms": max(values),
        }
        for node, values in sorted(times.items())
    ]


def gaps_by_owner(content: Content) -> list[dict[str, Any]]:
    """Gaps of more than two periods, by whose they are."""
    rows = []
    for owner in (LOOP, DOWN, MACHINE):
        gaps = [gap for gap in content["gaps"] if gap["owner"] == owner]
        rows.append(
            {
                "owner": owner,
                "gaps": len(gaps),
                "held": sum(gap["held"] for gap in gaps),
                "worst_ms": max((gap["ms"] for gap in gaps), default=0.0),
                "wrong": sum(gap["wrong"] for gap in gaps),
            }
        )
    return rows


def summary(content: Content) -> list[str]:
    """The run in a few lines, for a terminal."""
    gaps = {row["owner"]: row for row in gaps_by_owner(content)}
    cases = content["cases"]
    lines = [
        f"{len(content['rounds'])} rounds, {content['commands']} commands: {len(content['violations'])} violations",
        f"gaps over two periods: {gaps[LOOP]['gaps']} of the loop (an empty timer beside it: {content['timer_gaps']}), "
        f"{gaps[MACHINE]['gaps']} of the machine, {gaps[DOWN]['gaps']} while the controller was down "
        f"({gaps[DOWN]['held']} held by name, worst {gaps[DOWN]['worst_ms']:.0f} ms)",
        f"launch: first command after {content['first_command_s']:.1f} s (target {LAUNCH_TARGET_S:g} s), "
        f"first that follows a chunk after {content['first_follow_s']:.1f} s",
        f"memory: {cases['acknowledged']} acknowledged cases, {cases['lost']} lost, "
        f"{cases['destroyed']} destroyed by the corruption that was injected",
    ]
    if content.get("episodes"):
        outcomes = ", ".join(f"{count} {outcome}" for outcome, count in sorted(content.get("outcomes", {}).items()))
        lines.append(
            f"episodes: {content['episodes']} accepted ({outcomes or 'none over'}); {content.get('taken_up', 0)} times "
            "one went on under an episode manager that was started again"
        )
    if content.get("words"):
        lines.append("commands in words: " + ", ".join(f"{n} {how}" for how, n in sorted(content["words"].items())))
    if content["stop_delays_ms"]:
        worst, count = max(content["stop_delays_ms"]), len(content["stop_delays_ms"])
        lines.append(f"emergency stop: {count} times, obeyed within {worst:.1f} ms at worst (a period is 25 ms)")
    for row in by_node(content):
        lines.append(
            f"{row['node']}: back after {row['median_ms'] / 1e3:.2f} s (median of {row['times']}), "
            f"{row['longest_ms'] / 1e3:.2f} s at worst"
        )
    return lines


def page(content: Content) -> str:
    """The whole page."""
    about = content.get("about", {})
    words = [
        str(about.get("command", "")),
        f"seed {about.get('seed', '')}",
        str(about.get("started", "")).replace("T", " "),
    ]
    return document(
        "Surviving",
        f"<header><h1>Surviving</h1><div class='soft'>{escape(' · '.join(words))}</div></header>"
        + _tiles(content)
        + _notes(content)
        + _violations(content)
        + _faults(content)
        + _gaps(content)
        + _restarts(content)
        + _rounds(content["rounds"]),
    )


def _tiles(content: Content) -> str:
    bad, cases = len(content["violations"]), content["cases"]
    tiles = [
        ("violations", str(bad), "good" if not bad else "bad", f"in {len(content['rounds'])} rounds"),
        ("commands", f"{content['commands']:,}", "", "each compared with every limit"),
        (
            "first command",
            f"{content['first_command_s']:.1f} s",
            "good" if content["first_command_s"] <= LAUNCH_TARGET_S else "bad",
            f"after launch, target {LAUNCH_TARGET_S:g} s",
        ),
        (
            "cases lost",
            str(cases["lost"]),
            "good" if not cases["lost"] else "bad",
            f"of {cases['acknowledged']} acknowledged",
        ),
    ]
    if content["stop_delays_ms"]:
        tiles.append(
            ("emergency stop", f"{max(content['stop_delays_ms']):.0f} ms", "", "at worst, from asked to obeyed")
        )
    drawn = (
        f"<div class='tile'><div class='name'>{escape(name)}</div><div class='value {colour}'>{value}</div>"
        f"<div class='more'>{escape(more)}</div></div>"
        for name, value, colour, more in tiles
    )
    return f"<div class='tiles'>{''.join(drawn)}</div>"


def _faults(content: Content) -> str:
    head = ("fault", "rounds", "violations", "kept following", "longest until it followed again", "holds by reason")
    rows = [
        (
            f"{escape(row['kind'])}<div class='note'>{escape(KINDS[row['kind']])}</div>",
            str(row["rounds"]),
            _bad(row["violations"]),
            str(row["kept_following"]),
            _seconds(row["longest_ms"]),
            ", ".join(f"{escape(reason)} {count}" for reason, count in row["reactions"].items()) or "none",
        )
        for row in by_kind(content)
    ]
    return _card("Faults and what the loop did", _table(head, rows, numbers=(1, 2, 3, 4)))


def _gaps(content: Content) -> str:
    rows = [
        (escape(row["owner"]), str(row["gaps"]), str(row["held"]), f"{row['worst_ms']:.0f} ms", _bad(row["wrong"]))
        for row in gaps_by_owner(content)
    ]
    table = _table(("whose", "gaps", "held by name", "worst", "violations"), rows, numbers=(1, 2, 3, 4))
    return _card(
        "Gaps of more than two periods",
        f"{table}<p class='note'>An empty 40 Hz timer beside the loop had {content['timer_gaps']} such gaps. A gap is "
        "the machine's if that timer lost as much at the same time, or if without the time for which the loop was "
        "ready to run and got no processor it would not have been one. While the controller is down the bridge to the "
        "arm holds and says NO_COMMAND.</p>",
    )


def _restarts(content: Content) -> str:
    rows = [
        (escape(row["node"]), str(row["times"]), _seconds(row["median_ms"]), _seconds(row["longest_ms"]))
        for row in by_node(content)
    ]
    table = _table(("node", "times", "back, median", "back, longest"), rows, numbers=(1, 2, 3))
    return _card(
        "Restarts",
        f"{table}<p class='note'>From the kill to the new process' first report on /diagnostics, imports and models "
        "included.</p>",
    )


def _notes(content: Content) -> str:
    if not content["notes"]:
        return ""
    items = "".join(f"<li>{escape(note)}</li>" for note in content["notes"])
    return f"<div class='card missing'><ul>{items}</ul></div>"


def _violations(content: Content) -> str:
    found = content["violations"]
    if not found:
        return ""
    rows = [(escape(item["kind"]), str(item["round"]), escape(item["text"])) for item in found[:_SHOWN]]
    more = f"<p class='note'>and {len(found) - _SHOWN} more</p>" if len(found) > _SHOWN else ""
    table = _table(("violation", "round", "values"), rows, numbers=(1,))
    return _card("Violations", f"{table}{more}")


def _rounds(rounds: Sequence[Content]) -> str:
    rows = [
        (
            str(done["number"]),
            escape(done["fault"]),
            "-" if done["back_ms"] is None else _seconds(done["back_ms"]),
            "-" if done["following_ms"] is None else _seconds(done["following_ms"]),
            ", ".join(f"{REASONS[int(reason)]} {count}" for reason, count in done["reactions"].items()),
            escape("; ".join([*done["problems"], *done["notes"]])),
        )
        for done in rounds
    ]
    head = ("round", "fault", "node back", "following again", "holds by reason", "notes")
    table = _table(head, rows, numbers=(0, 2, 3))
    return f"<details><summary>Every round ({len(rounds)})</summary><div class='scroll'>{table}</div></details>"


def _card(title: str, body: str) -> str:
    return f"<h2>{title}</h2><div class='card scroll'>{body}</div>"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]], numbers: Sequence[int] = ()) -> str:
    def cells(values: Sequence[str], tag: str) -> str:
        return "".join(
            f"<{tag}{' class=n' if index in numbers else ''}>{value}</{tag}>" for index, value in enumerate(values)
        )

    body = "".join(f"<tr>{cells(row, 'td')}</tr>" for row in rows)
    return f"<table><thead><tr>{cells(head, 'th')}</tr></thead><tbody>{body}</tbody></table>"


def _bad(count: int) -> str:
    return f"<span class='{'bad' if count else 'good'}'>{count}</span>"


def _seconds(ms: float) -> str:
    return f"{ms / 1e3:.2f} s"
