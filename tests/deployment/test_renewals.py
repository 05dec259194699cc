"""Certificates that end soon are told of, once a day."""

import datetime
import logging
import threading
from pathlib import Path

import pytest

from confide.deployment import supervisor
from confide.deployment.renewals import warn_of_ends
from confide.deployment.supervisor import Program, Supervisor
from confide.security import certificates, ec_keys
from confide.storage.files import write_text

KEY = ec_keys.make_key()
AUTHORITY = certificates.make_authority("heart", KEY)


def certificate(path: Path, *, days: int, ago: int = 0) -> Path:
    now = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=ago)
    issued = certificates.issue_trainer_certificate(
        KEY.public_key(), "ward", authority=(AUTHORITY, KEY), days=days, now=now
    )
    write_text(path, certificates.certificate_pem(issued))
    return path


def test_those_within_thirty_days_are_warned_of_with_the_fix(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    soon, gone = certificate(tmp_path / "a", days=30), certificate(tmp_path / "b", days=2, ago=3)
    later = certificate(tmp_path / "c", days=31, ago=-1)
    (tmp_path / "d").write_text("none")
    with caplog.at_level(logging.WARNING):
        warn_of_ends([soon, gone, later, tmp_path / "d", tmp_path / "nothing"], "renew it.")
    ends, expired, damaged = caplog.messages
    assert ends.startswith(f"{soon} ends on ")
    assert ends.endswith("in 29 days; renew it.")
    assert expired.startswith(f"{gone} has expired on ")
    assert "cannot be read as a certificate" in damaged


def test_days_left_are_whole_days() -> None:
    now = AUTHORITY.not_valid_after_utc
    day = datetime.timedelta(days=1)
    assert certificates.days_left(AUTHORITY, now=now - 30 * day) == 30
    assert certificates.days_left(AUTHORITY, now=now - 1.5 * day) == 1
    assert certificates.days_left(AUTHORITY, now=now + 0.5 * day) == -1


def test_a_supervisor_looks_at_once_and_then_once_a_day(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "_POLL_S", 0.001)
    monkeypatch.setattr(supervisor, "_DAY_S", 2.0)
    seen: list[int] = []
    stop = threading.Event()

    def daily() -> None:
        seen.append(steps)
        if len(seen) == 2:
            stop.set()

    steps = 0
    with Supervisor([Program(name="a", command=("sleep", "60"))], tmp_path, daily_fn=daily) as it:
        step = it.step

        def counted() -> None:
            nonlocal steps
            steps += 1
            step()

        monkeypatch.setattr(it, "step", counted)
        it.run(stop)
    assert seen[0] == 0
    assert seen[1] > 1
    assert len(seen) == 2
