# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""What the pages say was measured is what the committed results hold, and these are what their trials give."""

from __future__ import annotations

import gzip
import json
import re
import statistics
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from flow_rag_vla.bringup.resources import share_folder
from flow_rag_vla.evaluate.trials.tables import against, points, share
from flow_rag_vla.proof.claims import CLAIMS, COLUMNS, EXTERNAL, claim_row

DOCS = share_folder() / "docs"
RESULTS = DOCS / "results"
SUMMARIES = sorted(path for folder in ("proof", "claims") for path in RESULTS.glob(f"{folder}/*-summary.json"))
SUCCESS = re.compile(r"\d+\.\d % \[\d+\.\d, \d+(?:\.\d)?\]")


def content_of(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content


def fresh(path: Path) -> dict[str, Any]:
    """The first block of fresh starts in a summary: of all tasks, where there are several."""
    return next(group for group in content_of(path)["groups"] if group["block"] in ("fresh", "online"))


def plain(text: str) -> str:
    """As the pages write it: no counts behind an interval, no sign before nothing, and nothing bold."""
    text = re.sub(r" \(\d+/\d+\)", "", text.replace("*", "").strip())
    return re.sub(r"[+-](0\.0)\b", r"\1", text)


def tables(text: str) -> Iterator[tuple[list[str], list[list[str]]]]:
    """Head and rows of each table of a page."""
    for found in re.finditer(r"(?:^\|.*\n)+", text, re.MULTILINE):
        head, _, *rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in found[0].splitlines()]
        yield head, rows


def said(summary: Path) -> Iterator[tuple[str, ...]]:
    """A row of the proof's tables for each variant: success, lift, fixed and broken, failure events."""
    for variant in fresh(summary)["variants"]:
        beside = against(variant, "off")
        lift = ("", "") if beside is None else (points(beside["difference"]), _pair(beside["pairs"], " / "))
        yield tuple(map(plain, (share(variant["success"]), *lift, f"{variant['events_per_episode']:.2f}")))


def _pair(pairs: dict[str, int], mark: str) -> str:
    return f"{pairs['fixed']}{mark}{pairs['broken']}"


def wrong_rows(text: str) -> tuple[int, list[list[str]]]:
    """Rows of success in a page's tables, and those that no summary holds to which their section leads."""
    count, wrong = 0, []
    for section in re.split(r"^(?=## )", text, flags=re.MULTILINE):
        links = re.findall(r"results/(proof/[\w.-]+-summary)\.md", section)
        known = {row for link in links for row in said(RESULTS / f"{link}.json")}
        for head, rows in tables(section):
            if len(head) == 5 and head[1] == "success" and "lift" in head[2] and "events" in head[4] and known:
                count += len(rows)
                wrong += [row for row in rows if tuple(map(plain, row[1:])) not in known]
    return count, wrong


@pytest.mark.parametrize(("page", "least"), [("proof.md", 19), ("proof_history.md", 39)])
def test_the_tables_of_the_proof_say_what_its_trials_gave(page: str, least: int) -> None:
    count, wrong = wrong_rows((DOCS / page).read_text(encoding="utf-8"))
    assert wrong == [] and count >= least


def test_a_row_that_no_trial_gave_is_found() -> None:
    text = (DOCS / "proof.md").read_text(encoding="utf-8")
    for true, false in (("264 / 0", "264 / 1"), ("| 3.77 |", "| 3.78 |"), ("[87.9, 93.5]", "[87.9, 93.6]")):
        assert true in text and len(wrong_rows(text.replace(true, false))[1]) == 1


@pytest.mark.parametrize("summary", SUMMARIES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_a_summary_counts_what_its_trials_say(summary: Path) -> None:
    outcomes: defaultdict[tuple[str, str, str], dict[str, bool]] = defaultdict(dict)
    with gzip.open(summary.with_name(summary.name.replace("summary.json", "trials.jsonl.gz")), "rt") as lines:
        for line in lines:
            result = json.loads(line)
            trial = result["trial"]
            start = json.dumps([trial["bench"], trial["start"]], sort_keys=True)
            # Of several tasks there is a group of all, too.
            for task in ("all", result["task"]):
                outcomes[task, trial["block"], trial["variant"]][start] = result["success"]
    for group in content_of(summary)["groups"]:
        for variant in group["variants"]:
            ours = outcomes[group["task"], group["block"], variant["variant"]]
            counts = variant["success"]
            assert (sum(ours.values()), len(ours)) == (counts["successes"], counts["trials"]), variant["variant"]
            for beside in variant["comparisons"]:
                other = outcomes[group["task"], group["block"], beside["against"]]
                assert ours.keys() == other.keys()
                fixed = sum(done and not other[start] for start, done in ours.items())
                broken = sum(other[start] and not done for start, done in ours.items())
                assert (fixed, broken) == (beside["pairs"]["fixed"], beside["pairs"]["broken"])


def test_the_short_proof_says_what_its_trials_gave() -> None:
    [(head, rows)] = tables((RESULTS / "claims" / "claims.md").read_text(encoding="utf-8"))
    claimed = [*((claim.name, claim.memory) for claim in CLAIMS), (EXTERNAL.name, EXTERNAL.memory)]
    assert head == list(COLUMNS) and len(rows) == len(claimed)
    for (name, memory), row in zip(claimed, rows, strict=True):
        assert row == [name, *claim_row(content_of(RESULTS / "claims" / f"{name}-summary.json"), memory)]


CHAOS = sorted(RESULTS.glob("chaos/seed-*.json.gz"))
NODES = {
    "lifecycle manager": "lifecycle_manager", "cameras of the arm": "robot_camera", "encoder": "camera_encoder",
    "failure detector": "failure_detector", "bridge": "robot", "policy": "flow_policy", "controller": "controller",
    "episode manager": "episode_manager", "recorder": "recorder", "failure memory": "failure_memory",
}  # fmt: skip


def chaos_of(path: Path) -> dict[str, Any]:
    with gzip.open(path, "rt", encoding="utf-8") as file:
        content: dict[str, Any] = json.load(file)
    return content


@pytest.mark.parametrize("path", CHAOS, ids=lambda path: path.name.partition(".")[0])
def test_a_long_run_of_faults_is_told_as_its_report_has_it(path: Path) -> None:
    run, seed = chaos_of(path), path.name.removeprefix("seed-").partition(".")[0]
    text = (DOCS / "surviving.md").read_text(encoding="utf-8")
    (rows,) = [rows for head, rows in tables(text) if head == ["`--seed`", "rounds", "commands", "violations"]]
    (row,) = [row for row in rows if row[0] == seed]
    assert row[1].startswith(f"{len(run['rounds']):,} in {run['about']['minutes']:.0f} minutes")
    assert row[2] == f"{run['commands']:,}"
    assert row[3].startswith(str(len(run["violations"])) if run["violations"] else "none")


def test_how_soon_nodes_are_back_is_what_the_newest_long_run_measured() -> None:
    back = defaultdict(list)
    for fault in chaos_of(CHAOS[-1])["rounds"]:
        if fault["kind"] in ("kill", "restart") and fault["back_ms"] is not None:
            back[fault["target"]].append(fault["back_ms"] / 1e3)
    text = (DOCS / "surviving.md").read_text(encoding="utf-8")
    (rows,) = [rows for head, rows in tables(text) if head[0] == "node" and head[-1] == "worst"]
    assert {row[0] for row in rows} == set(NODES)
    for name, *_, middle, worst in rows:
        times = back[NODES[name]]
        assert (middle, worst) == (f"{statistics.median(times):.1f}", f"{max(times):.1f}"), name


MEMORIES = ("by_cause", "consensus", "online+by_cause")
"""What a row of the first page may be about."""


def readme_row(group: dict[str, Any]) -> list[str]:
    """Starts, alone, with the memory, mended and broken, fine-tuned, shuffled: a row of the first page."""
    by_name = {item["variant"]: item for item in group["variants"]}
    memory = next(by_name[name] for name in MEMORIES if name in by_name)
    beside = against(memory, "off")
    assert beside is not None
    shares = [plain(share(by_name[name]["success"])) if name in by_name else "" for name in (
        "off", memory["variant"], "dagger", f"shuffled+{memory['variant']}")]  # fmt: skip
    rest = [text.partition(" [")[0] for text in shares[2:]]
    return [f"{group['starts']:,}", *shares[:2], _pair(beside["pairs"], ", "), *rest]


def test_the_first_page_says_of_the_memory_what_its_trials_gave() -> None:
    known = [readme_row(fresh(path)) for path in (*SUMMARIES, RESULTS / "metaworld/summary.json")
             if any(item["variant"] in MEMORIES for item in fresh(path)["variants"])]  # fmt: skip
    text = (DOCS.parent / "README.md").read_text(encoding="utf-8")
    (rows,) = [rows for head, rows in tables(text) if "policy alone" in head and "shuffled memory" in head]
    # A row of the running graph is of another kind of run, with a summary of its own.
    measured = [list(map(plain, row[1:])) for row in rows if SUCCESS.search(row[2]) and "graph" not in row[0]]
    assert len(measured) >= 5 and [row for row in measured if row not in known] == []


@pytest.mark.parametrize(("summary", "form"), [("summary.json", "{:.1f}"), ("first-summary.json", "{:.0f}")])
def test_success_in_meta_world_is_what_its_trials_gave(summary: str, form: str) -> None:
    def cell(counts: dict[str, Any]) -> str:
        parts = (100 * counts["successes"] / counts["trials"], 100 * counts["low"], 100 * counts["high"])
        return "{} [{}, {}]".format(*(form.format(part) for part in parts))

    groups = {group["task"]: group for group in content_of(RESULTS / "metaworld" / summary)["groups"]}
    shown = 0
    for head, rows in tables((DOCS / "metaworld.md").read_text(encoding="utf-8")):
        names = [name.strip("`") for name in head[2:]]
        if head[:2] != ["task", "starts"] or not any(name in names for name in ("consensus", "residual")):
            continue
        if ("consensus" in names) != (summary == "summary.json"):
            continue
        for task, starts, *cells in rows:
            group = groups["all" if "all" in task else f"metaworld/{task}-v3"]
            by_name = {item["variant"]: cell(item["success"]) for item in group["variants"]}
            assert [starts, *cells] == [str(group["starts"]), *(by_name[name] for name in names)]
            shown += 1
    assert shown == len(groups)


def test_lifts_in_meta_world_are_what_its_trials_gave() -> None:
    groups = {group["task"]: group for group in content_of(RESULTS / "metaworld/summary.json")["groups"]}
    head = ["task", "`consensus` beside", "lift in points [95 %]", "fixed / broken", "p"]
    (rows,) = [rows for found, rows in tables((DOCS / "metaworld.md").read_text("utf-8")) if found == head]
    for task, other, *cells in rows:
        group = groups["all" if "all" in task else f"metaworld/{task}-v3"]
        variant = next(item for item in group["variants"] if item["variant"] == "consensus")
        beside = against(variant, other.strip("`"))
        assert beside is not None
        assert cells == [points(beside["difference"]), _pair(beside["pairs"], " / "), f"{beside['p']:.2g}"]
    assert len(rows) >= 14


def test_detection_is_told_as_it_was_scored() -> None:
    figures = content_of(RESULTS / "detection.json")
    kinds = {
        item["kind"]: [
            *(str(item[name]) for name in ("failed", "detected", "early")),
            *(f"{item[name]:.3f}" for name in ("auc", "matched_auc")),
            f"{item['lead_s']:.1f}",
            f"{item['recovered']}, {item['recovered_alarms']}",
        ]
        for item in figures["kinds"]
    }
    single = {name: [f"{value:.3f}" for value in both] for name, both in figures["single"].items()}
    found = {head[0]: rows for head, rows in tables((DOCS / "benchmarks.md").read_text(encoding="utf-8"))}
    assert {row[0]: row[1:] for row in found["kind of failure"]} == kinds
    assert {row[0]: row[1:] for row in found["score on its own"]} == single
