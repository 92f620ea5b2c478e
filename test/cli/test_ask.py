# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""The console command ``ask``: plans without network."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from flow_rag_vla.cli.main import app

sys.path.insert(0, str(Path(__file__).parents[1] / "llm"))
from wire import SECRET, Reply, WireServer

PLAN = {"steps": [{"task": "pick_and_place", "target": "red_cube"}], "refusal": "none", "reason": ""}
ASKS = {"action": "call", "tool": "friction", "arguments": '{"thing": "red_cube"}'}
READY = {"action": "ready", "tool": "", "arguments": ""}


def invoke(*arguments: str, **environment: str) -> Result:
    env = {"COLUMNS": "200", "LLM_PROVIDER": "", **environment}
    return CliRunner().invoke(app, ["ask", *arguments], env=env)


def test_the_documented_command_is_planned():
    result = invoke("pick the red cube and put it in the blue bin")
    assert result.exit_code == 0, result.output
    assert "1. put the red cube in the bin" in result.output and "rules" in result.output


def test_a_plan_is_printed_as_json_too():
    result = invoke("서랍을 열고 빨간 큐브를 통에 넣어줘", "--json")
    assert [step["target"] for step in json.loads(result.output)["steps"]] == ["drawer", "red_cube"]


def test_a_step_that_is_to_be_done_slowly_says_so():
    words = "open the drawer slowly and put the red cube in the bin"
    lines = invoke(words).output.splitlines()
    assert "1. open the drawer at 50% of the speed  open_drawer drawer" in lines
    assert "2. put the red cube in the bin  pick_and_place red_cube" in lines
    assert [step["speed_scale"] for step in json.loads(invoke(words, "--json").output)["steps"]] == [0.5, 1.0]


def test_a_refusal_says_why_and_is_an_error():
    result = invoke("don't open the drawer")
    assert result.exit_code == 1 and "refused (negated)" in result.output and "don't" in result.output


@pytest.mark.parametrize(
    ("arguments", "environment", "said"),
    [
        (["x", "-p", "claude"], {"ANTHROPIC_API_KEY": ""}, "ANTHROPIC_API_KEY"),
        (["x"], {"LLM_PROVIDER": "oracle"}, "known: rules"),
        ([""], {}, "no words"),
    ],
)
def test_what_is_missing_is_one_line(arguments, environment, said):
    result = invoke(*arguments, **environment)
    assert result.exit_code == 1 and said in result.output and "Traceback" not in result.output


def test_planning_imports_no_model_no_client_and_no_ros():
    code = (
        "import sys\n"
        "from typer.testing import CliRunner\n"
        "from flow_rag_vla.cli.main import app\n"
        "assert CliRunner().invoke(app, ['ask', 'open the drawer']).exit_code == 0\n"
        "heavy = {'torch', 'transformers', 'anthropic', 'openai', 'rclpy', 'llguidance', 'mcp'} & set(sys.modules)\n"
        "sys.exit(str(heavy) if heavy else 0)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr


def test_a_plan_that_the_words_do_not_bear_out_is_not_done_without_a_person(monkeypatch: pytest.MonkeyPatch) -> None:
    server = WireServer("openai")
    try:
        monkeypatch.setenv("OPENAI_API_KEY", "sk-test")
        server.replies = [Reply((json.dumps(PLAN),))]
        arguments = ["ask", "tidy up a bit", "--run", "-p", "openai", "--model", "m", "--base-url", f"{server.url}/v1"]
        result = CliRunner().invoke(app, arguments)
    finally:
        server.close()
    assert result.exit_code == 1, result.output
    assert "which the command does not name" in result.output and "has to say yes" in result.output


@pytest.fixture
def wire():
    """A server that stands for a language model, and the options that name it."""
    server = WireServer("openai")
    yield server, ("-p", "openai", "--model", "m", "--base-url", f"{server.url}/v1")
    server.close()


@pytest.fixture
def tool(tmp_path):
    """The command line of the tests' tool server, and ``ended()``: whether the process that it was has ended."""
    # It keeps the error output that it is imported under for its servers, and the runner's has no file descriptor.
    pytest.importorskip("mcp")
    note, program = tmp_path / "pid", Path(__file__).parents[1] / "llm" / "tool_server.py"
    code = (
        f"import os, runpy; open('{note}', 'w').write(str(os.getpid())); runpy.run_path('{program}', None, '__main__')"
    )

    def ended() -> bool:
        pid = int(note.read_text())
        stat = Path(f"/proc/{pid}/stat")
        return not stat.exists() or ") Z " in stat.read_text()

    return f'{sys.executable} -c "{code}"', ended


def test_a_tool_is_used_for_a_plan_and_its_server_has_ended_with_it(wire, tool):
    server, hosted = wire
    command, ended = tool
    server.replies = [Reply((json.dumps(answer),)) for answer in (ASKS, READY, PLAN)]
    result = invoke("put away what slips", *hosted, "--tool", command)
    assert result.exit_code == 0, result.output
    assert "tool friction answered" in result.output and "1. put the red cube in the bin" in result.output
    assert "move_arm" not in str(server.requests[0]) and "0.31" in str(server.requests[-1])
    assert ended()


def test_beside_a_plan_as_json_the_tools_are_told_on_the_error_output(wire, tool):
    server, hosted = wire
    server.replies = [Reply((json.dumps(answer),)) for answer in (READY, PLAN)]
    result = invoke("put away what slips", *hosted, "--tool", tool[0], "--json")
    assert [step["target"] for step in json.loads(result.stdout)["steps"]] == ["red_cube"]
    assert "no tool was used" in result.stderr


def test_a_tool_that_does_not_declare_to_be_read_only_is_offered_if_it_is_allowed_by_name(wire, tool):
    server, hosted = wire
    server.replies = [Reply((json.dumps(answer),)) for answer in (READY, PLAN)]
    assert invoke("x", *hosted, "--tool", tool[0], "--allow-tool", "move_arm").exit_code == 0
    assert "move_arm" in str(server.requests[0]) and "friction" not in str(server.requests[0])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--tool", "/nowhere/server"), "has to start an MCP server"),
        (("--tool", "python 'unclosed"), "is no command line: No closing quotation"),
        (("--allow-tool", "fly"), "name its server with --tool"),
    ],
)
def test_a_tool_server_that_is_none_is_one_line_with_its_remedy(arguments, said):
    result = invoke("open the drawer", *arguments)
    assert result.exit_code == 1 and said in result.output and "Traceback" not in result.output, result.output
    assert "1. " not in result.output


def test_a_tool_that_no_server_has_ends_the_server_too(tool):
    command, ended = tool
    result = invoke("open the drawer", "--tool", command, "--allow-tool", "fly")
    assert result.exit_code == 1 and "no server has a tool 'fly'" in result.output and ended()


def test_a_tool_server_ends_at_the_deadline_of_a_model_that_hangs(wire, tool):
    server, hosted = wire
    command, ended = tool
    server.replies = [Reply(("thinking",), hang=True)]
    result = invoke("x", *hosted, "--tool", command, "--deadline", "6")
    assert result.exit_code == 1 and "deadline" in result.output and ended()


def test_ctrl_c_ends_a_tool_server_with_the_command(wire, tool):
    server, hosted = wire
    command, ended = tool
    server.replies = [Reply(("thinking",), hang=True)]
    arguments = [sys.executable, "-m", "flow_rag_vla.cli.main", "ask", "x", *hosted, "--tool", command]
    process = subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        ends = time.monotonic() + 60.0
        while not server.requests and time.monotonic() < ends:
            time.sleep(0.02)
        assert server.requests
        os.kill(process.pid, signal.SIGINT)
        said, _ = process.communicate(timeout=60.0)
    finally:
        process.kill()
        process.wait()
    assert process.returncode != 0 and "Traceback" not in said and ended(), said


def test_the_key_of_a_server_is_that_of_the_variable_named_for_it(wire, monkeypatch):
    server, hosted = wire
    monkeypatch.setenv("LAB_KEY", SECRET)
    server.replies = [Reply((json.dumps(PLAN),))]
    result = invoke("x", *hosted, "--key-variable", "LAB_KEY")
    assert result.exit_code == 0 and SECRET not in result.output
    assert server.headers[0]["authorization"] == f"Bearer {SECRET}" and SECRET not in str(server.requests)


def test_a_key_given_for_its_variables_name_is_refused_and_not_shown():
    result = invoke("x", "-p", "claude", "--key-variable", SECRET)
    assert result.exit_code == 1 and "not the name of an environment variable" in result.output
    assert SECRET not in result.output


def test_a_model_that_still_loads_does_not_keep_the_command_behind_its_deadline(tmp_path):
    hangs = (
        "import sys, time\n"
        "from flow_rag_vla.cli.main import main\n"
        "from flow_rag_vla.llm.providers import local\n"
        "local.load = lambda *_model: time.sleep(600)\n"
        f"sys.argv = ['flow_rag_vla', 'ask', 'open the drawer', '-p', 'local', '--model', {str(tmp_path)!r}, "
        "'--deadline', '0.5']\n"
        "main()\n"
    )
    # Far less than the model takes; what it takes in truth is not looked at.
    done = subprocess.run([sys.executable, "-c", hangs], capture_output=True, text=True, check=False, timeout=240)
    said = "no plan (deadline): no answer before the deadline: model"
    assert done.returncode == 1 and said in done.stderr and "is not loaded yet" in done.stderr, (
        done.stdout + done.stderr
    )
