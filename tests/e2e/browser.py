"""A real Chromium, headless, doing in Jupyter what a user does."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import BrowserContext, Error, Locator, Page, expect, sync_playwright

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
UNAUTHORISED = 403


@contextlib.contextmanager
def tunnel(lab: Lab) -> Iterator[int]:
    """Forward a free local port to Jupyter on the host, as the user's own tunnel does."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
    command = ["ssh", "-F", str(lab.folder / "ssh_config"), "-o", "BatchMode=yes", "-N"]
    process = subprocess.Popen(
        [*command, "-L", f"127.0.0.1:{port}:127.0.0.1:8888", lab.name], cwd=ROOT
    )
    try:
        wait_for_port(port)
        yield port
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


@contextlib.contextmanager
def chromium(certificate: Path | None = None) -> Iterator[BrowserContext]:
    """Start the browser; it takes the certificate that is known here, and no other unknown one."""
    path = shutil.which("chromium") or shutil.which("chromium-browser")
    if not path:
        pytest.skip("no Chromium on this machine: install it to run the browser test")
    known = [f"--ignore-certificate-errors-spki-list={key_of(certificate)}"] if certificate else []
    expect.set_options(timeout=PATIENCE_MS)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=[*QUIET, *known])
        context = browser.new_context(viewport={"width": 1440, "height": 900})
        context.set_default_timeout(PATIENCE_MS)
        try:
            yield context
        except Exception:
            for number, page in enumerate(context.pages):
                page.screenshot(path=KEPT / f"jupyter-failed-{number}.png")
            raise
        browser.close()


def key_of(certificate: Path) -> str:
    """Return the SHA-256 of a certificate's public key, as Chromium wants it."""
    pem = subprocess.run(
        ["openssl", "x509", "-in", str(certificate), "-pubkey", "-noout"],
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    lines = "".join(line for line in pem.splitlines() if not line.startswith("-----"))
    return base64.b64encode(hashlib.sha256(base64.b64decode(lines)).digest()).decode()


def log_in(page: Page, address: str, password: str) -> None:
    page.goto(f"{address}/login?next=%2Flab")
    page.locator("input[name=password]").fill(password)
    page.locator("#login_submit, button[type=submit]").first.click()


def new_page(context: BrowserContext) -> Page:
    """Open a page that answers what it is asked, as a user would.

    JupyterLab asks on a slow machine which kernel to take, or says that the server was away; the
    browser asks whether to leave a page with changes.
    """
    page = context.new_page()
    page.on("dialog", lambda dialog: dialog.accept())
    page.add_locator_handler(
        page.locator(".jp-Dialog"),
        lambda dialog: dialog.locator("button.jp-mod-accept").first.click(),
    )
    return page


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


def use_a_terminal(lab: Lab, page: Page, address: str, picture: str) -> None:
    """Type a command into a new terminal; what it did is seen on the host."""
    page.goto(f"{address}/lab?reset")
    page.locator(".jp-LauncherCard[data-category=Other]", has_text="Terminal").first.click()
    terminal = page.locator(".jp-Terminal .xterm-screen").first
    expect(terminal).to_be_visible()
    mark = f"/tmp/typed-{time.monotonic_ns()}"
    for _ in range(RUNS):  # what is typed before the shell is there is lost, as with a kernel
        terminal.click()
        page.keyboard.type(f"id -un; pwd; df -h /data | tail -1; touch {mark}\n")
        page.wait_for_timeout(3000)
        if "there" in lab.ssh(f"test ! -e {mark} || echo there"):
            page.screenshot(path=KEPT / picture)
            return
    raise AssertionError("what was typed into the terminal did not reach the host")


def log_out(page: Page, address: str) -> None:
    """Leave; the session is over, and the login asks again."""
    page.goto(f"{address}/logout")
    expect(page.get_by_text("Successfully logged out")).to_be_visible()
    assert page.evaluate("fetch('/api/status').then(it => it.status)") == UNAUTHORISED
    page.goto(f"{address}/lab")
    expect(page.locator("input[name=password]")).to_be_visible()


def use_jupyter(lab: Lab) -> None:
    """Through the tunnel: a wrong password, a cell, the example, a terminal, the way out."""
    password = (lab.folder / "jupyter_password").read_text().strip()
    with tunnel(lab) as port, chromium() as context:
        page, address = new_page(context), f"http://127.0.0.1:{port}"
        log_in(page, address, "wrong" + password)
        expect(page.get_by_text("Invalid credentials")).to_be_visible()
        log_in(page, address, password)
        page.wait_for_url("**/lab**")
        run_a_cell(page, address)
        run_the_example(page, address)
        use_a_terminal(lab, page, address, "terminal.png")
        log_out(page, address)


def go_public(lab: Lab, old: str, new: str, switch: Callable[[], str]) -> None:
    """Log in, have Ansible change the password and open the port, and go on there by TLS.

    ``switch`` runs the playbook and returns the host's public address.
    """
    with tunnel(lab) as port, chromium() as context:
        page = new_page(context)
        log_in(page, f"http://127.0.0.1:{port}", old)
        page.wait_for_url("**/lab**")
        assert page.request.get(f"http://127.0.0.1:{port}/api/status").ok
        address = switch()
        # The same session, at the same name and port, which speaks TLS by now.
        again = f"https://127.0.0.1:{port}/api/status"
        assert page.request.get(again, ignore_https_errors=True).status == UNAUTHORISED
    with chromium(lab.folder / "jupyter.crt") as context:
        page, url = new_page(context), f"https://{address}:8888"
        log_in(page, url, old)
        expect(page.get_by_text("Invalid credentials")).to_be_visible()
        log_in(page, url, new)
        page.wait_for_url("**/lab**")
        run_a_cell(page, url)
        use_a_terminal(lab, page, url, "public.png")
        log_out(page, url)
    with chromium() as context, pytest.raises(Error, match="ERR_CERT_AUTHORITY_INVALID"):
        context.new_page().goto(url)


def cancel_a_job(lab: Lab, name: str) -> None:
    """Through the tunnel: see a running job on the page of the queue, and cancel it there."""
    password = (lab.folder / "jupyter_password").read_text().strip()
    with tunnel(lab) as port, chromium() as context:
        page, address = new_page(context), f"http://127.0.0.1:{port}"
        log_in(page, address, password)
        page.wait_for_url("**/lab**")
        page.goto(f"{address}/lab?reset")
        page.locator(".jp-LauncherCard", has_text="Slurm Dashboard").click()
        job = page.locator(".ag-row", has_text=name)
        expect(job).to_contain_text("RUNNING")
        page.screenshot(path=KEPT / "queue.png")
        job.locator("input[type=checkbox]").check()
        page.get_by_role("button", name="Cancel").click()
        expect(page.get_by_text("Cancelled 1 job")).to_be_visible()


def log_in_again(lab: Lab, password: str) -> None:
    """Through the tunnel once more, with a password that came back."""
    with tunnel(lab) as port, chromium() as context:
        page = new_page(context)
        log_in(page, f"http://127.0.0.1:{port}", password)
        page.wait_for_url("**/lab**")
