# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""The live page in a real browser. Needs Chromium on this machine."""

from __future__ import annotations

import asyncio
import io
import time

import numpy as np
import pytest
from PIL import Image

from flow_rag_vla.core.action import TICK_NS, ActionChunk, CorrectionMode, Provenance
from flow_rag_vla.core.failure import Evidence
from flow_rag_vla.gateway.access import Access, Role, new_token
from flow_rag_vla.gateway.app import make_app
from flow_rag_vla.gateway.live.board import CommandSeen, Picture
from flow_rag_vla.gateway.live.health import Readiness
from flow_rag_vla.gateway.live.routes import live_section
from flow_rag_vla.gateway.live.timeline import FailureSeen
from flow_rag_vla.gateway.server import Server

PATIENCE_MS = 60_000


def jpeg() -> bytes:
    stream = io.BytesIO()
    Image.fromarray(np.full((16, 16, 3), (40, 90, 160), np.uint8)).save(stream, "JPEG")
    return stream.getvalue()


def fill(board) -> None:
    now_ns = time.time_ns()
    actions = np.full((16, 7), 0.002, np.float32)
    made = Provenance(now_ns, "flow", "abc", 1, CorrectionMode.GUIDANCE, 0.5, (2,))
    board.set_part("episode", {
        "id": 4, "state": "running", "task": "push", "variant": "plain", "instruction": "push it", "seed": 1,
        "phase": "reach", "elapsed": 2.5, "timeout": 10.0, "failures": 1, "finished": 3, "succeeded": 2,
        "outcome": "", "intervened": False,
    })  # fmt: skip
    evidence = (Evidence("gripper_width", 0.004, 0.012, "m"),)
    board.add_failure(FailureSeen(now_ns, 4, "drop", "push", "reach", "rules", "<b>it fell</b>", 0.9, evidence))
    board.set_chunk(ActionChunk(9, now_ns, actions, "push", committed=3, provenance=made), 4.2)
    board.add_commands([
        CommandSeen(now_ns + tick * TICK_NS, tick, (0.001,) * 6 + (1.0,), (0.5, 0.0, 0.2), "follow", "", 2, 9, 1, 40.0)
        for tick in range(60)
    ])  # fmt: skip
    board.set_picture(Picture("front", now_ns, 16, 16, jpeg()))
    board.set_picture(Picture("wrist", now_ns, 16, 16, jpeg()))
    board.set_part("loop", {
        "rate_hz": 40.0, "tick_error_p99_ms": 0.4, "late_ticks": 2, "skipped_ticks": 0,
        "stages": [{"stage": "capture_to_chunk", "count": 3, "p50_ms": 50.0, "p99_ms": 60.0, "max_ms": 61.0}],
    })  # fmt: skip
    board.set_part("memory", {"cases": 3, "retired": 0, "added": 3, "corrections": 7, "search_p99_ms": 0.5})
    board.set_node("controller", {
        "level": 0, "message": "following", "hardware": "loop", "heard": time.monotonic(),
        "figures": {"rate_hz": "40.0"},
    })  # fmt: skip


@pytest.fixture
def ahead():
    """Seconds that the server's clock is ahead."""
    return [0.0]


@pytest.fixture
def brief():
    return new_token("brief", Role.OPERATOR, 300.0)


@pytest.fixture
def server(board, graph, pace, audience, tokens, brief, ahead, tmp_path):
    for item in graph.store.values():
        item |= {
            "created": 0.0, "task": "push", "phase": "reach", "has_correction": False, "correction_source": "",
            "uses": 1, "successes": 1, "retired_reason": "", "origin": "robot", "evidence": [], "failed_actions": [],
            "correction": [], "credits": [], "history": [], "images": [],
        }  # fmt: skip
    section = live_section(board, graph, pace, audience, Readiness(("controller",)), tmp_path)
    access = Access([brief[0], *(token for token, _ in tokens.values())], lambda: time.time() + ahead[0])
    with Server(make_app(access, [section]), port=0) as server:
        yield server


@pytest.fixture
def page(server, browser):
    """A page in Chromium that fails the test for every error on its console and every request to elsewhere."""
    faults: list[str] = []
    page = browser.new_page(viewport={"width": 1400, "height": 1000})
    page.set_default_timeout(PATIENCE_MS)
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("console", lambda line: faults.append(line.text) if line.type == "error" else None)
    page.on("request", lambda request: _own(request.url, server.url, faults))
    yield page
    page.close()
    assert faults == []


def _own(url: str, own: str, faults: list[str]) -> None:
    if not url.startswith((own, own.replace("http", "ws"), "data:", "blob:")):
        faults.append(f"asked for {url}")


def test_the_page_shows_the_board_and_its_buttons_do_what_they_say(page, server, board, graph, tokens):
    fill(board)
    page.goto(f"{server.url}live/#token={tokens[Role.OPERATOR][1]}")
    page.wait_for_selector("#mode:text-is('follow')")
    page.wait_for_selector("#front[src^='data:image/jpeg']")
    page.wait_for_selector("#cases tr:nth-child(3)")
    assert tokens[Role.OPERATOR][1] not in page.url, "the secret does not stay in the address"
    assert "push it (reach, 2.5 s, 2 of 3 succeeded)" in page.inner_text("#episode")
    assert "velocity" in page.inner_text("#command-facts")
    timeline = page.inner_text("#timeline")
    assert "<b>it fell</b>" in timeline, "what nodes say is text, never markup"
    assert "answered by guidance" in timeline and "case 2" in timeline
    assert "following" in page.inner_text("#nodes")
    row = page.wait_for_selector("#nodes summary")
    row.click()
    board.set_node("controller", {
        "level": 1, "message": "holding", "hardware": "loop", "heard": time.monotonic(), "figures": {"rate_hz": "39.0"},
    })  # fmt: skip
    page.wait_for_selector("#nodes:has-text('holding')")
    assert row.evaluate("row => row.isConnected && row.parentElement.open"), "a row that is replaced cannot be clicked"
    drawn = page.evaluate("""() => ['motion', 'histogram'].map((id) => {
        const canvas = document.getElementById(id);
        return canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data.some((value) => value);
    })""")
    assert drawn == [True, True]

    page.click("#cases tr:first-child")
    page.wait_for_selector("#case[open]")
    page.fill("#case textarea", "seen in the browser")
    page.click("#case button:has-text('Save')")
    page.wait_for_selector(".toast:has-text('saved')")
    assert graph.store[1]["note"] == "seen in the browser"
    page.click("#case-close")

    assert page.is_hidden("#person")
    plan = {
        "id": "p1", "instruction": "<i>open</i> the drawer", "questions": ["somebody is near"],
        "steps": ["open the drawer"], "speed": 0.5, "ends": 1000.0 * time.time() + 60_000.0,
    }  # fmt: skip
    board.set_part("person", {"plans": [plan], "episode": 4})
    page.wait_for_selector("#plans li")
    assert all(words in page.inner_text("#plans") for words in ("<i>open</i>", "somebody is near", "at 50 %"))
    page.click("#plans button:has-text('Approve')")
    page.wait_for_selector(".toast:has-text('approved by operator')")
    page.click("#missed")
    page.wait_for_selector(".toast:has-text('episode 4: failure')")
    assert ("p1", True, "operator", "") in graph.asked and graph.asked[-1] is False
    board.set_part("person", {"plans": [], "episode": 0})
    page.wait_for_selector("#person", state="hidden")

    page.fill("#instruction", "push the yellow cylinder to the green zone")
    page.click("#start")
    page.wait_for_selector(".toast:has-text('accepted')")
    page.click("#estop")
    page.wait_for_selector(".toast:has-text('Emergency stop is latched')")
    assert "stop published" in graph.asked


def test_what_has_become_old_is_not_shown_as_new(server, browser, board, tokens):
    page = browser.new_page()
    page.set_default_timeout(PATIENCE_MS)
    fill(board)
    page.goto(f"{server.url}live/#token={tokens[Role.OPERATOR][1]}")
    page.wait_for_selector("#mode:text-is('follow')")
    page.wait_for_selector("#mode:text-is('no commands')")
    page.wait_for_selector("#picture-age:has-text('no picture since')")
    assert "none since" in page.inner_text("#reason") and page.is_hidden("#lost")
    server.stop()
    page.wait_for_selector("#lost:has-text('No connection since')")
    page.wait_for_selector("#main.stale")
    page.click("#estop")
    page.wait_for_selector(".toast.bad:has-text('the server does not answer')")
    page.close()


def test_how_a_task_ended_before_the_page_was_opened_is_no_news(page, server, board, tokens):
    fill(board)
    board.set_part("task", {"asked": "push it", "outcome": "aborted", "reason": "of old"})
    page.goto(f"{server.url}live/#token={tokens[Role.OPERATOR][1]}")
    page.wait_for_selector("#mode:text-is('follow')")
    board.set_part("task", {"asked": "push it", "outcome": "aborted", "reason": "of late"})
    page.wait_for_selector(".toast.bad:has-text('of late')")
    assert page.locator(".toast").count() == 1
    page.click(".toast")
    page.wait_for_selector(".toast", state="detached")


def test_what_is_said_of_an_open_case_is_not_hidden_behind_it(page, server, board, tokens):
    fill(board)
    page.goto(f"{server.url}live/#token={tokens[Role.OPERATOR][1]}")
    page.click("#cases tr:first-child")
    page.wait_for_selector("#case[open]")
    page.click("#case button:has-text('Save')")
    page.wait_for_selector(".toast:has-text('saved')")
    on_top = """() => {
        const bounds = document.querySelector('.toast').getBoundingClientRect();
        return document.elementFromPoint(bounds.x + bounds.width / 2, bounds.y + bounds.height / 2).className;
    }"""
    assert page.evaluate(on_top) == "toast"


REACHED = """() => {
    const stop = document.getElementById('estop').getBoundingClientRect();
    return document.elementFromPoint(stop.x + stop.width / 2, stop.y + stop.height / 2).id;
}"""


@pytest.mark.parametrize(("width", "height"), [(1400, 1000), (390, 844), (844, 390)])
def test_nothing_ever_covers_the_emergency_stop(page, server, board, graph, tokens, width, height):
    fill(board)
    page.set_viewport_size({"width": width, "height": height})
    page.goto(f"{server.url}live/#token={tokens[Role.OPERATOR][1]}")
    page.click("#cases tr:first-child")
    page.wait_for_selector("#case[open]")
    assert page.evaluate(REACHED) == "estop", "an open case leaves it free"
    for number in range(9):
        board.set_part(
            "task", {"asked": "push it", "outcome": "aborted", "reason": f"{number}: " + "a long story " * 60}
        )
        page.wait_for_selector(f".toast.bad:has-text(' {number}: ')")
    assert page.locator(".toast").count() == 5, "the oldest words go"
    assert page.evaluate(REACHED) == "estop", "so does what is said"
    page.click("#estop")
    page.wait_for_selector(".toast:has-text('Emergency stop is latched')")
    assert "stop published" in graph.asked


def test_the_emergency_stop_waits_for_no_answer_before_it_can_be_pressed_again(page, server, board, graph, tokens):
    async def never():
        await asyncio.sleep(600.0)

    graph.confirm_stop = never
    fill(board)
    page.goto(f"{server.url}live/#token={tokens[Role.OPERATOR][1]}")
    page.wait_for_selector("#mode:text-is('follow')")
    for pressed in (1, 2):
        page.click("#estop")
        deadline = time.monotonic() + PATIENCE_MS / 1e3
        while graph.asked.count("stop published") < pressed:
            assert time.monotonic() < deadline
            page.wait_for_timeout(20)
    page.wait_for_selector(".toast.bad:has-text('may not have arrived: the server does not answer')")


def test_a_case_is_opened_and_left_by_the_keyboard(page, server, board, tokens):
    fill(board)
    page.goto(f"{server.url}live/#token={tokens[Role.OPERATOR][1]}")
    page.focus("#cases tr:nth-child(2) button")
    page.keyboard.press("Enter")
    page.wait_for_selector("#case[open]")
    assert page.evaluate("document.getElementById('case').contains(document.activeElement)")
    assert page.evaluate("document.getElementById('main').inert"), "what lies below it is out of reach"
    page.click("#case button:has-text('Save')")
    page.wait_for_selector(".toast:has-text('saved')")
    page.wait_for_function("document.activeElement.textContent === 'Save'")
    page.keyboard.press("Escape")
    page.wait_for_selector("#case", state="hidden")
    page.wait_for_function("document.activeElement.getAttribute('aria-label') === 'open case 2'")
    assert not page.evaluate("document.getElementById('main').inert")


def test_a_number_that_is_none_is_unknown_and_ends_no_stream(page, server, board, tokens):
    fill(board)
    nothing = float("nan")
    board.set_part("loop", {
        "rate_hz": nothing, "tick_error_p99_ms": nothing, "late_ticks": 0, "skipped_ticks": 0,
        "stages": [{"stage": "policy", "count": 3, "p50_ms": nothing, "p99_ms": nothing, "max_ms": nothing}],
    })  # fmt: skip
    board.set_part("memory", {"cases": 3, "retired": 0, "added": 3, "corrections": 7, "search_p99_ms": nothing})
    now_ns = time.time_ns() + 10**10
    board.set_chunk(
        ActionChunk(10, now_ns, np.zeros((4, 7), np.float32), "push", provenance=Provenance(now_ns)), nothing
    )
    board.add_commands([
        CommandSeen(now_ns, 99, (0.001,) * 7, (nothing,) * 3, "hold", "", 0, 10, 1, nothing,
                    CorrectionMode.GUIDANCE, nothing, (2,))
    ])  # fmt: skip
    page.goto(f"{server.url}live/#token={tokens[Role.OPERATOR][1]}")
    page.wait_for_selector("#mode:text-is('hold')")
    page.wait_for_selector("#loop-tiles:has-text('?')")
    assert "? from case 2" in page.inner_text("#command-facts")
    board.set_node("controller", {"level": 0, "message": "goes on", "hardware": "", "heard": 0.0, "figures": {}})
    page.wait_for_selector("#nodes:has-text('goes on')")


def test_what_the_memory_does_now_can_be_clicked_while_it_goes_on(page, server, board, tokens):
    fill(board)
    page.goto(f"{server.url}live/#token={tokens[Role.OPERATOR][1]}")
    link = page.wait_for_selector("#timeline .answered button")
    begin_ns = time.time_ns()
    for number in range(5):
        stamp_ns = begin_ns + number * TICK_NS
        made = Provenance(stamp_ns, "flow", "abc", 1, CorrectionMode.GUIDANCE, 0.5, (2,))
        board.set_chunk(ActionChunk(20 + number, stamp_ns, np.zeros((4, 7), np.float32), "push", provenance=made), 4.2)
        page.wait_for_selector(f"#timeline .answered:has-text('{number + 2} observations')")
    assert link.evaluate("link => link.isConnected")
    link.click()
    page.wait_for_selector("#case-title:has-text('Case 2')")


def test_the_case_that_somebody_is_about_to_choose_stays_under_the_pointer(page, server, board, graph, tokens):
    def learn(number):
        graph.store = {number: graph.store[1] | {"id": number}} | graph.store
        board.set_part("memory", {"cases": number, "retired": 0, "added": number, "corrections": 7, "search_p99_ms": 1})

    fill(board)
    page.goto(f"{server.url}live/#token={tokens[Role.OPERATOR][1]}")
    row = page.wait_for_selector("#cases tr[data-id='2']")
    learn(4)
    page.wait_for_selector("#cases tr[data-id='4']")
    assert row.evaluate("row => row.isConnected"), "what is still true is the same row"
    row.hover()
    learn(5)
    page.wait_for_selector("#page-note:text-is('there are newer ones')")
    row.click()
    page.wait_for_selector("#case-title:has-text('Case 2:')")
    page.click("#case-close")
    page.mouse.move(5, 5)
    page.focus("#instruction")
    page.wait_for_selector("#cases tr:first-child[data-id='5']")


def test_when_the_last_page_of_cases_is_gone_the_one_before_it_is_shown(page, server, board, graph, tokens):
    fill(board)
    graph.store.update({number: graph.store[1] | {"id": number} for number in range(4, 14)})
    page.goto(f"{server.url}live/#token={tokens[Role.OPERATOR][1]}")
    page.wait_for_selector("#page-note:text-is('1 to 12 of 13')")
    page.click("#older")
    page.wait_for_selector("#page-note:text-is('13 to 13 of 13')")
    del graph.store[13]
    board.set_part("memory", {"cases": 12, "retired": 1, "added": 13, "corrections": 7, "search_p99_ms": 0.5})
    page.wait_for_selector("#page-note:text-is('1 to 12 of 12')")


def test_a_token_that_ends_closes_the_page_and_an_address_with_another_opens_it(
    page, server, board, tokens, brief, ahead
):
    fill(board)
    secret = tokens[Role.OPERATOR][1]
    page.goto(f"{server.url}live/#token={brief[1]}")
    page.wait_for_selector(".toast.bad:has-text('ends within ten minutes')")
    types = page.locator("#filter-type option").count()
    page.click("#cases tr:first-child")
    page.wait_for_selector("#case[open]")
    ahead[0] = 400.0
    page.wait_for_selector("#gate-why:text-is(\"the token 'brief' has expired; ask for a new one.\")")
    assert all(page.is_hidden(name) for name in ("#main", "#estop", "#case"))
    page.evaluate(f"location.href = '{server.url}live/#token={secret}'")
    page.wait_for_selector("#estop:not([disabled])")
    page.wait_for_selector("#lost", state="hidden")
    assert secret not in page.url, "the secret does not stay in the address"
    assert page.locator("#filter-type option").count() == types
    board.set_node("controller", {"level": 0, "message": "seen again", "hardware": "", "heard": 0.0, "figures": {}})
    page.wait_for_selector("#nodes:has-text('seen again')")


def test_a_connection_that_died_without_a_word_is_made_anew(page, server, board, tokens):
    fill(board)
    page.add_init_script("""
        const send = WebSocket.prototype.send;
        let first = null;
        let asked = 0;
        WebSocket.prototype.send = function (text) {
            first = first || this;
            if (this !== first || ++asked < 4) send.call(this, text);  // then nothing of the first one arrives
        };
    """)
    page.goto(f"{server.url}live/#token={tokens[Role.OPERATOR][1]}")
    page.wait_for_selector("#lost:has-text('No connection since')")
    page.wait_for_selector("#lost", state="hidden")
    board.set_node("controller", {"level": 0, "message": "back", "hardware": "", "heard": 0.0, "figures": {}})
    page.wait_for_selector("#nodes:has-text('back')")


def test_on_a_phone_nothing_is_cut_off_and_the_emergency_stop_is_at_the_top(page, server, board, tokens):
    fill(board)
    page.set_viewport_size({"width": 390, "height": 844})
    page.goto(f"{server.url}live/")
    page.wait_for_selector("#enter")
    assert page.is_hidden("#estop"), "without a token it could do nothing"
    page.fill("#token", tokens[Role.OPERATOR][1])
    page.click("#enter button")
    page.wait_for_selector("#cases tr:nth-child(3)")
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    told = page.locator("#episode").bounding_box()
    assert told["x"] + told["width"] <= 390 and "succeeded" in page.inner_text("#episode")
    stop = page.locator("#estop").bounding_box()
    assert stop["y"] < 40 and stop["x"] + stop["width"] <= 390


def test_a_viewer_sees_everything_and_moves_nothing(page, server, board, tokens):
    fill(board)
    page.goto(f"{server.url}live/")
    page.wait_for_selector("#enter")
    page.fill("#token", tokens[Role.VIEWER][1])
    page.click("#enter button")
    page.wait_for_selector("#mode:text-is('follow')")
    assert all(page.is_disabled(name) for name in ("#estop", "#start", "#stop", "#export"))


@pytest.mark.parametrize(("width", "height"), [(1400, 1000), (390, 844), (844, 390)])
def test_the_emergency_stop_is_released_in_two_steps_that_leave_it_where_it_is(
    page, server, board, graph, tokens, width, height
):
    def place():
        bounds = page.locator("#estop").bounding_box()
        return bounds["x"], bounds["y"]

    fill(board)
    stamp_ns = time.time_ns() + 10**10
    pressed = CommandSeen(stamp_ns, 99, (0.0,) * 7, (0.5, 0.0, 0.2), "emergency_stop", "pressed", 0, 9, 1, 40.0)
    board.add_commands([pressed])
    page.set_viewport_size({"width": width, "height": height})
    page.goto(f"{server.url}live/#token={tokens[Role.OPERATOR][1]}")
    page.click("#release")
    page.wait_for_selector("#releasing:has-text('The robot may move again.')")
    before = place()
    assert page.evaluate(REACHED) == "estop", "what is asked leaves it free"
    assert page.evaluate("document.activeElement.id") == "release-not", "Enter alone releases nothing"
    page.keyboard.press("Escape")
    page.wait_for_selector("#releasing", state="hidden")
    assert page.evaluate("document.activeElement.id") == "release"
    assert place() == before, "nor does it go elsewhere under a hand"

    page.click("#release")
    page.click("#estop")
    page.wait_for_selector(".toast:has-text('Emergency stop is latched')")
    assert page.is_hidden("#releasing"), "who pressed it anew wants nothing released"
    assert "released" not in graph.asked

    page.click("#release")
    page.click("#release-now")
    page.wait_for_selector(".toast:text-is('released')")
    assert graph.asked.count("released") == 1 and page.is_hidden("#releasing")


def test_a_release_that_nobody_confirms_is_taken_back_and_so_is_one_that_is_over(page, server, board, graph, tokens):
    def command(tick, mode):
        stamp_ns = time.time_ns() + 10**10 + tick * TICK_NS
        return CommandSeen(stamp_ns, tick, (0.0,) * 7, (0.5, 0.0, 0.2), mode, "", 0, 9, 1, 40.0)

    fill(board)
    board.add_commands([command(99, "emergency_stop")])
    page.clock.install()
    page.goto(f"{server.url}live/#token={tokens[Role.OPERATOR][1]}")
    page.click("#release")
    page.wait_for_selector("#releasing")
    page.clock.fast_forward(20_500)
    page.wait_for_selector("#releasing", state="hidden")
    page.click("#release")
    page.wait_for_selector("#releasing")
    board.add_commands([command(100, "follow")])
    page.wait_for_selector("#releasing", state="hidden")
    assert "released" not in graph.asked
