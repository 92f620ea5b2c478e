# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""``flow_rag_vla language``: serves until Ctrl-C, to who has its token."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import urllib.request


def test_it_answers_with_its_token_and_ends_on_ctrl_c() -> None:
    command = [sys.executable, "-u", "-m", "flow_rag_vla.cli.main", "language", "--port", "0"]
    environment = {**os.environ, "LLM_PROVIDER": "", "COLUMNS": "200"}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment)
    try:
        assert process.stdout is not None
        said = ""
        while " at http://" not in said:
            line = process.stdout.readline()
            assert line, said
            said += line
        address, secret = re.search(r"at (http://\S+)", said), re.search(r"once: (\S+)", said)
        assert address is not None and secret is not None
        body = json.dumps({"question": "open the drawer", "schema_name": "TaskPlan"}).encode()
        headers = {"Authorization": f"Bearer {secret[1]}", "Content-Type": "application/json"}
        asked = urllib.request.Request(f"{address[1]}ask", body, headers)
        with urllib.request.urlopen(asked, timeout=60) as answer:
            assert json.load(answer)["value"]["steps"] == [
                {"task": "open_drawer", "target": "drawer", "speed_scale": 1.0}
            ]
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0
        assert "stopped" in process.stdout.read()
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
