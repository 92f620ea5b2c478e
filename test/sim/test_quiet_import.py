# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Importing the simulator prints nothing."""

from __future__ import annotations

import subprocess
import sys


def test_importing_the_simulator_prints_nothing_of_its_own():
    code = "print('before'); import flow_rag_vla.sim.world; print('after')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "before\nafter\n" and done.stderr == ""
