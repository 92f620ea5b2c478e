# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""The look of every page: one document, one style sheet, light and dark, nothing loaded from anywhere."""

from __future__ import annotations

from html import escape

STYLE = """
:root {
  color-scheme: light dark;
  --page: #f6f5f2; --card: #ffffff; --ink: #1f2630; --soft: #5e6875; --line: #e2e0da;
  --accent: #2b6c8f; --good: #2f7a55; --bad: #b6493f; --warn: #c9a227; --slow: #c7702e; --memory: #6d5aa8;
  --warn-text: #846609; --idle: #cfd3d6; --p1: #7ba7c2; --p2: #d2a24c; --p3: #3f7f9e; --p4: #6aa583;
}
@media (prefers-color-scheme: dark) {
  :root {
    --page: #14181d; --card: #1c2229; --ink: #e7eaee; --soft: #98a3af; --line: #2e363f;
    --accent: #6db2d6; --good: #66bb90; --bad: #e0796e; --warn: #dcc05a; --slow: #db8a4e; --memory: #a897e0;
    --warn-text: #dcc05a; --idle: #414b55; --p1: #5f8dab; --p2: #c79a4b; --p3: #79bcdd; --p4: #79b894;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0; background: var(--page); color: var(--ink);
  font: 15px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Liberation Sans", sans-serif;
  font-variant-numeric: tabular-nums;
}
main { max-width: 1140px; margin: 0 auto; padding: 40px 28px 64px; }
h1 { font-size: 27px; line-height: 1.2; margin: 0 0 4px; letter-spacing: -0.015em; }
h2 { font-size: 18px; margin: 44px 0 12px; letter-spacing: -0.005em; }
h3 { font-size: 15px; margin: 0; }
p { margin: 0 0 8px; }
.soft, figcaption, .note { color: var(--soft); }
.note { font-size: 13px; }
.card { background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: 18px 20px; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(132px, 1fr)); gap: 12px; margin: 24px 0 0; }
.tile { background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: 14px 16px; }
.tile .name { font-size: 13px; color: var(--soft); }
.tile .value { font-size: 27px; font-weight: 640; letter-spacing: -0.02em; line-height: 1.25; }
.tile .value small { font-size: 14px; font-weight: 500; color: var(--soft); letter-spacing: 0; }
.tile .more { font-size: 12.5px; color: var(--soft); line-height: 1.4; }
.good { color: var(--good); } .bad { color: var(--bad); } .warn { color: var(--warn-text); }
.memory { color: var(--memory); }
.missing { border-left: 4px solid var(--warn); margin-top: 20px; padding: 12px 18px; }
.missing ul { margin: 4px 0 0; padding-left: 18px; }
.two { display: grid; grid-template-columns: repeat(auto-fit, minmax(400px, 1fr)); gap: 14px; }
.two > .card { min-width: 0; }
table { border-collapse: collapse; width: 100%; }
th { text-align: left; font-size: 12.5px; font-weight: 550; color: var(--soft); vertical-align: bottom; }
th { padding: 0 12px 8px 0; }
td { padding: 8px 12px 8px 0; border-top: 1px solid var(--line); vertical-align: middle; }
td.n, th.n { text-align: right; } td.n { white-space: nowrap; }
td.n + td:not(.n), th.n + th:not(.n) { padding-left: 12px; }
td.n:last-child, th.n:last-child { padding-right: 0; }
table > tbody:first-child > tr:first-child > td { border-top: 0; }
td svg { display: block; }
.scroll { overflow-x: auto; } .scroll:not(.matrix) td:first-child:not(.n) { min-width: 8.5rem; }
.scroll:not(.matrix) td:last-child:not(.n) { min-width: 13rem; }
.dot { display: inline-block; width: 9px; height: 9px; border-radius: 50%; margin-right: 8px; }
.dot { background: currentColor; }
svg text { font: 12px system-ui, -apple-system, "Segoe UI", Roboto, "Liberation Sans", sans-serif; fill: var(--soft); }
svg text.label { fill: var(--ink); }
svg.wide { min-width: 720px; } .card:has(> svg.wide) { overflow-x: auto; }
svg .grid { stroke: var(--line); stroke-width: 1; }
svg .marker { stroke: var(--ink); stroke-width: 1.2; stroke-dasharray: 4 3; opacity: 0.7; }
.legend { display: flex; gap: 16px; flex-wrap: wrap; font-size: 12.5px; color: var(--soft); margin: 0 0 10px; }
.legend i { display: inline-block; width: 10px; height: 10px; border-radius: 3px; margin-right: 6px; }
.legend i { vertical-align: -1px; }
figure { margin: 0; }
figure.film { display: grid; grid-template-columns: minmax(0, 640px) 1fr; gap: 22px; align-items: center; }
figure.film img { width: 100%; border-radius: 8px; display: block; }
.strip { display: grid; grid-template-columns: repeat(5, 1fr); gap: 6px; margin: 12px 0 2px; }
.strip img, .strip .gap { width: 100%; border-radius: 5px; display: block; aspect-ratio: 1; object-fit: cover; }
.strip .gap { background: var(--page); border: 1px dashed var(--line); }
.strip .now img { outline: 2px solid var(--bad); outline-offset: 1px; }
.strip figcaption { font-size: 11.5px; text-align: center; }
.story { margin-bottom: 14px; display: grid; grid-template-columns: minmax(0, 1.35fr) minmax(0, 1fr); gap: 26px; }
.story .head { display: flex; gap: 10px; align-items: baseline; flex-wrap: wrap; }
.story h4 { font-size: 12.5px; font-weight: 550; color: var(--soft); margin: 12px 0 4px; }
.story h4:first-child { margin-top: 2px; }
.story ul { margin: 0; padding-left: 17px; font-size: 13.5px; }
.story li { margin-bottom: 3px; }
.evidence { font-size: 13px; }
.evidence td { padding: 4px 10px 4px 0; border: 0; }
.evidence td:first-child { white-space: nowrap; }
.evidence svg { width: 120px; }
.chip { font-size: 12px; padding: 1px 9px; border-radius: 99px; border: 1px solid var(--line); color: var(--soft); }
.cases { font-size: 12.5px; margin-top: 10px; }
.cases td { padding: 3px 10px 3px 0; border: 0; }
.cases th { padding-bottom: 2px; }
footer { margin-top: 48px; border-top: 1px solid var(--line); padding-top: 18px; font-size: 13px; color: var(--soft); }
footer dl { display: grid; grid-template-columns: max-content 1fr; gap: 3px 18px; margin: 0; }
footer dt { color: var(--soft); } footer dd { margin: 0; color: var(--ink); overflow-wrap: anywhere; }
code { font: 12.5px ui-monospace, "Cascadia Mono", Menlo, "Liberation Mono", monospace; }
details { margin-top: 14px; overflow-x: auto; } summary { cursor: pointer; }
details table { margin-top: 8px; font-size: 12.5px; } details td { padding: 3px 12px 3px 0; }
@media (max-width: 760px) {
  main { padding: 24px 14px; } .story, figure.film, .two { grid-template-columns: minmax(0, 1fr); }
  .evidence td.n, .evidence td:first-child { white-space: normal; } .evidence svg { width: 72px; }
}
@media print { body { background: #fff; } .card, .tile { break-inside: avoid; } }
"""


def document(title: str, body: str, style: str = "") -> str:
    """A whole page.

    Args:
        title: text.
        body: HTML of what is on it.
        style: rules of its own, after the common ones.
    """
    return (
        "<!doctype html>\n<html lang='en'><head><meta charset='utf-8'>"
        "<meta name='viewport' content='width=device-width, initial-scale=1'>"
        f"<title>{escape(title)}</title><style>{STYLE}{style}</style></head><body><main>{body}</main></body></html>\n"
    )
