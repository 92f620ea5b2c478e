"""Children end with their parent, however it ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

CHILD = "from flow_rag_vla.core.processes import end_with_parent; end_with_parent(); print('up', flush=True); input()"
PARENT = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {CHILD!r}], stdin=subprocess.PIPE)"


def test_a_child_ends_when_its_parent_is_killed():
    # The pipe of the child's output ends when the child does: that is the event waited for.
    reader, writer = os.pipe()
    parent = subprocess.Popen([sys.executable, "-c", PARENT.replace("run(", "Popen(") + "; sys.stdin.read()"],
                              stdin=subprocess.PIPE, stdout=writer)  # fmt: skip
    os.close(writer)
    with os.fdopen(reader) as output:
        assert output.readline() == "up\n"
        parent.send_signal(signal.SIGKILL)
        parent.wait()
        assert output.read() == ""
