# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""``flow_rag_vla language``: a language model over HTTP, behind tokens."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import typer
from rich.console import Console

from flow_rag_vla.cli.ask import complete_provider
from flow_rag_vla.cli.model_options import KEY_VARIABLE
from flow_rag_vla.cli.saying import complain, warn
from flow_rag_vla.cli.signals import ended_by_signals

if TYPE_CHECKING:
    from flow_rag_vla.gateway.access import Access


def language(
    host: str = typer.Option("127.0.0.1", help="Address to listen on."),
    port: int = typer.Option(8610, min=0, max=65535, help="Port to listen on; 0 takes a free one."),
    tokens: Path | None = typer.Option(None, help="Token file, see docs/live.md; none: one token is made and shown."),
    rules: list[Path] = typer.Option([], "--rules", help="Text or Markdown with building rules, for /analyze."),
    store: str = typer.Option(
        "", help="Passages to look into, see flow_rag_vla knowledge: a file or postgresql://...; empty: --rules alone."
    ),
    embedder: str = typer.Option("", help="minilm, local or openai; empty: EMBEDDING_PROVIDER, else minilm (English)."),
    embedder_model: str = typer.Option("", help="The embedder's model, as the passages were kept; empty: its default."),
    provider: str = typer.Option(
        "",
        "--provider",
        "-p",
        help="rules, claude, openai, local, or an added one; empty: LLM_PROVIDER.",
        autocompletion=complete_provider,
    ),
    model: str = typer.Option("", help="The provider's model; empty: its default."),
    base_url: str = typer.Option("", help="Server that speaks the provider's format."),
    key_variable: str = KEY_VARIABLE,
    requests_per_minute: float = typer.Option(60.0, min=0.1, help="Calls let through on average."),
) -> None:
    """Serve POST /api/language/ask, POST /api/language/analyze and GET /api/language/health until Ctrl-C.

    [bold]Examples[/bold]

      flow_rag_vla language

      flow_rag_vla language -p claude --rules building_code.md --port 8610

      flow_rag_vla language -p claude --store postgresql://lab@server/texts
    """
    from flow_rag_vla.llm.accounting import Ledger
    from flow_rag_vla.llm.cache import ResponseCache
    from flow_rag_vla.llm.embedding.base import EmbedderSettings
    from flow_rag_vla.llm.embedding.choice import make_embedder
    from flow_rag_vla.llm.errors import LlmError
    from flow_rag_vla.llm.knowledge import RULES, document_text, read_document
    from flow_rag_vla.llm.limits import TokenBucket
    from flow_rag_vla.llm.provider import ProviderSettings
    from flow_rag_vla.llm.registry import chosen_provider, make_provider
    from flow_rag_vla.llm.service import LanguageModel, ServiceSettings
    from flow_rag_vla.llm.text_store import TextStore

    console = Console(soft_wrap=True, highlight=False)
    try:
        from flow_rag_vla.gateway.access import AccessError
        from flow_rag_vla.gateway.app import make_app
        from flow_rag_vla.gateway.language.section import language_section
        from flow_rag_vla.gateway.server import Server, ServerError
    except ModuleNotFoundError as error:
        console.print(
            f"[red]this needs the module {error.name}; install it with: pip install 'flow_rag_vla\\[web]'[/red]"
        )
        raise typer.Exit(2) from None
    with tempfile.TemporaryDirectory(prefix="flow_rag_vla_language_") as folder:
        try:
            access = _access(console, tokens)
            ledger = Ledger()
            settings = ServiceSettings(
                requests=TokenBucket(requests_per_minute, 10.0), cache=ResponseCache(256, 600.0), ledger=ledger
            )
            served = LanguageModel(
                make_provider(chosen_provider(provider), ProviderSettings(model, base_url, key_variable)), settings
            )
            open_store = None
            if rules or store:
                where, made = (
                    store or str(Path(folder) / "rules.db"),
                    make_embedder(embedder, EmbedderSettings(embedder_model)),
                )

                def open_store() -> TextStore:
                    return TextStore(where, made)

                known = open_store()
                for document in rules:
                    console.print(f"{document}: {read_document(known, RULES, document)} passages")
                told = known.unread([document_text(document) for document in rules])
                if told:
                    warn(console, told)
                if store:
                    console.print(f"{known.name}: {len(known)} passages")
                known.close()
            app = make_app(access, [language_section(served, ledger, open_store)])
            with ended_by_signals() as ended, Server(app, host, port) as server:
                console.print(f"{served.provider.name}, {served.provider.model}, at {server.url}api/language/")
                ended.wait()
            console.print("stopped")
        except (AccessError, LlmError, ServerError) as error:
            complain(console, error)
            raise typer.Exit(2) from None


def _access(console: Console, tokens: Path | None) -> Access:
    from flow_rag_vla.gateway.access import Access, Role, load_access, new_token

    if tokens is not None:
        return load_access(tokens.expanduser())
    token, secret = new_token("labeller", Role.LABELLER)
    console.print(f"token, shown this once: {secret}")
    return Access([token])
