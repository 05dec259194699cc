"""Settings that changed are told, and values that may be secrets are not."""

from dataclasses import dataclass, field
from pathlib import Path

import pytest

from confide.audit_log.log import AuditLog
from confide.audit_log.settings import log_settings, told
from confide.security import ec_keys

KEY = ec_keys.make_key()


@dataclass
class Rules:
    epsilon: float = 8.0
    names: list[str] = field(default_factory=lambda: ["mlp"])
    token: int = 12345


@dataclass
class Settings:
    path: str = "postgresql://ann:hunter2@db/ward"
    rules: Rules = field(default_factory=Rules)
    columns: dict[str, str] = field(default_factory=lambda: {"diagnosis": "text"})


def opened(folder: Path, largest: int = 2**20) -> AuditLog:
    return AuditLog(folder, side="institution", name="Mill", key=KEY, largest=largest)


def changes(log: AuditLog) -> list[dict[str, dict[str, str]]]:
    return [e.content["changed"] for e in log.newest_first() if e.kind == "settings"][::-1]


def test_only_what_changed_is_told(tmp_path: Path) -> None:
    log = opened(tmp_path)
    for settings in (Settings(), Settings(), Settings(rules=Rules(epsilon=9.0))):
        log_settings(log, settings, shown=("rules.",))
    assert changes(log) == [{}, {"rules.epsilon": {"old": "8.0", "new": "9.0"}}]


def test_no_secret_and_no_name_of_a_column_is_in_the_log(tmp_path: Path) -> None:
    log = opened(tmp_path)
    other = Settings("postgresql://ann:hunter3@db/ward", Rules(token=54321), {"smoker": "text"})
    for settings in (Settings(), other):
        log_settings(log, settings, shown=("rules.",))
    assert set(changes(log)[1]) == {"path", "columns", "rules.token"}
    text = "".join(path.read_text() for path in tmp_path.glob("audit-*.jsonl"))
    assert "rules.epsilon" in text
    for word in ("hunter", "db/ward", "12345", "54321", "diagnosis", "smoker"):
        assert word not in text


def test_settings_are_written_again_once_a_file(tmp_path: Path) -> None:
    log = opened(tmp_path, largest=1500)
    log_settings(log, Settings(), shown=())
    for number in range(10):
        log.append("answered", {"round": number})
    log_settings(log, Settings(), shown=())
    log_settings(opened(tmp_path), Settings(), shown=())
    assert changes(log) == [{}, {}]


@pytest.mark.parametrize("name", ["policy.url", "policy.password"])
def test_a_value_with_a_password_is_hidden_even_where_values_are_told(name: str) -> None:
    shown = told(name, "mysql://ann:hunter2@db/x", b"key", ("policy.",))
    assert shown.startswith("hmac:")
    assert shown != told(name, "mysql://ann:hunter2@db/x", b"other", ("policy.",))
