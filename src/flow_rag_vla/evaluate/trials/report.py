# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""The page of a run of paired trials: one self-contained HTML file, drawn from the content of ``summary.json``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from flow_rag_vla.evaluate.report.charts import legend
from flow_rag_vla.evaluate.report.style import document
from flow_rag_vla.evaluate.trials import figures
from flow_rag_vla.evaluate.trials.analysis import ALL, CONTROLS, check_plain, running_share
from flow_rag_vla.evaluate.trials.protocol import ONLINE, TrialError
from flow_rag_vla.evaluate.trials.tables import (
    Content,
    against,
    command,
    group_title,
    label,
    p_value,
    points,
    rate,
    reduced,
    share,
)
from flow_rag_vla.evaluate.trials.variants import OFF, parse

WINDOWS = 8
"""A learning curve is smoothed over this share of its episodes."""


def page(content: Mapping[str, Any], name: str) -> str:
    """The whole page.

    Raises:
        TrialError: if this version cannot read the content.
    """
    check_plain(content)
    title = f"Paired trials {name}"
    groups = content["groups"]
    parts = [
        f"<header><h1>{escape(title)}</h1><div class='soft'>{escape(_subtitle(content))}</div></header>",
        _problems(content),
        _tiles(groups, content["about"]),
        *(_group(group, content) for group in groups),
        _variants(groups, content["about"]),
        _footer(content["about"], groups),
    ]
    return document(title, "".join(parts))


def method_in_question(variants: Sequence[str]) -> str | None:
    """The variant that a group is about: the last of full memory that is no control; None if there is none."""
    found = None
    for name in variants:
        try:
            variant = parse(name)
        except TrialError:
            continue
        control = variant.method.name in (OFF, *CONTROLS) or variant.shuffled or variant.episodes is not None
        found = found if control else name
    return found


def _subtitle(content: Content) -> str:
    about = content["about"]
    names = dict.fromkeys(group["task"].replace("_", " ") for group in content["groups"] if group["task"] != ALL)
    tasks = ", ".join(names)
    policies = {name for group in content["groups"] for name in group["policies"]}
    some = f"{len(policies)} checkpoint{'s' if len(policies) != 1 else ''}"
    return " · ".join(part for part in (tasks, some, str(about.get("started", "")).replace("T", " ")) if part)


def _problems(content: Content) -> str:
    broken = [f"Trial {line}" for line in content["broken"]]
    cut = [
        f"{group_title(group)}: {group['incomplete']} starts lack a variant and are left out."
        for group in content["groups"]
        if group["incomplete"]
    ]
    if not broken + cut and content["groups"]:
        return ""
    items = "".join(f"<li>{escape(line)}</li>" for line in (broken + cut or ["no trial has ended yet"]))
    return f"<section class='card missing'><h3>What is missing here</h3><ul>{items}</ul></section>"


def _tiles(groups: Sequence[Content], about: Content) -> str:
    if not groups:
        return ""
    first = next((group for group in groups if group["task"] == ALL), groups[0])
    by_name = {item["variant"]: item for item in first["variants"]}
    method = method_in_question(list(by_name))
    tiles = []
    if OFF in by_name:
        off = by_name[OFF]["success"]
        tiles.append(
            _tile("Without memory", f"{rate(off):.1%}", f"95 % interval {off['low']:.1%} to {off['high']:.1%}")
        )
    if method is not None:
        item = by_name[method]
        done, found = item["success"], against(item, OFF)
        more = f"95 % interval {done['low']:.1%} to {done['high']:.1%}"
        tiles.append(_tile(label(method, about), f"{rate(done):.1%}", more, "memory"))
        if found is not None:
            gap, pairs = found["difference"], found["pairs"]
            kind = "good" if gap["low"] > 0 else "bad" if gap["high"] < 0 else ""
            value = f"{100 * gap['value']:+.1f}<small> points</small>"
            more = f"95 % interval {100 * gap['low']:+.1f} to {100 * gap['high']:+.1f}; p {p_value(found['p'])}"
            tiles.append(_tile("Lift", value, more, kind))
            value = f"{pairs['fixed']}<small> / {pairs['broken']}</small>"
            tiles.append(_tile("Fixed / broken", value, f"of {first['starts']} paired starts"))
    trials = sum(group["starts"] * len(group["variants"]) for group in groups if group["task"] != ALL)
    tiles.append(_tile("Trials", str(trials), f"{len(first['variants'])} variants on the same starts"))
    return f"<section class='tiles'>{''.join(tiles)}</section>"


def _tile(name: str, value: str, more: str, kind: str = "") -> str:
    return (
        f"<div class='tile'><div class='name'>{escape(name)}</div><div class='value {kind}'>{value}</div>"
        f"<div class='more'>{escape(more)}</div></div>"
    )


def _group(group: Content, content: Content) -> str:
    about = content["about"]
    names = {item["variant"]: label(item["variant"], about) for item in group["variants"]}
    tones = figures.colours(list(names))
    explained = content["blocks"].get(group["block"], "")
    flow = [(names[item["variant"]], against(item, OFF)) for item in group["variants"]]
    flows = [(name, found["pairs"]) for name, found in flow if found is not None]
    legend_flow = {"done by both": "color-mix(in srgb, var(--good) 45%, var(--card))", "fixed": "var(--good)"}
    legend_flow |= {"broken": "var(--bad)", "failed by both": "var(--idle)"}
    parts = [
        f"<h2>{escape(group_title(group))}</h2>",
        f"<p class='note'>{group['starts']} starts: {escape(explained)}.</p>",
        "<div class='card'><h3>Success</h3><p class='note'>With 95 % intervals; dashed: without memory.</p>"
        f"{_success(group, names, tones)}</div>",
    ]
    if flows:
        parts.append(
            "<div class='card' style='margin-top:14px'><h3 style='margin-bottom:8px'>Where episodes went, beside the "
            f"same start without memory</h3>{legend(legend_flow)}{figures.outcome_flow(flows)}</div>"
        )
    pair = [f"<div class='card'><h3>Done within</h3>{legend(_legend(names, tones))}{_durations(group, tones)}</div>"]
    if group["block"] == ONLINE:
        pair.append(f"<div class='card'><h3>Learning curve</h3>{_learning(group, names, tones)}</div>")
    elif sizes := _sizes(group, tones):
        pair.append(f"<div class='card'><h3>Size of the memory</h3>{sizes}</div>")
    if kinds := sorted({kind for item in group["variants"] for kind in item["events"]}):
        rows = [(names[item["variant"]], tones[item["variant"]], _per_episode(item)) for item in group["variants"]]
        chart = figures.grouped_bars(kinds, rows, "an episode")
        pair.append(f"<div class='card'><h3>Failure events an episode</h3>{legend(_legend(names, tones))}{chart}</div>")
    parts.append(f"<div class='two' style='margin-top:14px'>{''.join(pair)}</div>")
    parts.append(_table(group, names))
    return "".join(parts)


def _legend(names: Mapping[str, str], tones: Mapping[str, str]) -> dict[str, str]:
    return {name: tones[variant] for variant, name in names.items()}


def _success(group: Content, names: Mapping[str, str], tones: Mapping[str, str]) -> str:
    rows, baseline = [], None
    for item in group["variants"]:
        done, found = item["success"], against(item, OFF)
        words = f"{rate(done):.1%}  ({done['successes']}/{done['trials']})"
        if found is None:
            baseline = rate(done)
        else:
            words += f"   {points(found['difference'])}  p {p_value(found['p'])}"
        tone = tones[item["variant"]]
        rows.append((names[item["variant"]], rate(done), done["low"], done["high"], tone, words))
    return figures.success_chart(rows, baseline)


def _durations(group: Content, tones: Mapping[str, str]) -> str:
    lines = []
    longest = max((item["durations"][-1] for item in group["variants"] if item["durations"]), default=1.0)
    for item in group["variants"]:
        trials = item["success"]["trials"] or 1
        points_ = [(0.0, 0.0)]
        points_ += [(at, (number + 1) / trials) for number, at in enumerate(item["durations"])]
        points_.append((longest, points_[-1][1]))
        lines.append((item["variant"], tones[item["variant"]], points_))
    return figures.share_chart(lines, "seconds", stepped=True)


def _learning(group: Content, names: Mapping[str, str], tones: Mapping[str, str]) -> str:
    lines, notes = [], []
    window = 1
    for item in group["variants"]:
        window = max(5, len(item["curve"]) // WINDOWS)
        shares = running_share(item["curve"], window)
        # A share of the first two or three episodes would tell nothing, and leap.
        begun = [(float(place), value) for place, value in enumerate(shares, 1) if place >= window // 2]
        points_ = [(place, value) for place, value in begun if value is not None]
        lines.append((item["variant"], tones[item["variant"]], points_))
        if item["curve"] and item["curve"][-1][2]:
            notes.append(f"{names[item['variant']]}: {item['curve'][-1][2]:.0f} cases before the last episode")
    note = f"Success over the last {window} episodes. {'; '.join(notes)}"
    chart = figures.share_chart(lines, "episodes", stepped=False)
    return f"{legend(_legend(names, tones))}{chart}<p class='note'>{escape(note)}.</p>"


def _sizes(group: Content, tones: Mapping[str, str]) -> str:
    by_method: dict[str, list[tuple[float, float]]] = {}
    for item in group["variants"]:
        variant = parse(item["variant"])
        if variant.episodes is not None:
            by_method.setdefault(variant.method.name, []).append((float(variant.episodes), rate(item["success"])))
    off = next((rate(item["success"]) for item in group["variants"] if item["variant"] == OFF), None)
    if not by_method:
        return ""
    lines = [
        (method, tones.get(method, figures.COLOURS[0]), sorted([*([] if off is None else [(0.0, off)]), *found]))
        for method, found in by_method.items()
    ]
    whole = [
        f"{method} with all: {rate(item['success']):.1%}"
        for method in by_method
        for item in group["variants"]
        if item["variant"] == method
    ]
    chart = figures.share_chart(lines, "episodes in the memory", stepped=False)
    return f"{chart}<p class='note'>{escape('; '.join(whole))}</p>"


def _per_episode(item: Content) -> dict[str, float]:
    trials = item["success"]["trials"] or 1
    return {kind: count / trials for kind, count in item["events"].items()}


def _table(group: Content, names: Mapping[str, str]) -> str:
    several = len(group["policies"]) > 1
    head = "<tr><th>memory</th><th>success [95 %]</th><th>beside</th><th class='n'>lift, points [95 %]</th>"
    head += "<th class='n'>checkpoints drawn too</th>" if several else ""
    head += "<th class='n'>p</th><th class='n'>fixed / broken</th><th class='n'>helped / hurt</th></tr>"
    rows = []
    for item in group["variants"]:
        done = f"<td style='white-space:nowrap'>{escape(share(item['success']))}</td>"
        first = f"<td>{escape(names[item['variant']])}</td>{done}"
        for found in item["comparisons"]:
            pairs = found["pairs"]
            pooled = f"<td class='n'>{points(found['bootstrap'])}</td>" if several else ""
            rows.append(
                f"<tr>{first}<td>{escape(names.get(found['against'], found['against']))}</td>"
                f"<td class='n'>{points(found['difference'])}</td>{pooled}<td class='n'>{p_value(found['p'])}</td>"
                f"<td class='n'>{pairs['fixed']} / {pairs['broken']}</td>"
                f"<td class='n'>{found['helped']} / {found['hurt']}</td></tr>"
            )
            first = "<td></td><td></td>"
        if not item["comparisons"]:
            rows.append(f"<tr>{first}<td colspan='{6 if several else 5}'></td></tr>")
    table = f"<table><thead>{head}</thead><tbody>{''.join(rows)}</tbody></table>"
    style = "margin-top:14px; font-size:13.5px"
    return (
        f"<div class='card scroll' style='{style}'>{table}</div>"
        f"<div class='card scroll' style='{style}'>{_failures(group, names)}{_timing(group, names)}</div>"
    )


def _failures(group: Content, names: Mapping[str, str]) -> str:
    head = "<tr><th>memory</th><th>episodes that fail [95 %]</th><th class='n'>fewer failed episodes</th>"
    head += "<th class='n'>events an episode</th><th class='n'>fewer failure events</th>"
    head += "<th class='n'>seconds saved</th></tr>"
    rows = []
    for item in group["variants"]:
        found = against(item, OFF)
        fewer, events, saved = "", "", ""
        if found is not None:
            fewer, events = reduced(found["failures"]), reduced(found["events"])
            saved = "" if found["faster"] is None else f"{found['faster']:+.2f}"
        rows.append(
            f"<tr><td>{escape(names[item['variant']])}</td><td>{escape(share(item['failure']))}</td>"
            f"<td class='n'>{fewer}</td><td class='n'>{item['events_per_episode']:.2f}</td>"
            f"<td class='n'>{events}</td><td class='n'>{saved}</td></tr>"
        )
    return f"<table><thead>{head}</thead><tbody>{''.join(rows)}</tbody></table>"


def _timing(group: Content, names: Mapping[str, str]) -> str:
    steps = sorted({step for item in group["variants"] for step in item["timing"]})
    if not steps:
        return ""
    head = "".join(f"<th class='n'>{escape(step)} p50 / p99, ms</th>" for step in steps)
    rows = []
    for item in group["variants"]:
        cells = "".join(
            f"<td class='n'>{found['p50_ms']:.2f} / {found['p99_ms']:.2f}</td>"
            if (found := item["timing"].get(step))
            else "<td class='n'>-</td>"
            for step in steps
        )
        shaped = f"<td class='n'>{item['corrected']:.1%}</td><td class='n'>{item['starved_ticks']}</td>"
        rows.append(f"<tr><td>{escape(names[item['variant']])}</td>{shaped}{cells}</tr>")
    return (
        "<details><summary>Timing and use</summary><table><thead><tr><th>memory</th>"
        f"<th class='n'>observations shaped</th><th class='n'>starved ticks</th>{head}</tr></thead>"
        f"<tbody>{''.join(rows)}</tbody></table></details>"
    )


def _variants(groups: Sequence[Content], about: Content) -> str:
    known = {item["variant"]: item["description"] for group in groups for item in group["variants"]}
    if not known:
        return ""
    rows = "".join(
        f"<tr><td>{escape(label(name, about))}</td><td>{escape(text)}</td></tr>" for name, text in known.items()
    )
    return f"<h2>What the memory did</h2><div class='card'><table><tbody>{rows}</tbody></table></div>"


def _footer(about: Content, groups: Sequence[Content]) -> str:
    policies = ", ".join(dict.fromkeys(name for group in groups for name in group["policies"]))
    facts = [("Command", command(about)), ("Checkpoints", policies)]
    facts += [
        (name.replace("_", " "), str(value))
        for name, value in about.items()
        if name not in ("command", "labels", "asked_as", "started")
    ]
    listed = "".join(f"<dt>{escape(name)}</dt><dd><code>{escape(text)}</code></dd>" for name, text in facts if text)
    method = (
        "Intervals of rates: Wilson 1927. Of paired differences: Newcombe 1998, method 10. p: exact McNemar test, "
        "two-sided. Reductions and pooled differences: percentile bootstrap over starts (and checkpoints)."
    )
    return f"<footer><p>{escape(method)}</p><dl>{listed}</dl></footer>"
