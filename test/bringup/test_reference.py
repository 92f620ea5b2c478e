"""The generated files are those that were generated."""

from __future__ import annotations

from flow_rag_vla.bringup.graph import EVERY_NODE
from flow_rag_vla.bringup.reference import parameters_file, reference_page
from flow_rag_vla.bringup.resources import share_folder
from flow_rag_vla.core.parameters import parameter_table


def test_the_reference_page_is_the_one_the_declarations_make():
    assert (share_folder() / "docs" / "reference.md").read_text() == reference_page()


def test_the_parameter_file_is_the_one_the_declarations_make():
    assert (share_folder() / "config" / "flow_rag_vla.yaml").read_text() == parameters_file()


def test_the_page_has_every_parameter_of_every_node():
    page = reference_page()
    for spec in EVERY_NODE:
        section = page.split(f"### {spec.name}\n")[1].split("\n### ")[0]
        for info in parameter_table(spec.parameters):
            assert f"| `{info.name}` |" in section
