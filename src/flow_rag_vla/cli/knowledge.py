# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""``flow_rag_vla knowledge``: documents and failures as passages, found by meaning and cited by answers."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table

from flow_rag_vla.cli.ask import complete_provider
from flow_rag_vla.cli.model_options import ALLOWED_TOOLS, KEY_VARIABLE, TOOLS, ask_model
from flow_rag_vla.cli.saying import complain, warn
from flow_rag_vla.cli.signals import INTERRUPTED

if TYPE_CHECKING:
    from flow_rag_vla.llm.embedding.base import TextEmbedder
    from flow_rag_vla.llm.text_store import Passage

app = typer.Typer(
    help="Keep documents and failures as passages, find them by meaning, and ask with citations.", no_args_is_help=True
)

STORE = typer.Option(
    "~/.ros/flow_rag_vla/knowledge.db",
    "--store",
    "-s",
    help="File, or postgresql://user:password@host/database?namespace=lab.",
)
EMBEDDER = typer.Option("", "--embedder", "-e", help="minilm, local or openai; empty: EMBEDDING_PROVIDER, else minilm.")
EMBEDDER_MODEL = typer.Option("", help="The embedder's model: a folder, hub id or name; empty: its default.")
COLLECTION = typer.Option("manual", "--collection", "-c", help="manual, building_rule, failure_case, or one of yours.")
COLLECTIONS = typer.Option([], "--collection", "-c", help="Look in this one only; repeat it for more.")
NEAREST = typer.Option(5, "-k", min=1, max=64, help="Passages that are found.")

_SHOWN = 300
"""Characters of a passage that a list shows."""


@contextmanager
def _told() -> Iterator[Console]:
    """What goes wrong becomes one line and exit code 2."""
    from flow_rag_vla.llm.errors import LlmError

    console = Console(soft_wrap=True, highlight=False)
    try:
        yield console
    except LlmError as error:
        complain(console, error)
        raise typer.Exit(2) from None
    except KeyboardInterrupt:
        console.print("stopped; what was kept stays")
        raise typer.Exit(INTERRUPTED) from None


def _embedder(name: str, model: str) -> TextEmbedder:
    from flow_rag_vla.llm.embedding.base import EmbedderSettings
    from flow_rag_vla.llm.embedding.choice import make_embedder

    return make_embedder(name, EmbedderSettings(model))


@app.command()
def add(
    documents: list[Path] = typer.Argument(..., help="Text or Markdown files, UTF-8."),
    store: str = STORE,
    collection: str = COLLECTION,
    embedder: str = EMBEDDER,
    embedder_model: str = EMBEDDER_MODEL,
) -> None:
    """Take documents in. A document that was there is replaced.

    [bold]Examples[/bold]

      flow_rag_vla knowledge add gripper.md arm.md

      flow_rag_vla knowledge add building_code.md -c building_rule --store postgresql://lab@server/texts
    """
    from flow_rag_vla.llm.knowledge import document_text, read_document
    from flow_rag_vla.llm.text_store import TextStore

    with _told() as console:
        # A wrong name is said before a model is loaded for the right ones.
        texts = [document_text(document.expanduser()) for document in documents]
        opened = TextStore(store, _embedder(embedder, embedder_model))
        try:
            for document in documents:
                console.print(f"{document}: {read_document(opened, collection, document.expanduser())} passages")
            _warn(console, opened.unread(texts))
        finally:
            opened.close()


@app.command()
def cases(
    database: Path = typer.Argument(..., help="Database of a failure memory; it is only read."),
    store: str = STORE,
    embedder: str = EMBEDDER,
    embedder_model: str = EMBEDDER_MODEL,
) -> None:
    """Take the active cases of a failure memory in, in words. What was known of that memory before is replaced.

    [bold]Examples[/bold]

      flow_rag_vla knowledge cases ~/.ros/flow_rag_vla/failure_memory.db
    """
    from flow_rag_vla.learn.conversations import cases_of
    from flow_rag_vla.llm.knowledge import CASES, case_text
    from flow_rag_vla.llm.text_store import TextStore
    from flow_rag_vla.memory.store import FailureStore, StoreError

    with _told() as console:
        try:
            memory = FailureStore(database.expanduser(), create=False)
        except StoreError as error:
            complain(console, error)
            raise typer.Exit(2) from None
        try:
            texts = [
                f"case {case.case_id}: "
                + case_text(case.failure_type, case.task, case.phase, case.evidence, case.correction_source, case.note)
                for case in cases_of(memory)
            ]
        finally:
            memory.close()
        opened = TextStore(store, _embedder(embedder, embedder_model))
        try:
            console.print(f"{database}: {opened.add(CASES, database.name, texts)} cases")
            _warn(console, opened.unread(texts))
        finally:
            opened.close()


@app.command()
def search(
    query: str = typer.Argument(..., help="What to look for, in words."),
    store: str = STORE,
    collection: list[str] = COLLECTIONS,
    k: int = NEAREST,
    embedder: str = EMBEDDER,
    embedder_model: str = EMBEDDER_MODEL,
) -> None:
    """Show the passages nearest in meaning. Needs no language model.

    [bold]Examples[/bold]

      flow_rag_vla knowledge search "the gripper closed on nothing" -c failure_case -k 3
    """
    with _told() as console:
        from flow_rag_vla.llm.text_store import TextStore, held_by

        held_by(store)
        opened = TextStore(store, _embedder(embedder, embedder_model))
        try:
            found = opened.search(query, k, collection)
            _warn(console, opened.unread([query]))
        finally:
            opened.close()
        _show_passages(console, found)
        if not found:
            console.print("nothing is known there")
            raise typer.Exit(1)


@app.command()
def ask(
    question: str = typer.Argument(..., help="The question."),
    store: str = STORE,
    collection: list[str] = COLLECTIONS,
    k: int = NEAREST,
    provider: str = typer.Option(
        "", "--provider", "-p", help="As in flow_rag_vla ask; rules cannot.", autocompletion=complete_provider
    ),
    model: str = typer.Option("", help="The provider's model; empty: its default."),
    base_url: str = typer.Option("", help="Server that speaks the provider's format."),
    key_variable: str = KEY_VARIABLE,
    tool: list[str] = TOOLS,
    allow_tool: list[str] = ALLOWED_TOOLS,
    deadline: float = typer.Option(60.0, min=0.1, max=3600.0, help="Seconds for the answer."),
    embedder: str = EMBEDDER,
    embedder_model: str = EMBEDDER_MODEL,
) -> None:
    """Answer from the passages alone, with those that the answer rests on. What they do not say is not answered.

    [bold]Examples[/bold]

      flow_rag_vla knowledge ask "how wide does the gripper open?" -p openai --base-url http://localhost:11434/v1
    """
    from flow_rag_vla.llm.knowledge import CitedAnswer, answer_request
    from flow_rag_vla.llm.provider import ProviderSettings
    from flow_rag_vla.llm.registry import chosen_provider, make_provider
    from flow_rag_vla.llm.request import Answer, deadline_in
    from flow_rag_vla.llm.service import LanguageModel
    from flow_rag_vla.llm.text_store import TextStore, held_by

    async def asked() -> tuple[Answer, list[Passage]]:
        language_model = LanguageModel(made)
        try:
            request, found = answer_request(question, opened, deadline_in(deadline), collections=collection, k=k)
            return await ask_model(language_model, request, tool, allow_tool, typer.echo), found
        finally:
            await language_model.close()

    with _told() as console:
        made = make_provider(chosen_provider(provider), ProviderSettings(model, base_url, key_variable))
        held_by(store)
        opened = TextStore(store, _embedder(embedder, embedder_model))
        try:
            _warn(console, opened.unread([question]))
            answer, found = asyncio.run(asked())
        finally:
            opened.close()
        assert isinstance(answer.value, CitedAnswer)  # the service checked it
        console.print(escape(answer.value.answer))
        numbers = {f"R{number}": passage for number, passage in enumerate(found, 1)}
        _show_passages(console, [numbers[citation] for citation in dict.fromkeys(answer.value.citations)])
        raise typer.Exit(0 if answer.value.known else 1)


@app.command()
def show(store: str = STORE) -> None:
    """Show what is kept, and by which embedder it can be searched.

    [bold]Examples[/bold]

      flow_rag_vla knowledge show --store postgresql://lab@server/texts
    """
    from flow_rag_vla.llm.text_store import opened_to_look

    with _told() as console:
        opened = opened_to_look(store)
        try:
            table = Table("collection", "source", "passages")
            for collection, source, count in opened.sources():
                table.add_row(escape(collection), escape(source), str(count))
            console.print(table)
            console.print(f"{escape(opened.name)}: {len(opened)} passages, embedded by {escape(str(opened.stamp))}")
            if opened.previous is not None:
                console.print(f"vectors of {escape(str(opened.previous))} are kept: see knowledge rollback")
        finally:
            opened.close()


@app.command()
def migrate(
    store: str = STORE,
    embedder: str = typer.Option(..., "--to", help="minilm, local or openai."),
    embedder_model: str = typer.Option("", "--to-model", help="Its model; empty: its default."),
) -> None:
    """Embed every passage with another embedder, then swap. Ctrl-C changes nothing; the same command goes on.

    The old vectors answer until the swap and are kept for [bold]rollback[/bold].

    [bold]Examples[/bold]

      flow_rag_vla knowledge migrate --to local --to-model BM-K/KoSimCSE-roberta
    """
    from flow_rag_vla.llm.text_store import held_by
    from flow_rag_vla.llm.text_store import migrate as migrated

    columns = (TextColumn("passages"), BarColumn(), MofNCompleteColumn())
    with _told() as console:
        held_by(store)
        made = _embedder(embedder, embedder_model)
        with Progress(*columns, console=console, transient=True) as progress:
            task = progress.add_task("passages", total=None)
            opened = migrated(store, None, made, lambda done, whole: progress.update(task, completed=done, total=whole))
        console.print(f"{len(opened)} passages, now embedded by {escape(str(opened.stamp))}")
        opened.close()


@app.command()
def rollback(
    store: str = STORE,
    embedder: str = typer.Option(..., "--to", help="The embedder before: minilm, local or openai."),
    embedder_model: str = typer.Option("", "--to-model", help="Its model; empty: its default."),
) -> None:
    """Go back to the vectors before the last migration. What was added since is embedded with that embedder first.

    [bold]Examples[/bold]

      flow_rag_vla knowledge rollback --to minilm
    """
    from flow_rag_vla.llm.text_store import roll_back

    with _told() as console:
        opened = roll_back(store, None, _embedder(embedder, embedder_model))
        console.print(f"{len(opened)} passages, embedded by {escape(str(opened.stamp))} again")
        opened.close()


def _warn(console: Console, sentence: str) -> None:
    if sentence:
        warn(console, sentence)


def _show_passages(console: Console, found: list[Passage]) -> None:
    for passage in found:
        text = " ".join(passage.text.split())
        cut = text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
        where = f"{passage.collection} {passage.source}#{passage.position}"
        console.print(f"[cyan]{escape(where)}[/cyan]  {passage.score:.2f}  {escape(cut)}")
