"""The console command ``ask``: plans without network."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from flow_rag_vla.cli.main import app


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
    sys.path.insert(0, str(Path(__file__).parents[1] / "llm"))
    from wire import Reply, WireServer

    server = WireServer("openai")
    try:
        monkeypatch.setenv("OPENAI_API_KEY", "sk-test")
        plan = {"steps": [{"task": "pick_and_place", "target": "red_cube"}], "refusal": "none", "reason": ""}
        server.replies = [Reply((json.dumps(plan),))]
        arguments = ["ask", "tidy up a bit", "--run", "-p", "openai", "--model", "m", "--base-url", f"{server.url}/v1"]
        result = CliRunner().invoke(app, arguments)
    finally:
        server.close()
    assert result.exit_code == 1, result.output
    assert "which the command does not name" in result.output and "has to say yes" in result.output
