"""Start Chromium and check pages in it."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.test import Client
from playwright.sync_api import Page, sync_playwright

CHROMIUM_FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip
DESK, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}


def chromium_path() -> str:
    """Return the path of the machine's Chromium; without one skip the test, or fail it in CI."""
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if path:
        return path
    if os.environ.get("CI"):
        pytest.fail("CI needs Chromium")
    pytest.skip("no Chromium here: install the package chromium")


def assert_no_sideways_scroll(page: Page) -> None:
    """Fail where a page is wider than its window."""
    wide = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    assert wide <= 0, f"{page.url} scrolls sideways by {wide} px"


def browse(client: Client, address: str, steps: Callable[[Page], None], **options: Any) -> None:
    """Do the steps in a browser that is logged in as the client is; a script's error or a refused one fails.

    `options` are those of Playwright's new_context. The steps can't ask the database: Playwright runs an event loop.
    """
    session = client.cookies["sessionid"].value
    problems: list[str] = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium_path(), args=CHROMIUM_FLAGS)
        page = browser.new_context(**{"base_url": address, "viewport": DESK, **options}).new_page()
        page.context.add_cookies([{"name": "sessionid", "value": session, "url": address}])
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
        steps(page)
        browser.close()
    assert [text for text in problems if "422" not in text] == []


def screenshot_folder(fallback: Path) -> Path:
    """Return where screenshots go: SCREENSHOTS, for who wants to look at them."""
    folder = Path(os.environ.get("SCREENSHOTS") or fallback)
    folder.mkdir(parents=True, exist_ok=True)
    return folder
