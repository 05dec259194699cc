"""A supervisor says why a program ended, and what one waits for."""

import logging
import sys
import time
from pathlib import Path

import pytest

from confide.deployment import supervisor
from confide.deployment.supervisor import Program, Supervisor


def explain(text: str, status: int | None) -> str | None:
    return f"It said {text.strip()}, status {status}." if "boom" in text else None


def stepped(folder: Path, words: str, expected: str, caplog: pytest.LogCaptureFixture) -> None:
    (folder / "node.log").write_text("boom of a start before\n")
    program = Program(name="node", command=[sys.executable, "-uc", words], explain_fn=explain)
    end = time.monotonic() + 10
    with caplog.at_level(logging.WARNING), Supervisor([program], folder) as running:
        while expected not in caplog.text:
            assert time.monotonic() < end, caplog.text
            running.step()
            time.sleep(0.02)


def test_why_a_program_ended_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    stepped(
        tmp_path,
        "print('boom'); raise SystemExit(3)",
        "It said boom, status 3. Restarting it in",
        caplog,
    )


def test_what_a_program_waits_for_is_told_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "_EXPLAIN_S", 0.1)
    stepped(
        tmp_path,
        "print('boom'); import time; time.sleep(30)",
        "node: It said boom, status None.",
        caplog,
    )
    assert caplog.text.count("It said") == 1
