# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""A real browser for the pages, where there is one."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

CHROMIUM_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


@pytest.fixture
def browser() -> Iterator[Browser]:
    """Headless Chromium, started for each test: while it is open its event loop counts as running in this thread."""
    found = next(filter(None, map(shutil.which, CHROMIUM_NAMES)), None)
    if found is None:
        pytest.skip(f"no browser on PATH: none of {', '.join(CHROMIUM_NAMES)}; install the package chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        # Containers give neither a sandbox nor a shared memory of the size that Chromium asks for.
        made = playwright.chromium.launch(executable_path=found, args=["--no-sandbox", "--disable-dev-shm-usage"])
        yield made
        made.close()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A page of its own; what a script throws on it fails the test."""
    context = browser.new_context(viewport={"width": 1366, "height": 768})
    made = context.new_page()
    made.set_default_timeout(60_000)
    problems: list[str] = []
    made.on("pageerror", lambda error: problems.append(str(error)))
    yield made
    context.close()
    assert not problems, problems
