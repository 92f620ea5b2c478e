# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""``flow_rag_vla reference``: the generated page, parameter file and picture."""

from __future__ import annotations

import typer


def complete_theme(incomplete: str) -> list[str]:
    """Themes for the shell's completion."""
    return [name for name in ("light", "dark") if name.startswith(incomplete)]


def reference(
    yaml: bool = typer.Option(False, "--yaml", help="Print the parameter file instead of the page."),
    picture: str = typer.Option(
        "", "--picture", help="Print the graph as SVG instead: light or dark.", autocompletion=complete_theme
    ),
) -> None:
    """Print the reference of nodes, topics and parameters (docs/reference.md), config/flow_rag_vla.yaml or a picture.

    [bold]Examples[/bold]

      flow_rag_vla reference > docs/reference.md

      flow_rag_vla reference --yaml > my_parameters.yaml

      flow_rag_vla reference --picture dark > docs/figures/graph-dark.svg
    """
    if yaml and picture:
        raise typer.BadParameter("--yaml and --picture were both given; give one of them")
    if picture:
        from flow_rag_vla.bringup.graph_picture import THEMES, graph_svg

        if picture not in THEMES:
            raise typer.BadParameter(f"--picture is {picture!r}, expected one of {', '.join(THEMES)}")
        typer.echo(graph_svg(picture), nl=False)
        return
    from flow_rag_vla.bringup.reference import parameters_file, reference_page

    typer.echo(parameters_file() if yaml else reference_page(), nl=False)
