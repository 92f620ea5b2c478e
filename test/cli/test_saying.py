# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""What went wrong is printed as it was said."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from flow_rag_vla.cli.saying import complain, warn

SENTENCES = (
    "av is missing; install it: pip install 'flow_rag_vla[web,labeling]'",
    "bag [/tmp/a] cannot be read",
    "line 1: 'root:x:0:0' is no number",
    f"{'a/' * 80}file.yaml does not exist",
)


@pytest.mark.parametrize("say", [complain, warn])
@pytest.mark.parametrize("sentence", SENTENCES)
def test_a_sentence_keeps_its_brackets_and_its_line(say, sentence):
    file = io.StringIO()
    say(Console(file=file, width=40), ValueError(sentence))
    assert file.getvalue() == sentence + "\n"
