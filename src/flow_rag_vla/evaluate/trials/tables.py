# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""The comparison as Markdown, drawn from the plain content of ``summary.json``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flow_rag_vla.evaluate.intervals import wilson
from flow_rag_vla.evaluate.trials.protocol import EXACT, NEARBY

Content = Mapping[str, Any]


def markdown(content: Content) -> str:
    """The whole of ``summary.md``."""
    about = content["about"]
    lines = ["# Paired trials", ""]
    if about.get("command"):
        lines += [f"`{command(about)}`", ""]
    lines += [
        "Success with Wilson 95 % intervals. Lift: difference in success on the same starts with the same noise, in",
        "points, with Newcombe's 95 % interval for paired proportions (method 10); p: exact McNemar test; pooled: the",
        "same difference with a bootstrap over checkpoints and starts. Fixed and broken: episodes that only one of the",
        "two did.",
        "",
    ]
    for group in content["groups"]:
        lines += _group(group, content)
    if content["broken"]:
        lines += ["## Trials that broke", "", *(f"- {line}" for line in content["broken"]), ""]
    return "\n".join(lines)


def group_title(group: Content) -> str:
    """Block, task and scene in words."""
    where = "all tasks" if group["task"] == "all" else f"{group['task'].replace('_', ' ')}, {group['scene']}"
    names = {"fresh": "Fresh starts", EXACT: "Failed starts again", NEARBY: "Near failed starts", "online": "Online"}
    return f"{names.get(group['block'], group['block'])}: {where}"


def command(about: Content) -> str:
    """The command that ran the trials."""
    given = about.get("command", "")
    return given if isinstance(given, str) else " ".join(map(str, given))


def label(variant: str, about: Content) -> str:
    """What a variant is called in this run."""
    name = about.get("labels", {}).get(variant) or about.get("asked_as", {}).get(variant)
    return f"{name} ({variant})" if name and name != variant else variant


def rate(counts: Content) -> float:
    """Successes / trials; 0 without trials."""
    return float(counts["successes"]) / counts["trials"] if counts["trials"] else 0.0


def share(counts: Content) -> str:
    """A rate with its interval, in percent."""
    return str(wilson(counts["successes"], counts["trials"]))


def points(difference: Content) -> str:
    """A difference with its interval, in points."""
    return f"{100 * difference['value']:+.1f} [{100 * difference['low']:+.1f}, {100 * difference['high']:+.1f}]"


def reduced(found: Content) -> str:
    """A reduction with its interval, in percent."""
    if found["value"] is None:
        return "none before"
    return f"{100 * found['value']:.0f} % [{100 * found['low']:.0f}, {100 * found['high']:.0f}]"


def p_value(value: float) -> str:
    """A p, as short as it may be."""
    return f"{value:.3f}" if value >= 0.001 else f"{value:.1e}"


def seconds(durations: list[float]) -> str:
    """Median time to success."""
    return f"{durations[len(durations) // 2]:.1f}" if durations else "-"


def against(summary: Content, other: str) -> Content | None:
    """The comparison of a variant with another; None if there is none."""
    return next((item for item in summary["comparisons"] if item["against"] == other), None)


def _group(group: Content, content: Content) -> list[str]:
    about = content["about"]
    lines = [f"## {group_title(group)}", ""]
    policies = ", ".join(f"`{name}`" for name in group["policies"])
    lines.append(f"{content['blocks'].get(group['block'], '')}. {group['starts']} starts; {policies}.")
    if group["incomplete"]:
        lines.append(f"{group['incomplete']} starts lack a variant and are left out.")
    lines += [
        "",
        "| memory | success | lift | p | fixed / broken | pooled lift | seconds | failure events an episode |",
    ]
    lines.append("|---|---|---|---|---|---|---|---|")
    for item in group["variants"]:
        found = against(item, "off")
        cells = ["", "", "", ""]
        if found is not None:
            pairs = found["pairs"]
            pooled = f"{points(found['bootstrap'])}, {found['clusters']} checkpoints" if found["clusters"] > 1 else "-"
            cells = [points(found["difference"]), p_value(found["p"]), f"{pairs['fixed']} / {pairs['broken']}", pooled]
        lines.append(
            f"| {label(item['variant'], about)} | {share(item['success'])} | {' | '.join(cells)} | "
            f"{seconds(item['durations'])} | {item['events_per_episode']:.2f} |"
        )
    lines += ["", *_interventions(group, about), *_controls(group, about), *_repeats(group, about)]
    return lines + _timing(group, about)


def _interventions(group: Content, about: Content) -> list[str]:
    rows = [item for item in group["variants"] if item["touched"]]
    if not rows:
        return []
    lines = ["| memory | episodes it acted in | observations shaped | helped | hurt | changed without acting |"]
    lines.append("|---|---|---|---|---|---|")
    for item in rows:
        found = against(item, "off") or {"helped": "-", "hurt": "-", "unexplained": "-"}
        lines.append(
            f"| {label(item['variant'], about)} | {item['touched']} | {100 * item['corrected']:.1f} % | "
            f"{found['helped']} | {found['hurt']} | {found['unexplained']} |"
        )
    return [*lines, ""]


def _controls(group: Content, about: Content) -> list[str]:
    rows = [(item, found) for item in group["variants"] for found in item["comparisons"] if found["against"] != "off"]
    if not rows:
        return []
    lines = ["| memory | beside | lift | p | fixed / broken |", "|---|---|---|---|---|"]
    for item, found in rows:
        pairs = found["pairs"]
        lines.append(
            f"| {label(item['variant'], about)} | {label(found['against'], about)} | {points(found['difference'])} | "
            f"{p_value(found['p'])} | {pairs['fixed']} / {pairs['broken']} |"
        )
    return [*lines, ""]


def _repeats(group: Content, about: Content) -> list[str]:
    lines = ["| memory | episodes that fail | fewer failed episodes | fewer failure events |", "|---|---|---|---|"]
    for item in group["variants"]:
        found = against(item, "off")
        cells = ["-", "-"] if found is None else [reduced(found["failures"]), reduced(found["events"])]
        lines.append(f"| {label(item['variant'], about)} | {share(item['failure'])} | {' | '.join(cells)} |")
    return [*lines, ""]


def _timing(group: Content, about: Content) -> list[str]:
    steps = sorted({name for item in group["variants"] for name in item["timing"]})
    if not steps:
        return []
    lines = [f"| memory | starved ticks | {' | '.join(f'{name}, p50 / p99 ms' for name in steps)} |"]
    lines.append("|---|---|" + "---|" * len(steps))
    for item in group["variants"]:
        cells = [item["timing"].get(name) for name in steps]
        text = " | ".join("-" if cell is None else f"{cell['p50_ms']:.2f} / {cell['p99_ms']:.2f}" for cell in cells)
        lines.append(f"| {label(item['variant'], about)} | {item['starved_ticks']} | {text} |")
    return [*lines, ""]
