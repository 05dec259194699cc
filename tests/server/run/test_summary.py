import functools
import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console

from confide.config.composing.compose import compose
from confide.errors import RunFailedError
from confide.protocol.new_plan import make_plan
from confide.protocol.plan import TrainingPlan
from confide.server.rounds.outcome import Outcome
from confide.server.rounds.state import Best, RoundRecord, RunState
from confide.server.run.closing import closing_lines, closing_table
from confide.server.run.statement import privacy_statement
from confide.server.run.summary import (
    Findings,
    InstitutionResult,
    PooledResult,
    RunResult,
    summarise,
    summarise_failure,
)

# DESIGN section 8.
KEYS = {
    "schema",
    "status",
    "rounds",
    "seconds",
    "model_sha256",
    "primary_metric",
    "federated",
    "baselines",
    "clients",
    "bytes",
}
CLIENT_KEYS = {"num_examples", "epsilon", "delta", "accuracy", "rounds"}
HISTORY = (
    RoundRecord(
        server_round=1,
        accepted=("a", "b"),
        epsilon={"a": 1.0, "b": 2.0},
        bytes_up=16,
        bytes_down=20,
    ),
    RoundRecord(
        server_round=2,
        accepted=("a",),
        refused={"b": "no_reply"},
        epsilon={"a": 1.5},
        bytes_up=8,
        bytes_down=20,
    ),
)


@functools.cache
def plan(unit: str = "record") -> TrainingPlan:
    overrides = [
        "experiment=heart_disease",
        f"privacy.unit={unit}",
        *(["privacy.epsilon=3"] if unit != "none" else []),
        "job=trial",
    ]
    return make_plan(compose(overrides), backbone_sha256=None)


def result(unit: str = "record") -> RunResult:
    state = RunState(
        server_round=2, params={"w": torch.ones(1)}, strategy_state={}, history=HISTORY
    )
    outcome = Outcome(
        state=state,
        kept=state.params,
        kept_round=2,
        clients={"a": 5, "b": 7},
        test={},
        stopped_early=False,
    )
    own = {"accuracy": 0.75, "num_examples": 4}
    institutions = {
        "a": InstitutionResult(
            num_examples=5, records=9, labels={"absent": 4, "present": 5}, test=own
        ),
        "b": InstitutionResult(num_examples=7, records=10, labels={"present": 10}, test={}),
    }
    return RunResult(
        plan=plan(unit),
        outcome=outcome,
        findings=Findings(
            pooled_test={"accuracy": 0.7, "log_loss": 0.6, "num_examples": 8},
            institutions=institutions,
            reproducible=True,
        ),
        model_sha256="ab",
        seconds={"prepare": 1.004, "train": 2.5},
        versions={"torch": "2"},
    )


def found(made: RunResult, **changes: Any) -> RunResult:
    """Return a result with other findings."""
    return replace(made, findings=replace(made.findings, **changes))


def with_baseline() -> RunResult:
    made = result()
    alone = {"accuracy": 0.5, "num_examples": 8}
    line = replace(
        made.findings.institutions["a"],
        local=alone,
        local_own={"accuracy": 0.25, "num_examples": 4},
    )
    return found(made, institutions={**made.findings.institutions, "a": line})


def printed(summary: dict[str, object]) -> str:
    console = Console(file=io.StringIO(), width=200)
    console.print(closing_table(summary))
    file = console.file
    assert isinstance(file, io.StringIO)
    return file.getvalue()


def test_summary_has_the_keys_of_the_design() -> None:
    summary = summarise(result())
    assert summary.keys() >= KEYS
    assert summary["clients"]["a"].keys() >= CLIENT_KEYS
    assert summary["bytes"].keys() == {"up", "down"}


def test_summary_says_what_happened() -> None:
    summary = summarise(result())
    assert (summary["schema"], summary["status"], summary["job"]) == (1, "completed", "trial")
    assert (summary["rounds"], summary["kept_round"], summary["stopped_early"]) == (2, 2, False)
    assert summary["seconds"] == 3.5
    assert summary["phases"] == {"prepare": 1.0, "train": 2.5}
    assert summary["bytes"] == {"up": 24, "down": 40}
    assert summary["failures"] == {"2": {"b": "no_reply"}}
    assert (summary["model_sha256"], summary["primary_metric"]) == ("ab", "accuracy")
    assert "best" not in summary


def test_federated_is_the_pooled_test_and_its_support() -> None:
    assert summarise(result())["federated"] == {
        "accuracy": 0.7,
        "log_loss": 0.6,
        "test_examples": 8,
    }


def test_client_line_holds_its_last_epsilon_its_rounds_and_its_test() -> None:
    clients = summarise(result())["clients"]
    assert (clients["a"]["epsilon"], clients["b"]["epsilon"]) == (1.5, 2.0)
    assert (clients["a"]["rounds"], clients["b"]["rounds"]) == (2, 1)
    assert (clients["a"]["accuracy"], clients["a"]["test_examples"]) == (0.75, 4)
    assert "accuracy" not in clients["b"]
    assert (
        clients["b"]["num_examples"],
        clients["b"]["records"],
        clients["b"]["test_examples"],
    ) == (7, 10, 0)
    assert clients["a"]["delta"] == plan().privacy.delta


def test_client_line_has_no_epsilon_without_privacy() -> None:
    client = summarise(result("none"))["clients"]["a"]
    assert "epsilon" not in client
    assert "delta" not in client


def test_baselines_are_those_who_trained_alone() -> None:
    assert summarise(result())["baselines"] == {}
    assert summarise(with_baseline())["baselines"] == {
        "local": {"a": {"accuracy": 0.5, "own_test": {"accuracy": 0.25}}}
    }


def test_best_round_is_told_when_there_is_one() -> None:
    made = result()
    best = Best(server_round=1, value=0.25, params={})
    outcome = replace(made.outcome, state=replace(made.outcome.state, best=best))
    summary = summarise(replace(made, outcome=outcome))
    assert summary["best"] == {"round": 1, "metric": "accuracy", "validation": 0.25}


def test_summary_survives_json() -> None:
    summary = summarise(with_baseline())
    assert json.loads(json.dumps(summary)) == summary


def test_statement_says_nominal_when_reproducible() -> None:
    statement = privacy_statement(plan(), reproducible=True)
    assert statement["guarantee"].startswith("nominal")
    assert statement["noise"] == "reproducible"


def test_statement_says_secure_when_not_reproducible() -> None:
    statement = privacy_statement(plan(), reproducible=False)
    assert "nominal" not in statement["guarantee"]
    assert "cryptographic" in statement["guarantee"]
    assert statement["noise"] == "secure"


def test_statement_names_the_promise_and_what_it_leaves_out() -> None:
    statement = privacy_statement(plan(), reproducible=False)
    assert (statement["unit"], statement["relation"], statement["epsilon"]) == (
        "record",
        "zero-out",
        3.0,
    )
    assert statement["delta"] == plan().privacy.delta
    assert "number of records" in statement["not_protected"]
    assert "validation and test metrics" in statement["not_protected"]


def test_statement_without_privacy_promises_nothing() -> None:
    assert privacy_statement(plan("none"), reproducible=True) == {
        "unit": "none",
        "guarantee": "none",
    }


def test_table_shows_each_institution_and_epsilon() -> None:
    shown = printed(summarise(with_baseline()))
    row = next(line for line in shown.splitlines() if " a " in line)
    assert [word for word in row.split() if word[0].isalnum()] == [
        "a",
        "9",
        "0.500",
        "0.700",
        "0.250",
        "0.750",
        "1.50",
    ]
    assert "epsilon" in shown


def test_pooled_is_a_baseline_of_its_own_and_a_line_after_the_federated() -> None:
    own = {"a": {"accuracy": 0.5, "num_examples": 4}}
    pooled = PooledResult(test={"accuracy": 0.734, "num_examples": 8}, own_test=own)
    summary = summarise(found(result(), pooled=pooled))
    expected = {"accuracy": 0.734, "test_examples": 8, "own_test": {"a": {"accuracy": 0.5}}}
    assert summary["baselines"] == {"pooled": expected}
    assert (
        closing_lines(summary, Path("RUN"))[1]
        == "Pooled, all records in one place: accuracy 0.734."
    )
    assert "local" not in printed(summary)


def test_table_without_privacy_or_baselines_has_no_such_columns() -> None:
    shown = printed(summarise(result("none")))
    assert "epsilon" not in shown
    assert "local" not in shown


@pytest.mark.parametrize(
    ("baselines", "price"),
    [
        (["local"], "each institution's training alone costs the same epsilon once more"),
        (
            ["local", "pooled"],
            (
                "each institution's training alone and training on all records in one place cost"
                " the same epsilon once more each"
            ),
        ),
    ],
)
def test_statement_names_the_price_of_baselines(baselines: list[str], price: str) -> None:
    private = plan()
    assert privacy_statement(private, reproducible=True, baselines=baselines)["baselines"] == price
    assert "baselines" not in privacy_statement(private, reproducible=True)


def test_a_failed_run_names_who_was_missing_and_when() -> None:
    state = RunState(server_round=2, params={}, strategy_state={}, history=HISTORY)
    error = RunFailedError(
        "round 3: too few", when="round 3", missing={"a": "no_reply", "b": "tensor_values"}
    )
    summary = summarise_failure("job", error, state)
    assert summary["status"] == "failed"
    assert summary["rounds"] == 2
    assert summary["failures"] == {
        "2": {"b": "no_reply"},
        "3": {"a": "no_reply", "b": "tensor_values"},
    }


def test_a_run_that_fails_before_its_first_round_says_so() -> None:
    summary = summarise_failure(
        "job", RunFailedError("enrol: nobody", when="enrol", missing={"node 1": "no_reply"}), None
    )
    assert (summary["rounds"], summary["failures"]) == (0, {"enrol": {"node 1": "no_reply"}})


def test_summary_tells_where_records_come_from() -> None:
    assert summarise(found(result(), data={"path": "ward.csv", "records": 3}))["data"] == {
        "path": "ward.csv",
        "records": 3,
    }


# --- a deployment, whose institutions keep their records


def deployed(unit: str = "record") -> RunResult:
    lines = {
        "ann": InstitutionResult(num_examples=60, test={"accuracy": 0.75, "num_examples": 20}),
        "bob": InstitutionResult(num_examples=90, test={}),
    }
    made = result(unit)
    history = (
        RoundRecord(
            server_round=1,
            accepted=("ann",),
            refused={"bob": "policy_hours"},
            epsilon={"ann": 1.25},
        ),
    )
    state = replace(made.outcome.state, history=history, server_round=1)
    outcome = replace(made.outcome, state=state, clients={"ann": 60, "bob": 90})
    pooled = {"accuracy": 0.75, "num_examples": 20}
    measured = "mean over institutions, by support"
    return found(
        replace(made, outcome=outcome),
        institutions=lines,
        pooled_test=pooled,
        reproducible=False,
        measured=measured,
        data={},
    )


def test_a_deployments_clients_tell_what_they_declared_and_no_more() -> None:
    clients = summarise(deployed())["clients"]
    assert clients["ann"]["num_examples"] == 60
    assert not {"records", "labels"} & clients["ann"].keys()
    assert (clients["ann"]["epsilon"], clients["bob"]["epsilon"]) == (1.25, 0.0)


def test_a_deployment_says_how_its_model_was_measured() -> None:
    summary = summarise(deployed())
    assert summary["federated"] == {
        "accuracy": 0.75,
        "test_examples": 20,
        "measured": "mean over institutions, by support",
    }
    lines = closing_lines(summary, Path("RUN"))
    assert (
        lines[0]
        == "Federated model, 20 test records, mean over institutions, by support: accuracy 0.750."
    )
    assert "cryptographic generator" in lines[1]
    assert "Without bob (policy_hours) in round 1." in lines
    assert lines[-1].endswith("model ab, report.html and all else in RUN")


def test_a_deployments_table_counts_training_records_and_leaves_out_what_nobody_told() -> None:
    shown = printed(summarise(deployed()))
    assert "training" in shown
    assert "on own test records, and the mean of all" in shown
    rows = [
        [word for word in line.split() if word[0].isalnum() or word == "-"]
        for line in shown.splitlines()
    ]
    assert ["ann", "60", "0.750", "0.750", "1.25"] in rows
    assert ["bob", "90", "0.750", "-", "0.00"] in rows


def test_a_simulations_table_counts_all_records() -> None:
    shown = printed(summarise(result()))
    assert "training" not in shown
    assert "on pooled and on own test records" in shown


def test_where_no_metric_may_leave_the_closing_line_says_so() -> None:
    made = found(deployed(), pooled_test={"num_examples": 0})
    lines = closing_lines(summarise(made), Path("RUN"))
    assert lines[0] == "Federated model: no institution lets metrics on its test records leave."


def test_closing_lines_tell_budgets_where_ledgers_outlive_the_run() -> None:
    made = found(result(), budgets={"a": {"committed": 3.0, "epsilon": 8.0}})
    assert "Lifetime epsilon committed: a 3.00 of 8." in closing_lines(summarise(made), Path("RUN"))
