"""A real headless Chromium without a network; tests that want it are skipped where there is none."""

import contextlib
import shutil

import pytest

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


@contextlib.contextmanager
def opened(path, ready=None, alone=True, **context):
    """A page of a file, once `ready` (a selector) is there; at the end: no errors, and nothing but the file was asked for.

    With `alone` False other files may be.
    """
    found = next((which for which in map(shutil.which, BROWSERS) if which), None)
    if found is None:
        pytest.skip("no Chromium here")
    from playwright.sync_api import sync_playwright

    asked, errors = [], []
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=found, args=["--no-sandbox"])
        try:
            page = browser.new_context(offline=True, **context).new_page()
            page.on("request", lambda request: asked.append(request.url))
            page.on("pageerror", lambda error: errors.append(str(error)))
            page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
            page.goto(path.resolve().as_uri())
            if ready:
                page.wait_for_selector(ready, timeout=30_000)
            yield page
        finally:
            browser.close()
    assert not errors
    beside = ("blob:", "data:") if alone else ("blob:", "data:", "file:")
    assert [url for url in asked if not url.startswith(beside)] == ([path.resolve().as_uri()] if alone else [])
