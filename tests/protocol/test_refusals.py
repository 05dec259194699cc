"""Refusal codes: one table, which every code in the tree is in, and which travels as plain text."""

import ast
import json
import pickle
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import confide
from confide.client.verdicts import Verdict
from confide.config.privacy import PolicyConfig
from confide.protocol.messages import Reply, pack_reply, unpack_reply
from confide.protocol.refusals import NOT_AFFORDED, NOT_YET, SILENCES, Refusal, with_figures

ROOT = Path(confide.__file__).parent


def code_literals() -> Iterator[tuple[Path, str]]:
    """Yield each text that is passed as ``code=`` or ``refusal=``."""
    for path in ROOT.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            match node:
                case ast.keyword(arg="code" | "refusal", value=ast.Constant(value=str(code))):
                    yield path, code


def test_every_code_that_is_written_out_is_in_the_table() -> None:
    literals = list(code_literals())
    assert literals
    assert not [(path, code) for path, code in literals if Refusal.of(code) is None]


@pytest.mark.parametrize("code", Refusal)
def test_explanation_is_words_that_read_on_from_a_name(code: Refusal) -> None:
    assert len(code.explanation.split()) >= 4
    assert code.explanation[0].islower()
    assert not code.explanation.endswith(".")


def test_every_rule_of_a_policy_that_can_deny_has_a_code() -> None:
    rules = {code.removeprefix("policy_") for code in Refusal if code.startswith("policy_")}
    checks_of_updates = {"update_dtype", "update_finite"}
    assert rules - checks_of_updates <= vars(PolicyConfig()).keys()
    for rule in rules:
        denial = Verdict(rule=rule, asked=2.0, allowed=1.0, holds=False).denial()
        assert denial.code == f"policy_{rule}"


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("policy_tasks", Refusal.POLICY_TASKS),
        ("policy_tasks: allowed 1", Refusal.POLICY_TASKS),
        ("of_another_release", None),
        ("", None),
    ],
)
def test_code_is_found_with_and_without_figures(text: str, code: Refusal | None) -> None:
    assert Refusal.of(text) is code


def test_code_travels_as_plain_text() -> None:
    reply = unpack_reply(pack_reply(Reply(institution="a", refusal=Refusal.STORAGE)))
    assert type(reply.refusal) is str
    assert reply.refusal == "storage"
    assert json.dumps({"a": Refusal.STORAGE}) == '{"a": "storage"}'
    assert pickle.loads(pickle.dumps(Refusal.STORAGE)) is Refusal.STORAGE


def test_groups_of_codes_know_plain_texts() -> None:
    assert "worker_lost" in SILENCES
    assert "policy_hours" in NOT_YET
    assert "budget_exhausted" in NOT_AFFORDED
    assert not SILENCES & NOT_YET


def test_the_table_imports_no_torch() -> None:
    check = "import sys, confide.protocol.refusals; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", check], check=False).returncode == 0


@pytest.mark.parametrize(
    ("code", "figures", "told"),
    [
        (
            Refusal.POLICY_MAX_EPSILON,
            {"asked": 3.0, "allowed": 1.0},
            "policy_max_epsilon: asked 3, allowed 1",
        ),
        (
            Refusal.POLICY_MIN_RECORDS,
            {"allowed": 100.0},
            "policy_min_records: has fewer than the 100 needed",
        ),
        (
            Refusal.POLICY_PUBLIC_N,
            {"allowed": 700.0},
            "policy_public_n: has more than the 700 allowed",
        ),
        (Refusal.LEDGER, {}, "ledger"),
        ("of_another_release", {"epsilon": 2.5}, "of_another_release: epsilon 2.5"),
    ],
)
def test_a_refusal_says_what_was_asked_and_what_is_allowed(
    code: str, figures: dict[str, float], told: str
) -> None:
    assert with_figures(code, figures) == told
