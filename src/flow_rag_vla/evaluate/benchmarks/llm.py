# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""What the layer around a language model costs, beside the bare client against the same server.

    python -m flow_rag_vla.evaluate.benchmarks.llm --commands test/llm/held_out_commands.tsv

The server is a process of its own that answers at once, so what is measured is the two clients. Their calls alternate:
what the machine does to one it does to the other. The embedded grammar is timed and scored on the list of commands.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import statistics
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from flow_rag_vla.core.files import write_text
from flow_rag_vla.llm.prompts import make_request, system_text, turns
from flow_rag_vla.llm.provider import ProviderSettings
from flow_rag_vla.llm.registry import make_provider
from flow_rag_vla.llm.request import deadline_in
from flow_rag_vla.llm.schemas import TaskPlan
from flow_rag_vla.llm.service import LanguageModel
from flow_rag_vla.llm.structured import json_schema
from flow_rag_vla.llm.task_language.held_out import judge, read_commands, table
from flow_rag_vla.llm.task_language.reader import read_command

MAX_OVERHEAD_MS = 5.0
"""Median time of a call through the layer above that of the bare client."""

COMMAND = "put the red cube in the bin"
PLAN = '{"steps": [{"task": "pick_and_place", "target": "red_cube"}], "refusal": "none", "reason": ""}'
PIECES = 24
_WARM_UP = 5


@dataclass(frozen=True, slots=True)
class Figures:
    """Milliseconds a call: medians and 95th percentiles of bare client, layer, and the grammar without network.

    The CPU figures are means of this process alone: on a busy machine they tell more than the times.
    """

    calls: int
    bare_ms: float
    bare_p95_ms: float
    bare_cpu_ms: float
    layer_ms: float
    layer_p95_ms: float
    layer_cpu_ms: float
    rules_ms: float

    @property
    def overhead_ms(self) -> float:
        """Median above the bare client's."""
        return self.layer_ms - self.bare_ms

    @property
    def reached(self) -> bool:
        """Whether the target is met."""
        return self.overhead_ms < MAX_OVERHEAD_MS

    def table(self) -> str:
        """The figures for people."""
        ratio = self.layer_ms / self.bare_ms
        return "\n".join(
            [
                f"{'':24} {'median':>8} {'p95':>8} {'CPU':>8}   ({self.calls} calls each, alternating)",
                f"{'bare openai client, ms':24} {self.bare_ms:8.2f} {self.bare_p95_ms:8.2f} {self.bare_cpu_ms:8.2f}",
                f"{'through the layer, ms':24} {self.layer_ms:8.2f} {self.layer_p95_ms:8.2f} {self.layer_cpu_ms:8.2f}"
                f"   ratio {ratio:.2f}",
                f"{'overhead, ms':24} {self.overhead_ms:8.2f} {'':8} {self.layer_cpu_ms - self.bare_cpu_ms:8.2f}"
                f"   target: median below {MAX_OVERHEAD_MS:g}",
                f"{'provider rules, ms':24} {self.rules_ms:8.2f}",
            ]
        )


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # Head and body are two writes; the second would wait 40 ms for an acknowledgement of the first.
    disable_nagle_algorithm = True

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        size = -(-len(PLAN) // PIECES)
        chunks: list[dict[str, Any]] = [
            {"choices": [{"index": 0, "delta": {"content": PLAN[at : at + size]}, "finish_reason": None}]}
            for at in range(0, len(PLAN), size)
        ]
        chunks.append({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
        usage = {"prompt_tokens": 100, "completion_tokens": PIECES, "total_tokens": 100 + PIECES}
        chunks.append({"choices": [], "usage": usage})
        head = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m"}
        body = "".join(f"data: {json.dumps({**head, **chunk})}\n\n" for chunk in chunks) + "data: [DONE]\n\n"
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


def _serve(port: Connection) -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    port.send(server.server_port)
    server.serve_forever()


def measure(calls: int) -> Figures:
    """Time ``calls`` calls each way against a server of its own."""
    # A fresh interpreter: a forked one would share the client's threads and locks.
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=_serve, args=(there,), daemon=True)
    process.start()
    try:
        url = f"http://127.0.0.1:{here.recv()}/v1"
        return asyncio.run(_measured(url, calls))
    finally:
        process.terminate()
        process.join()


async def _measured(url: str, calls: int) -> Figures:
    import openai

    client = openai.AsyncOpenAI(api_key="none", base_url=url, max_retries=0)
    model = LanguageModel(make_provider("openai", ProviderSettings("m", url)))
    rules = LanguageModel(make_provider("rules"))
    times: dict[str, list[float]] = {"bare": [], "layer": [], "rules": []}
    processor = dict.fromkeys(times, 0.0)
    for number in range(calls + _WARM_UP):
        for name in ("bare", "layer", "rules") if number % 2 else ("layer", "bare", "rules"):
            started, busy = time.perf_counter(), time.process_time()
            if name == "bare":
                await _bare(client)
            else:
                asked = make_request(COMMAND, deadline_in(10.0), TaskPlan)
                answer = await (model if name == "layer" else rules).ask(asked)
                assert isinstance(answer.value, TaskPlan) and answer.value.accepted
            if number >= _WARM_UP:
                times[name].append((time.perf_counter() - started) * 1e3)
                processor[name] += (time.process_time() - busy) * 1e3
    await model.close()
    await client.close()
    return Figures(
        calls,
        statistics.median(times["bare"]),
        _p95(times["bare"]),
        processor["bare"] / calls,
        statistics.median(times["layer"]),
        _p95(times["layer"]),
        processor["layer"] / calls,
        statistics.median(times["rules"]),
    )


async def _bare(client: Any) -> str:
    """The same request and the same reading of the stream, without anything around it."""
    asked = make_request(COMMAND, deadline_in(10.0), TaskPlan)
    messages = [{"role": "system", "content": system_text(asked.messages)}]
    messages += [{"role": role, "content": text} for role, text in turns(asked.messages)]
    stream = await client.chat.completions.create(
        model="m",
        messages=messages,
        max_tokens=1024,
        stream=True,
        stream_options={"include_usage": True},
        response_format={
            "type": "json_schema",
            "json_schema": {"name": "TaskPlan", "strict": True, "schema": json_schema(TaskPlan)},
        },
    )
    parts = [choice.delta.content or "" async for chunk in stream for choice in chunk.choices]
    return "".join(parts)


def _p95(times: Sequence[float]) -> float:
    return sorted(times)[int(0.95 * (len(times) - 1))]


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, and return 0 if the target is met and no plan is wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", type=int, default=300)
    parser.add_argument("--commands", type=Path, help="score the grammar on this list")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(arguments)
    figures = measure(options.calls)
    print(figures.table())
    wrong = 0
    counts: dict[str, int] = {}
    if options.commands is not None:
        verdicts = judge(read_commands(options.commands), read_command)
        print("\n" + table(verdicts))
        counts = {outcome: sum(item.outcome == outcome for item in verdicts) for outcome in
                  ("correct", "refused", "wrong")}  # fmt: skip
        wrong = counts["wrong"]
    if options.json is not None:
        write_text(options.json, json.dumps({**asdict(figures), "plans": counts}, indent=2))
    return 0 if figures.reached and not wrong else 1


if __name__ == "__main__":
    raise SystemExit(main())
