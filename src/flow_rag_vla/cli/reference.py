"""``flow_rag_vla reference``: the generated page and parameter file."""

from __future__ import annotations

import typer


def reference(
    yaml: bool = typer.Option(False, "--yaml", help="Print the parameter file instead of the page."),
) -> None:
    """Print the reference of nodes, topics and parameters (docs/reference.md) or config/flow_rag_vla.yaml.

    [bold]Examples[/bold]

      flow_rag_vla reference > docs/reference.md

      flow_rag_vla reference --yaml > my_parameters.yaml
    """
    from flow_rag_vla.bringup.reference import parameters_file, reference_page

    typer.echo(parameters_file() if yaml else reference_page(), nl=False)
