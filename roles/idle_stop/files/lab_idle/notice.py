"""The coming stop where it is seen: in tmux's status line and in Jupyter, not only by `wall`.

`/run/lab/idle_notice` is a short text that tmux shows, there only while the stop is near. The other
is a file of the JupyterLab extension (files/notice.js), which asks for it: empty until then. It is
no link to /run, for Jupyter serves only what really lies in its folders.
"""

from __future__ import annotations

import json
from pathlib import Path

from .decision import Decision, Settings
from .report import span, warning

TEXT = "idle_notice"
PAGE = "notice.json"


def near(decision: Decision, settings: Settings) -> bool:
    """Whether the stop is so near that it is shown."""
    if decision.reasons or decision.action == "off" or not settings.limit:
        return False
    return decision.action == "stop" or decision.left <= settings.lead


def show(run: Path, extension: Path, decision: Decision, settings: Settings) -> None:
    """Write the notices, or take them away. Raises OSError."""
    text, page = "", "{}\n"
    if near(decision, settings):
        text = f"IDLE: off in {span(decision.left)} (lab keep 2h)"
        said = {"seconds": round(decision.left), "text": warning(decision)}
        page = json.dumps(said) + "\n"
    _write(run / TEXT, text)
    if extension.is_dir():
        _write(extension / PAGE, page)


def _write(path: Path, text: str) -> None:
    """Have the file hold the text, or be gone where there is none; an equal one is left alone."""
    if not text:
        path.unlink(missing_ok=True)
        return
    if path.exists() and path.read_text() == text:
        return
    new = path.with_name(f".{path.name}.new")
    new.write_text(text)
    new.chmod(0o644)
    new.replace(path)
