"""Whom an audit log names is no variable's to say."""

import os
import pwd
from pathlib import Path

import pytest

import confide.audit_log.user as told
from confide.audit_log.user import user

NAME = pwd.getpwuid(os.geteuid()).pw_name


@pytest.fixture(autouse=True)
def _variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.setenv(name, "somebody else\x1b[2J")
    monkeypatch.delenv("SUDO_USER", raising=False)


def logged_in(monkeypatch: pytest.MonkeyPatch, folder: Path, text: str) -> None:
    (folder / "loginuid").write_text(text)
    monkeypatch.setattr(told, "_LOGIN", folder / "loginuid")


@pytest.mark.parametrize("text", [str(2**32 - 1), "", "x", str(os.geteuid())])
def test_a_user_is_named_by_the_kernel(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    logged_in(monkeypatch, tmp_path, text)
    assert user() == NAME


def test_who_logged_in_is_named_beside_whom_they_became(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    logged_in(monkeypatch, tmp_path, "54321\n")
    monkeypatch.setenv("SUDO_USER", "somebody else")
    assert user() == f"{NAME} (logged in as 54321)"


def test_what_sudo_says_is_told_as_that(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    logged_in(monkeypatch, tmp_path, str(2**32 - 1))
    monkeypatch.setenv("SUDO_USER", "ann")
    assert user() == f"{NAME} (by sudo from ann, as it says)"
