"""A real Chromium, headless, doing in Jupyter what a user does."""

from __future__ import annotations

import contextlib
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Locator, Page, expect, sync_playwright

from tests.e2e.conftest import KEPT, ROOT, Lab

# Without these Chromium asks its maker's servers at every start.
QUIET = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
]  # fmt: skip
PATIENCE_MS = 120_000
RUNS, RUN_MS = 4, 45_000
CELL = "import torch; print('sum', int(torch.arange(101).sum()))"
NOTEBOOK = "notebooks/examples/fashion_mnist.ipynb"


@contextlib.contextmanager
def tunnel(lab: Lab) -> Iterator[str]:
    """Forward a free local port to Jupyter on the host, as the user's own tunnel does."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    command = ["ssh", "-F", str(lab.folder / "ssh_config"), "-o", "BatchMode=yes", "-N"]
    process = subprocess.Popen(
        [*command, "-L", f"127.0.0.1:{port}:127.0.0.1:8888", lab.name], cwd=ROOT
    )
    try:
        wait_for_port(port)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(10)


def wait_for_port(port: int) -> None:
    deadline = time.monotonic() + 30
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            assert time.monotonic() < deadline, "the SSH tunnel did not come up"
            time.sleep(0.2)
        else:
            return


def log_in(page: Page, address: str, password: str) -> None:
    page.goto(f"{address}/login?next=%2Flab")
    page.locator("input[name=password]").fill(password)
    page.locator("#login_submit, button[type=submit]").first.click()


def run_until_shown(page: Page, run: Callable[[], None], shown: Locator) -> None:
    """Run cells again until what they show is there.

    A kernel that is just starting says "idle" before it listens, and what is sent to it then is
    lost without a word; a user would press the keys again, too.
    """
    expect(page.locator(".jp-Notebook-ExecutionIndicator[data-status=idle]")).to_be_visible()
    for _ in range(RUNS - 1):
        run()
        with contextlib.suppress(AssertionError):
            expect(shown).to_be_attached(timeout=RUN_MS)
            return
    run()
    expect(shown).to_be_attached(timeout=RUN_MS)


def run_a_cell(page: Page, address: str) -> None:
    """Open a new notebook from the launcher, run one cell, see what it prints."""
    page.goto(f"{address}/lab?reset")
    page.locator(".jp-LauncherCard[data-category=Notebook]").first.click()
    cell = page.locator(".jp-Notebook .jp-Cell .cm-content").first
    cell.click()
    page.keyboard.type(CELL)

    def run() -> None:
        cell.click()
        page.keyboard.press("Shift+Enter")

    run_until_shown(page, run, page.locator(".jp-OutputArea-output", has_text="sum 5050"))
    expect(page.get_by_text("Jupyter news")).to_have_count(0)


def run_the_example(page: Page, address: str) -> None:
    """Run the example notebook from top to bottom and keep a picture of it."""
    page.goto(f"{address}/lab/tree/{NOTEBOOK}")
    expect(page.locator(".jp-Notebook .jp-Cell").first).to_be_visible()

    def run() -> None:
        page.get_by_role("menuitem", name="Run", exact=True).click()
        page.locator("[data-command='runmenu:run-all']").click()

    pictures = page.locator(".jp-OutputArea-output img")
    run_until_shown(page, run, pictures.nth(1))
    for kind in ("stderr", "error"):
        assert page.locator(f"[data-mime-type='application/vnd.jupyter.{kind}']").count() == 0
    pictures.nth(1).scroll_into_view_if_needed()
    page.wait_for_timeout(2000)  # for the page to settle before its picture is taken
    page.screenshot(path=KEPT / "jupyter.png")


def use_jupyter(lab: Lab) -> None:
    """Log in (refused with a wrong password), run a cell, run the example notebook."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if not chromium:
        pytest.skip("no Chromium on this machine: install it to run the browser test")
    password = (lab.folder / "jupyter_password").read_text().strip()
    with tunnel(lab) as address, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=QUIET)
        page = browser.new_page(viewport={"width": 1440, "height": 900})
        page.set_default_timeout(PATIENCE_MS)
        expect.set_options(timeout=PATIENCE_MS)
        try:
            log_in(page, address, "wrong" + password)
            expect(page.get_by_text("Invalid credentials")).to_be_visible()
            log_in(page, address, password)
            page.wait_for_url("**/lab**")
            run_a_cell(page, address)
            run_the_example(page, address)
        except Exception:
            page.screenshot(path=KEPT / "jupyter-failed.png")
            raise
        browser.close()
