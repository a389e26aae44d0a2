"""A real headless Chromium, in which every test fails that asks another host for anything."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from playwright.sync_api import Browser, BrowserContext, Page, Response, expect

from tests.dashboard.world import PASSWORD

PATIENCE_MS = 300_000
"""How long a page and an expectation are waited for: the machine is shared by several tests."""
expect.set_options(timeout=PATIENCE_MS)


@contextmanager
def tab(browser: Browser, address: str, provider: str = "", **options: Any) -> Iterator[Page]:
    """A tab of its own context. At its end no other host was asked, and no script of ours has failed.

    Args:
        browser: whose tab it is.
        address: of the server.
        provider: by which people sign in, and which may be asked too.
        options: of Playwright.
    """
    context = browser.new_context(base_url=address, **options)
    yield from _watched(context, (address, provider) if provider else (address,))


def _watched(context: BrowserContext, address: tuple[str, ...]) -> Iterator[Page]:
    elsewhere: list[str] = []
    broken: list[str] = []
    context.on("request", lambda request: None if request.url.startswith(address) else elsewhere.append(request.url))
    page = context.new_page()
    page.set_default_timeout(PATIENCE_MS)
    page.on("pageerror", lambda error: broken.append(str(error)))
    page.on("console", lambda said: broken.append(said.text) if "Content Security Policy" in said.text else None)
    yield page
    context.close()
    assert elsewhere == []
    assert broken == []


def opened(page: Page, path: str) -> Response:
    """What the server answers where a page goes."""
    answer = page.goto(path)
    assert answer is not None
    return answer


def sign_in(page: Page, name: str, path: str = "/login") -> None:
    """Signs in by the form, as a person does."""
    page.goto(path)
    page.get_by_label("Name").fill(name)
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Sign in").click()
    page.get_by_role("button", name="Sign out").wait_for()
