"""Start Chromium and check pages in it."""

import os
import shutil

import pytest
from playwright.sync_api import Page

CHROMIUM_FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip


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
