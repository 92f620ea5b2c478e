# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""The report's page: puts figures, tables, charts and stories into one self-contained HTML file."""

from __future__ import annotations

import base64
import math
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path

from flow_rag_vla.data.episode_record import EpisodeRecord
from flow_rag_vla.evaluate.intervals import wilson
from flow_rag_vla.evaluate.report import charts
from flow_rag_vla.evaluate.report.charts import Bar, Mark
from flow_rag_vla.evaluate.report.digest import Digest
from flow_rag_vla.evaluate.report.run import Run, command_line, versions
from flow_rag_vla.evaluate.report.stories import FailureStory, Frame
from flow_rag_vla.evaluate.report.style import document
from flow_rag_vla.evaluate.report.timing import LoopTiming, Stage, loop_timing, mode_spans, stages

LATENCY_LIMIT_MS = 100.0
"""Target for the 99th percentile from camera to command on two cores."""

_OUTCOME_CLASS = {"success": "good", "failure": "bad", "canceled": "soft", "aborted": "warn"}
_SHOWN_ABOUT = ("command", "started")


def page(run: Run, stories: Sequence[FailureStory], animation: Path | None, animated: EpisodeRecord | None) -> str:
    """The whole page. ``animation`` is embedded, so that the file can be passed on alone."""
    timing = loop_timing(run.digest) if run.digest is not None else None
    found = stages(run.digest) if run.digest is not None else ()
    title = f"Flow-RAG-VLA run {run.folder.resolve().name}"
    parts = [
        _head(run, title),
        _missing(run.problems),
        _tiles(run, timing),
        _film(animation, animated),
        _outcomes(run.records),
        _loop(run, timing),
        _latency(found, run.digest),
        _failures(stories, run),
        _episodes(run),
        _footer(run),
    ]
    return document(title, "".join(parts))


def _head(run: Run, title: str) -> str:
    tasks = ", ".join(dict.fromkeys(record.task.replace("_", " ") for record in run.records)) or "no task"
    variants = ", ".join(dict.fromkeys(record.variant for record in run.records))
    started = str(run.about.get("started", ""))
    words = [part for part in (tasks, f"variant {variants}" if variants else "", started.replace("T", " ")) if part]
    line = escape(" · ".join(words))
    return f"<header><h1>{escape(title)}</h1><div class='soft'>{line}</div></header>"


def _missing(problems: Sequence[str]) -> str:
    if not problems:
        return ""
    items = "".join(f"<li>{escape(problem)}</li>" for problem in problems)
    return f"<section class='card missing'><h3>What is missing here</h3><ul>{items}</ul></section>"


def _tiles(run: Run, timing: LoopTiming | None) -> str:
    scored = run.scored
    rate = wilson(sum(record.succeeded for record in scored), len(scored))
    failures = sum(len(record.failures) for record in run.records)
    shaped = sum(use.chunks for record in run.records for use in record.corrections)
    digest = run.digest
    memory = digest.memories[-1] if digest is not None and digest.memories else None
    late = _late(run, timing)
    tiles = [
        _tile(
            "Success",
            f"{rate.successes}<small> of {rate.trials}</small>" if rate.trials else "none",
            f"{rate.rate:.0%}, 95 % interval {rate.low:.0%} to {rate.high:.0%}" if rate.trials else "no scored episode",
        ),
        _tile(
            "Loop rate",
            f"{timing.rate_hz:.2f}<small> Hz</small>" if timing else "unknown",
            "40 commands a second are due" if timing else "no commands on record",
        ),
        _tile(
            "Late ticks",
            f"{late[0]}" if late else "unknown",
            f"of {late[1]}; {late[2]} skipped" if late else "no loop statistics on record",
            "good" if late and late[0] == 0 else "warn" if late else "",
        ),
        _tile(
            "Tick error, p99",
            f"{timing.p99_ms:.2f}<small> ms</small>" if timing and timing.errors_ms.size else "unknown",
            f"median {timing.p50_ms:.3f} ms" if timing and timing.errors_ms.size else "",
        ),
        _tile(
            "Failures",
            str(failures),
            f"{'event' if failures == 1 else 'events'} in {len(run.records)} episodes",
            "bad" if failures else "good",
        ),
        _tile(
            "Memory",
            f"{memory.cases}<small> case{'s' if memory.cases != 1 else ''}</small>" if memory else "unknown",
            f"{memory.added} added; {shaped} chunks shaped" if memory else f"{shaped} chunks shaped",
            "memory",
        ),
    ]
    return f"<section class='tiles'>{''.join(tiles)}</section>"


def _late(run: Run, timing: LoopTiming | None) -> tuple[int, int, int] | None:
    """Late, all and skipped ticks: by the loop's own count, else by the commands' stamps."""
    if run.digest is not None and run.digest.loops:
        last = run.digest.loops[-1]
        return last.late_ticks, last.ticks, last.skipped_ticks
    if timing is not None and timing.errors_ms.size:
        return timing.late, int(timing.errors_ms.size), timing.missing
    return None


def _tile(name: str, value: str, more: str, kind: str = "") -> str:
    return (
        f"<div class='tile'><div class='name'>{escape(name)}</div><div class='value {kind}'>{value}</div>"
        f"<div class='more'>{escape(more)}</div></div>"
    )


def _film(animation: Path | None, record: EpisodeRecord | None) -> str:
    if animation is None or record is None:
        return ""
    picture = base64.b64encode(animation.read_bytes()).decode("ascii")
    kind = _OUTCOME_CLASS[record.outcome]
    shaped = sum(use.chunks for use in record.corrections)
    memory = f" The failure memory shaped {shaped} chunk{'s' if shaped != 1 else ''} of it." if shaped else ""
    return (
        "<h2>One episode</h2><figure class='card film'>"
        f"<img alt='{escape(record.instruction)}' src='data:image/gif;base64,{picture}'>"
        f"<figcaption><h3 style='color:var(--ink)'>“{escape(record.instruction)}”</h3>"
        f"<p style='margin-top:8px'>Episode {record.episode_id}, {escape(record.variant)}, seed {record.seed}: "
        f"<span class='{kind}'>{record.outcome}</span> after {record.duration:.1f} s.{memory}</p>"
        "<p class='note'>Large: drawn again from the simulator's ground truth. Small: what the front and the wrist "
        "camera saw, which is all the policy sees.</p></figcaption></figure>"
    )


def _outcomes(records: Sequence[EpisodeRecord]) -> str:
    if not records:
        return ""
    rows = []
    for task, variant in dict.fromkeys((record.task, record.variant) for record in records):
        group = [record for record in records if (record.task, record.variant) == (task, variant)]
        scored = [record for record in group if record.scored]
        rate = wilson(sum(record.succeeded for record in scored), len(scored))
        times = [record.duration for record in scored if record.succeeded]
        kinds: dict[str, int] = {}
        for record in group:
            for failure in record.failures:
                kinds[failure.failure_type] = kinds.get(failure.failure_type, 0) + 1
        unscored = len(group) - len(scored)
        told = f"{rate.rate:.0%} [{rate.low:.0%}, {rate.high:.0%}]" if rate.trials else "not scored"
        rows.append(
            f"<tr><td>{escape(task.replace('_', ' '))}</td><td>{escape(variant)}</td>"
            f"<td class='n'>{rate.successes} / {rate.trials}</td>"
            f"<td>{charts.interval_bar(rate.low, rate.high, rate.rate) if rate.trials else ''}</td>"
            f"<td style='white-space:nowrap'>{told}</td>"
            f"<td class='n'>{f'{sum(times) / len(times):.1f} s' if times else ''}</td>"
            f"<td>{escape(_counted(kinds)) or '<span class=soft>none</span>'}</td>"
            f"<td class='n'>{unscored or ''}</td></tr>"
        )
    return (
        "<h2>Outcomes</h2><div class='card scroll'><table><thead><tr><th>Task</th><th>Variant</th>"
        "<th class='n'>Succeeded</th><th></th><th>Rate, 95 % interval</th><th class='n'>Mean time</th>"
        f"<th>Failure events</th><th class='n'>Not scored</th></tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
        "<p class='note' style='margin-top:8px'>Wilson score intervals. Canceled and aborted episodes are not "
        "scored.</p>"
    )


def _counted(kinds: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in sorted(kinds.items(), key=lambda i: -i[1]))


def _loop(run: Run, timing: LoopTiming | None) -> str:
    if timing is None or not timing.errors_ms.size or run.digest is None:
        return ""
    loops = run.digest.loops
    cpu = [item.cpu_mean_ms for item in loops if math.isfinite(item.cpu_mean_ms)]
    rows = [
        ("Commands on record", f"{len(run.digest.commands)}"),
        ("Ticks without a command in the bag", f"{timing.missing}"),
        ("More than half a period late", f"{timing.late}"),
        ("Tick error p50 / p99 / max", f"{timing.p50_ms:.3f} / {timing.p99_ms:.2f} / {timing.max_ms:.2f} ms"),
    ]
    if loops:
        rows.append(("Starved ticks (no valid chunk)", f"{loops[-1].starved_ticks}"))
    if cpu:
        rows.append(("Processor time a tick", f"{sum(cpu) / len(cpu):.3f} ms"))
    table = "".join(f"<tr><td>{escape(name)}</td><td class='n'>{escape(value)}</td></tr>" for name, value in rows)
    spans = mode_spans(run.digest)
    start = spans[0].start_ns
    lane = [
        Bar(
            (span.start_ns - start) * 1e-9, (span.end_ns - start) * 1e-9, span.mode,
            charts.MODE_COLOURS.get(span.mode, "var(--soft)"),
        )
        for span in spans
    ]  # fmt: skip
    marks = [Mark((item.log_ns - start) * 1e-9, item.failure_type, "var(--bad)") for item in run.digest.failures]
    total = (spans[-1].end_ns - start) * 1e-9
    shown = {name: colour for name, colour in charts.MODE_COLOURS.items() if any(span.mode == name for span in spans)}
    return (
        "<h2>Control loop</h2><div class='two'><div class='card'><h3>Tick error</h3>"
        f"<p class='note'>Distance of each interval from 25 ms, by {escape(timing.source)}. Counts on a root scale.</p>"
        f"{charts.histogram(timing.errors_ms, timing.p50_ms, timing.p99_ms)}</div>"
        f"<div class='card'><h3>Figures</h3><table style='margin-top:8px'><tbody>{table}</tbody></table></div></div>"
        f"<div class='card' style='margin-top:14px'><h3>Mode over the run</h3>"
        f"<p class='note'>{total:.0f} s from left to right; a triangle is a failure event.</p>{charts.legend(shown)}"
        f"<div class='scroll'>{charts.timeline(total, [lane], marks, width=1000)}</div></div>"
    )


def _latency(found: Sequence[Stage], digest: Digest | None) -> str:
    if not found or digest is None:
        return ""
    rows = "".join(
        f"<tr><td>{escape(stage.name)}<div class='note'>{escape(stage.meaning)}</div></td>"
        f"<td class='n'>{stage.p50_ms:.1f}</td><td class='n'>{stage.p99_ms:.1f}</td>"
        f"<td class='n'>{stage.values_ms.max():.1f}</td><td class='n'>{stage.values_ms.size}</td></tr>"
        for stage in found
    )
    inside = _inside(digest)
    chart = charts.latency_chart([(stage.name, stage.p50_ms, stage.p99_ms) for stage in found], LATENCY_LIMIT_MS)
    return (
        "<h2>From camera to command</h2><div class='two'><div class='card'><h3>Latency by stage</h3>"
        "<p class='note'>Dot: median. Ring: 99th percentile. Dashed: the target for the whole way, 100 ms.</p>"
        f"{chart}</div><div class='card scroll'><table><thead><tr><th>Milliseconds</th><th class='n'>p50</th>"
        "<th class='n'>p99</th><th class='n'>max</th><th class='n'>count</th></tr></thead>"
        f"<tbody>{rows}</tbody></table>"
        f"<p class='note' style='margin-top:10px'>{escape(inside)}</p></div></div>"
    )


def _inside(digest: Digest) -> str:
    """What the nodes say about their own share."""

    def median(values: Iterable[float]) -> float | None:
        ordered = sorted(value for value in values if math.isfinite(value))
        return ordered[len(ordered) // 2] if ordered else None

    parts = []
    for name, value in (
        ("encoder", median(item.inference_ms for item in digest.embeddings)),
        ("policy", median(item.inference_ms for item in digest.chunks)),
        ("wait for the correction", median(item.correction_wait_ms for item in digest.chunks)),
        ("search", median(item.search_ms for item in digest.answers)),
    ):
        if value is not None:
            parts.append(f"{name} {value:.1f} ms" if value >= 0.1 else f"{name} {value:.2f} ms")
    return f"Inside the nodes, median: {', '.join(parts)}." if parts else ""


def _failures(stories: Sequence[FailureStory], run: Run) -> str:
    total = sum(len(record.failures) for record in run.records)
    if not run.records:
        return ""
    if not total:
        return "<h2>Failures</h2><p class='soft'>The detector reported none.</p>"
    more = f"<p class='note'>The first {len(stories)} of {total} are shown.</p>" if total > len(stories) else ""
    return f"<h2>Failures</h2>{''.join(_story(story) for story in stories)}{more}"


def _story(story: FailureStory) -> str:
    record, failure = story.episode, story.failure
    evidence = "".join(
        f"<tr><td>{escape(item.name.replace('_', ' '))}</td><td>{charts.evidence_bar(item.value, item.threshold)}</td>"
        f"<td class='n'>{item.value:.3g} <span class='soft'>against {item.threshold:.3g} {escape(item.unit)}</span>"
        "</td></tr>"
        for item in story.evidence
    )
    cases = "".join(
        f"<tr><td>#{case.case_id}</td><td>{escape(case.failure_type.replace('_', ' '))}</td>"
        f"<td class='n'>{case.similarity:.3f}</td><td class='n'>{case.successes}/{case.uses}</td>"
        f"<td class='n'>{case.credit:.2f}</td></tr>"
        for case in story.retrieved[:4]
    )
    table = (
        "<table class='cases'><thead><tr><th>Case</th><th>Type</th><th class='n'>Similarity</th>"
        f"<th class='n'>Helped</th><th class='n'>Credit</th></tr></thead><tbody>{cases}</tbody></table>"
        if cases
        else ""
    )
    sentences = "".join(f"<li>{escape(sentence)}</li>" for sentence in story.memory)
    pictures = _strip(story.frames, "front") + _strip(story.wrist_frames, "wrist")
    return (
        "<article class='card story'><div><div class='head'>"
        f"<h3 class='bad'>{escape(failure.failure_type.replace('_', ' '))}</h3>"
        f"<span class='soft'>episode {record.episode_id}, {failure.elapsed:.1f} s, {escape(failure.phase)}</span>"
        f"<span class='chip'>{escape(failure.detector)}</span>"
        f"<span class='chip'>confidence {failure.confidence:.2f}</span></div>"
        f"<p style='margin:6px 0 0'>{escape(failure.description)}</p>"
        f"{pictures or '<p class=note style=margin-top:12px>No pictures of this moment are in the bag.</p>'}</div>"
        f"<div>{f'<h4>Evidence</h4><table class=evidence><tbody>{evidence}</tbody></table>' if evidence else ''}"
        f"<h4>What the memory did about it</h4><ul>{sentences}</ul>{table}</div></article>"
    )


def _strip(frames: Sequence[Frame], camera: str) -> str:
    if not any(frame.source for frame in frames):
        return ""
    cells = []
    for frame in frames:
        label = "event" if frame.offset_s == 0 else f"{frame.offset_s:+.1f} s"
        picture = (
            f"<img alt='{camera} camera, {label}' src='{frame.source}'>" if frame.source else "<div class='gap'></div>"
        )
        cells.append(
            f"<figure class='{'now' if frame.offset_s == 0 else ''}'>{picture}<figcaption>{label}</figcaption></figure>"
        )
    return f"<div class='strip' aria-label='{camera} camera'>{''.join(cells)}</div>"


def _episodes(run: Run) -> str:
    if not run.records:
        return ""
    longest = max(record.duration for record in run.records)
    rows = "".join(_episode_row(record, run.digest, longest) for record in run.records)
    phases = {name: colour for name, colour in charts.PHASE_COLOURS.items() if name != "idle"}
    key = charts.legend(phases | _unusual_modes(run) | {"memory at work": "var(--memory)", "▾ failure": "var(--bad)"})
    return (
        f"<h2>Episodes</h2><div class='card scroll'>{key}<table><thead><tr><th class='n'>No.</th><th>Instruction</th>"
        "<th>Outcome</th><th class='n'>Time</th><th>Course</th><th class='n'>Failures</th><th class='n'>Shaped</th>"
        f"</tr></thead><tbody>{rows}</tbody></table></div>"
    )


def _unusual_modes(run: Run) -> dict[str, str]:
    """Modes that the courses below show, with their colours."""
    names = {bar.name for record in run.records for bar in _mode_lane(record, run.digest)}
    return {name: colour for name, colour in charts.MODE_COLOURS.items() if name in names}


def _episode_row(record: EpisodeRecord, digest: Digest | None, longest: float) -> str:
    lane = [
        Bar(span.start, span.end, span.name, charts.PHASE_COLOURS.get(span.name, "var(--soft)"))
        for span in record.phases
    ]
    uses = [
        Bar(
            (use.first_ns - record.start_ns) * 1e-9, (use.last_ns - record.start_ns) * 1e-9 + 0.025,
            f"{use.mode}, case {', '.join(map(str, use.case_ids)) or 'none'},", "var(--memory)",
        )
        for use in record.corrections
    ]  # fmt: skip
    lanes = [lane, _mode_lane(record, digest), uses]
    marks = [Mark(item.elapsed, item.failure_type.replace("_", " "), "var(--bad)") for item in record.failures]
    course = charts.timeline(record.duration, [item for item in lanes if item], marks, width=330, scale=longest)
    kind = _OUTCOME_CLASS[record.outcome]
    shaped = sum(use.chunks for use in record.corrections)
    return (
        f"<tr><td class='n soft'>{record.episode_id}</td><td>{escape(record.instruction or record.task)}"
        f"<div class='note'>{escape(record.variant)}, seed {record.seed}</div></td>"
        f"<td title='{escape(record.reason, quote=True)}'><span class='{kind}'><span class='dot'></span>"
        f"{record.outcome}</span></td><td class='n'>{record.duration:.1f} s</td><td>{course}</td>"
        f"<td class='n'>{len(record.failures) or ''}</td><td class='n'>{shaped or ''}</td></tr>"
    )


def _mode_lane(record: EpisodeRecord, digest: Digest | None) -> list[Bar]:
    """Only what is not plain following: a lane that says the normal all the time says nothing."""
    window = digest.windows.get(record.episode_id) if digest is not None else None
    if digest is None or window is None:
        return []
    return [
        Bar(
            (span.start_ns - window.start_ns) * 1e-9, (span.end_ns - window.start_ns) * 1e-9, span.mode,
            charts.MODE_COLOURS.get(span.mode, "var(--soft)"),
        )
        for span in mode_spans(digest, window.start_ns, window.end_ns)
        if span.mode not in ("follow", "idle")
    ]  # fmt: skip


def _footer(run: Run) -> str:
    digest, bag = run.digest, run.bag
    facts: list[tuple[str, str]] = [("Command", f"<code>{escape(command_line(run.about)) or 'not on record'}</code>")]
    seeds = [record.seed for record in run.records]
    if seeds:
        facts.append(("Seeds", f"{min(seeds)} to {max(seeds)}" if len(set(seeds)) > 1 else str(seeds[0])))
    if digest is not None and digest.policy:
        facts.append(("Policy", f"{escape(digest.policy)}, weights <code>{escape(digest.policy_revision)}</code>"))
    if digest is not None and digest.encoder:
        facts.append(("Encoder", f"{escape(digest.encoder)}, weights <code>{escape(digest.encoder_revision)}</code>"))
    if bag is not None:
        length = (bag.end_ns - bag.start_ns) * 1e-9
        count = sum(topic.count for topic in bag.topics.values())
        facts.append(("Bag", f"{bag.size / 1e6:.1f} MB, {length:.0f} s, {count} messages of {len(bag.topics)} topics"))
    facts.append(("Made with", escape(", ".join(f"{name} {version}" for name, version in versions().items()))))
    facts += [
        (escape(name.replace("_", " ")), f"<code>{escape(_plain(value))}</code>")
        for name, value in run.about.items()
        if name not in _SHOWN_ABOUT and not isinstance(value, dict)
    ]
    listed = "".join(f"<dt>{name}</dt><dd>{value}</dd>" for name, value in facts)
    return f"<footer><dl>{listed}</dl>{_parameters(run.about)}{_topics(run)}</footer>"


def _parameters(about: Mapping[str, object]) -> str:
    rows = "".join(
        f"<tr><td>{escape(str(group))}</td><td>{escape(str(name))}</td><td><code>{escape(_plain(value))}</code></td></tr>"
        for group, values in about.items()
        if isinstance(values, dict)
        for name, value in values.items()
    )
    if not rows:
        return ""
    return f"<details><summary>Parameters</summary><table><tbody>{rows}</tbody></table></details>"


def _plain(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name}: {_plain(item)}" for name, item in value.items())
    if isinstance(value, (list, tuple)):
        return ", ".join(_plain(item) for item in value)
    return str(value)


def _topics(run: Run) -> str:
    if run.bag is None:
        return ""
    rows = "".join(
        f"<tr><td><code>{escape(topic.name)}</code></td><td><code>{escape(topic.msgtype)}</code></td>"
        f"<td class='n'>{topic.count}</td></tr>"
        for topic in run.bag.topics.values()
    )
    return f"<details><summary>Topics in the bag</summary><table><tbody>{rows}</tbody></table></details>"
