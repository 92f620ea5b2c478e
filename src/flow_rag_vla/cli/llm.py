# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""``flow_rag_vla llm``: a language model of one's own, from what the robot went through to a provider by name."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import typer
from rich.console import Console

from flow_rag_vla.cli.progress import counted
from flow_rag_vla.cli.saying import warn
from flow_rag_vla.cli.signals import INTERRUPTED

if TYPE_CHECKING:
    from flow_rag_vla.data.episode_record import EpisodeRecord

app = typer.Typer(
    help="Fine-tune a language model on this robot's commands and failures, and use it as a provider.",
    no_args_is_help=True,
)

HELD_OUT = 0.1
"""Share of the conversations that no training sees: the fixed sample that models are compared on."""


@contextmanager
def _told() -> Iterator[None]:
    """What goes wrong becomes one line and exit code 1."""
    from flow_rag_vla.llm.errors import LlmError

    try:
        yield
    except (LlmError, ValueError, OSError) as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from None


@app.command()
def prepare(
    episodes: list[Path] = typer.Argument(None, help="Folders with episode records: runs, or their episodes folders."),
    output: Path = typer.Option(..., "--to", help="JSON lines file to write."),
    database: Path = typer.Option(None, "--database", "-d", help="A failure memory, for its reviewed cases."),
    floor_plans: list[Path] = typer.Option(
        [], "--floor-plans", help="Folder with pairs NAME.topology.json and NAME.analysis.json; repeat it for more."
    ),
) -> None:
    """Write conversations to learn from: commands and plans, failures and causes, floor plans and their analyses.

    Taken are episodes that succeeded without a person, cases with a trusted correction that are not retired, and
    analyses that somebody reviewed. Which file of a pair is not taken, and why, is said.

    [bold]Examples[/bold]

      flow_rag_vla llm prepare runs/*/episodes --to lessons.jsonl

      flow_rag_vla llm prepare runs/2026-01-31_12-00-00 -d ~/.ros/flow_rag_vla/failure_memory.db --to lessons.jsonl

      flow_rag_vla llm prepare --floor-plans reviewed --to lessons.jsonl
    """
    from flow_rag_vla.data.episode_record import read_records
    from flow_rag_vla.learn.conversations import gathered
    from flow_rag_vla.llm.fine_tuning.conversations import Conversation, write_conversations
    from flow_rag_vla.llm.fine_tuning.floor_plans import floor_plan_conversations
    from flow_rag_vla.memory.store import FailureStore, StoreError

    console = Console(soft_wrap=True, highlight=False)
    records: list[EpisodeRecord] = []
    for folder in episodes or []:
        if not folder.is_dir():
            raise typer.BadParameter(f"{folder} is no folder")
        inside = folder / "episodes"
        found, problems = read_records(inside if inside.is_dir() else folder)
        records.extend(found)
        for problem in problems:
            warn(console, problem)
    analyses: list[Conversation] = []
    for folder in floor_plans:
        if not folder.is_dir():
            raise typer.BadParameter(f"{folder} is no folder")
        learned, refused = floor_plan_conversations(folder)
        analyses.extend(learned)
        for problem in refused:
            warn(console, problem)
    with _told():
        store = None
        try:
            store = FailureStore(database.expanduser(), create=False) if database is not None else None
            conversations = [*gathered(records, store), *analyses]
        except StoreError as error:
            raise ValueError(str(error)) from error
        finally:
            if store is not None:
                store.close()
        if not conversations:
            raise ValueError(
                f"{len(records)} episodes, {'a' if database else 'no'} failure memory and {len(floor_plans)} folders "
                "of floor plans hold nothing to learn from: no success with known words, no active case with evidence "
                "and a trusted correction, no plan with a reviewed analysis"
            )
        count = write_conversations(output, conversations)
    console.print(f"{output}: {count} conversations of {len(conversations)}; the others ask what another one asks")


@app.command()
def train(
    conversations: Path = typer.Argument(..., help="JSON lines file, as prepare writes."),
    base: str = typer.Option(..., help="Folder or hub id of the model to start from."),
    folder: Path = typer.Option(..., "--to", help="Folder of the training; one that is there is gone on with."),
    epochs: int = typer.Option(3, min=1, help="Times that each conversation is seen."),
    rank: int = typer.Option(16, min=1, help="Rank of the adapter."),
    alpha: int = typer.Option(32, min=1, help="Its scale, over the rank."),
    dropout: float = typer.Option(0.05, min=0.0, max=0.9, help="Of the adapter's input."),
    batch: int = typer.Option(4, min=1, help="Conversations at once."),
    accumulate: int = typer.Option(4, min=1, help="Batches a step."),
    rate: float = typer.Option(2e-4, min=1e-7, max=0.5, help="Peak learning rate."),
    longest: int = typer.Option(2048, min=8, help="Tokens of a conversation; longer ones are left out."),
    quantized: bool = typer.Option(False, "--quantized", help="QLoRA: 4 bits a weight. Needs CUDA and bitsandbytes."),
    gradient_checkpointing: bool = typer.Option(
        False,
        "--gradient-checkpointing",
        help="Compute layers again on the way back instead of keeping them: less memory, more time. Quantized always.",
    ),
    save_every: int = typer.Option(50, min=1, help="Steps between checkpoints."),
    seed: int = typer.Option(0, min=0, help="Of everything random."),
    device: str = typer.Option("auto", help="auto, cpu or cuda."),
) -> None:
    """Train a LoRA adapter. Ctrl-C saves a checkpoint; the same command goes on from there.

    A tenth of the conversations, always the same, is kept for [bold]compare[/bold].

    [bold]Examples[/bold]

      flow_rag_vla llm train lessons.jsonl --base ~/models/EXAONE-4.0-1.2B --to tuning --quantized

      flow_rag_vla llm train lessons.jsonl --base ~/models/small --to tuning --epochs 1 --device cpu
    """
    from flow_rag_vla.llm.fine_tuning.conversations import read_conversations, split
    from flow_rag_vla.llm.fine_tuning.settings import TrainingSettings

    console = Console(soft_wrap=True, highlight=False)
    with _told():
        seen, kept = split(read_conversations(conversations), HELD_OUT)
        settings = TrainingSettings(
            rank, alpha, dropout, epochs, batch, accumulate, rate, longest=longest, quantized=quantized,
            save_every=save_every, seed=seed, device=device, gradient_checkpointing=gradient_checkpointing,
        )  # fmt: skip
        if not seen:
            raise ValueError(f"{conversations} holds {len(kept)} conversations, all of the fixed sample; prepare more")
        console.print(f"{len(seen)} conversations to learn, {len(kept)} kept for compare")
        from flow_rag_vla.llm.fine_tuning.training import train as trained

        planned = 0

        with _interrupted() as stop, counted("steps") as bar:

            def on_step(step: int, total: int, loss: float) -> None:
                nonlocal planned
                planned = total
                bar(step, total)

            result = trained(base, seen, folder, settings, on_step, stop)
    first, last = result.losses[0], result.losses[-1]
    console.print(f"{result.adapter}: {result.steps} steps, loss {first:.3f} to {last:.3f}, {result.left_out} left out")
    if result.steps < planned:
        console.print("[yellow]stopped[/yellow]; the same command goes on")
        raise typer.Exit(INTERRUPTED)


@app.command()
def merge(
    adapter: Path = typer.Argument(..., help="Folder of the adapter: the training's, or its adapter folder."),
    folder: Path = typer.Option(..., "--to", help="Folder of the merged model; must not exist."),
    device: str = typer.Option("cpu", help="cpu or cuda."),
) -> None:
    """Make adapter and base one model, and check that it answers as the adapter does.

    [bold]Examples[/bold]

      flow_rag_vla llm merge tuning --to ~/models/robot-plans
    """
    with _told():
        from flow_rag_vla.llm.fine_tuning.merging import merge as merged
        from flow_rag_vla.llm.fine_tuning.training import ADAPTER

        inside = adapter / ADAPTER
        difference = merged(inside if inside.is_dir() else adapter, folder, device)
    Console(soft_wrap=True, highlight=False).print(
        f"{folder}: logits differ from the adapter's by at most {difference:.2g}"
    )


@app.command()
def compare(
    conversations: Path = typer.Argument(..., help="JSON lines file, as prepare writes."),
    model: str = typer.Option(..., help="Folder of the merged model, or a provider's name."),
    reference: str = typer.Option("rules", help="Provider to compare with."),
    reference_model: str = typer.Option("", help="Its model; empty: its default."),
    seconds: float = typer.Option(60.0, min=0.1, help="For each answer."),
    most: int = typer.Option(100, min=1, help="Questions at most."),
) -> None:
    """Ask a model and a reference provider the fixed sample that no training saw.

    [bold]Examples[/bold]

      flow_rag_vla llm compare lessons.jsonl --model ~/models/robot-plans

      flow_rag_vla llm compare lessons.jsonl --model robot-plans --reference claude
    """
    from flow_rag_vla.llm.fine_tuning.comparing import compare as compared
    from flow_rag_vla.llm.fine_tuning.comparing import table
    from flow_rag_vla.llm.fine_tuning.conversations import read_conversations, split
    from flow_rag_vla.llm.provider import ProviderSettings
    from flow_rag_vla.llm.registry import make_provider, provider_names
    from flow_rag_vla.llm.service import LanguageModel

    with _told():
        sample = split(read_conversations(conversations), HELD_OUT)[1][:most]
        if not sample:
            raise ValueError(f"{conversations} has no conversation in the fixed sample; prepare more")
        named = model in provider_names()
        candidate = make_provider(model if named else "local", ProviderSettings("" if named else model))
        other = make_provider(reference, ProviderSettings(reference_model))

        async def asked(bar: Callable[[int, int], None]) -> str:
            both = LanguageModel(candidate), LanguageModel(other)
            try:
                return table(await compared(*both, sample, seconds, bar))
            finally:
                for one in both:
                    await one.close()

        with counted("questions") as bar:
            text = asyncio.run(asked(bar))
    Console(soft_wrap=True, highlight=False).print(text, markup=False)


@app.command()
def register(
    name: str = typer.Argument(..., help="What the provider will be called."),
    folder: Path = typer.Argument(..., help="Folder of the model."),
    english_only: bool = typer.Option(False, "--english-only", help="It understands no other language."),
    translator: str = typer.Option(
        "", help="Folder or hub id of a model that translates Korean questions for it; with --english-only."
    ),
    translator_back: str = typer.Option("", help="Of one that translates answers in words; empty: they stay English."),
    translator_codes: str = typer.Option(
        "", help="Codes of Korean and English, for a model of many languages: 'kor_Hang eng_Latn'."
    ),
) -> None:
    """Make a model a provider: by its name in every place where a provider is chosen.

    [bold]Examples[/bold]

      flow_rag_vla llm register robot-plans ~/models/robot-plans

      flow_rag_vla llm register small ~/models/small --english-only --translator ~/models/opus-mt-ko-en

      flow_rag_vla ask "open the drawer" -p robot-plans
    """
    from flow_rag_vla.llm.fine_tuning.registration import OwnModel, own_models
    from flow_rag_vla.llm.fine_tuning.registration import register as registered
    from flow_rag_vla.llm.registry import provider_names

    with _told():
        taken = tuple(one for one in provider_names() if one not in own_models())
        own = OwnModel(name, str(folder), english_only, translator, translator_back, translator_codes)
        path = registered(own, taken)
    Console(soft_wrap=True, highlight=False).print(f"{name}: {path}")


@app.command()
def unregister(name: str = typer.Argument(..., help="The provider's name.")) -> None:
    """Forget a provider of one's own; the model's folder stays.

    [bold]Examples[/bold]

      flow_rag_vla llm unregister robot-plans
    """
    from flow_rag_vla.llm.fine_tuning.registration import unregister as forgotten

    with _told():
        forgotten(name)


@app.command("list")
def list_models() -> None:
    """List the providers of one's own.

    [bold]Examples[/bold]

      flow_rag_vla llm list
    """
    from flow_rag_vla.llm.fine_tuning.registration import own_models

    console = Console(soft_wrap=True, highlight=False)
    models = own_models()
    for model in models.values():
        said = "  English only" if model.english_only else ""
        said += f", Korean through {model.translator}" if model.translator else ""
        console.print(f"{model.name}  {model.folder}{said}", markup=False)
    if not models:
        console.print("none is registered; see flow_rag_vla llm register --help")


@contextmanager
def _interrupted() -> Iterator[Callable[[], bool]]:
    """Whether Ctrl-C was pressed: the first press is only noted, the second one ends the command."""
    pressed: list[int] = []

    def note(number: int, frame: object) -> None:
        if pressed:
            raise KeyboardInterrupt
        pressed.append(number)

    before = signal.signal(signal.SIGINT, note)
    try:
        yield lambda: bool(pressed)
    finally:
        signal.signal(signal.SIGINT, before)
