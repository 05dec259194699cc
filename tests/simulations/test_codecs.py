"""Whole runs whose updates and models travel by codecs."""

import json
from pathlib import Path

import pytest
from flwr.app import Message
from small_federation import Small
from stopped_run import HEART, Simulate, confide_simulate, kill_when, started, stopped
from stopped_run import PRIVATE as PRIVACY

from confide.config.composing.compose import compose
from confide.errors import ConfigError
from confide.protocol.codecs.travel import CODED
from confide.server.report.compare import comparison_page
from confide.server.report.read import read_run
from confide.server.report.write import write_report_or_warn
from confide.simulations.engines.inline import InlineGrid

PRIVATE = (*PRIVACY, "client=table", "strategy=fedavg")
CODED_RUNS = {
    "int8": ("strategy/upload=int8", "strategy/download=int8"),
    "top_k": ("strategy/upload=top_k", "strategy.upload.fraction=0.2", "strategy/download=bf16"),
    "low_rank": ("strategy/upload=low_rank", "strategy.upload.rank=1"),
}
RUNS = pytest.mark.parametrize("overrides", CODED_RUNS.values(), ids=CODED_RUNS)


@RUNS
def test_a_stopped_run_goes_on_to_the_same_weights(
    run: Simulate, overrides: tuple[str, ...]
) -> None:
    undisturbed = run(*HEART, *PRIVATE, *overrides, name="undisturbed")
    stopped(run, *HEART, *PRIVATE, *overrides, after=3)
    resumed = run(*HEART, *PRIVATE, *overrides, resume=True)
    assert resumed["model_sha256"] == undisturbed["model_sha256"]
    assert resumed["bytes"] == undisturbed["bytes"]


@RUNS
def test_engines_give_the_same_weights(run: Simulate, overrides: tuple[str, ...]) -> None:
    inline = run(*HEART, *PRIVATE, *overrides, name="inline")
    workers = ("simulation.engine=process", "simulation.workers=2")
    process = run(*HEART, *PRIVATE, *overrides, *workers, name="process")
    vectorised = run(*HEART, *PRIVATE, *overrides, "simulation.engine=vectorised", name="v")
    assert process["model_sha256"] == inline["model_sha256"]
    assert vectorised["model_sha256"] == inline["model_sha256"]
    assert process["bytes"] == vectorised["bytes"] == inline["bytes"]


def test_a_killed_run_goes_on_to_the_same_weights(run: Simulate, tmp_path: Path) -> None:
    overrides = (*HEART, *PRIVATE, *CODED_RUNS["top_k"])
    expected = run(*overrides, name="undisturbed")
    folder = tmp_path / "killed"
    with started(*overrides, f"hydra.run.dir='{folder}'") as process:
        kill_when(process, lambda: (folder / "checkpoints" / "round-00002.safetensors").exists())
    resumed = confide_simulate(f"resume={folder}")
    assert resumed.returncode == 0, resumed.stderr
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["model_sha256"] == expected["model_sha256"]


@pytest.mark.parametrize(
    "overrides", [("strategy/upload=none",), ("strategy/upload=low_rank", "strategy.upload.rank=9")]
)
def test_a_codec_that_leaves_all_as_it_is_changes_no_weight(
    run: Simulate, overrides: tuple[str, ...]
) -> None:
    plain = run(*HEART, name="plain")
    coded = run(*HEART, *overrides, name="coded")
    assert coded["model_sha256"] == plain["model_sha256"]
    assert coded["bytes"] == plain["bytes"]


def test_bytes_are_those_that_travel(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a run says it sent is what its messages held, headers of arrays aside."""
    small = Small(*CODED_RUNS["int8"], "server.num_rounds=2", "privacy=none")
    seen = {"up": 0, "down": 0}

    def size(message: Message) -> int:
        arrays = message.content.get("arrays")
        if arrays is None or CODED not in arrays:  # what is only scored travels as it is
            return 0
        return sum(len(array.data) - 128 for array in arrays.values())

    push, pull = InlineGrid.push_messages, InlineGrid.pull_messages

    def pushed(self: InlineGrid, messages: list[Message]) -> object:
        kept = list(messages)
        seen["down"] += sum(map(size, kept))
        return push(self, kept)

    def pulled(self: InlineGrid, message_ids: list[str]) -> object:
        kept = list(pull(self, message_ids))
        seen["up"] += sum(map(size, kept))
        return kept

    monkeypatch.setattr(InlineGrid, "push_messages", pushed)
    monkeypatch.setattr(InlineGrid, "pull_messages", pulled)
    history = small.run(small.inline()).state.history
    assert sum(record.bytes_up for record in history) == seen["up"] > 0
    assert sum(record.bytes_down for record in history) == seen["down"] > 0


def test_order_of_arrival_does_not_matter() -> None:
    small = Small(*CODED_RUNS["int8"], "privacy=none", "server.num_rounds=2")
    forwards = small.run(small.inline()).state.params
    small.data = dict(reversed(small.data.items()))
    backwards = small.run(small.inline()).state.params
    assert all(forwards[name].equal(backwards[name]) for name in forwards)


def test_hostile_updates_travel_by_the_codec_too(run: Simulate) -> None:
    attack = ("simulation.attack.kind=sign_flip", "simulation.attack.num_clients=1")
    robust = ("strategy=geometric_median", "strategy/upload=int8")
    summary = run(*HEART, "privacy=none", *attack, *robust)
    assert summary["failures"] == {}
    hostile = summary["attack"]["clients"]
    aside = {name: line["mostly"] for name, line in summary["set_aside"].items()}
    assert max(aside, key=aside.__getitem__) in hostile


def test_a_client_that_answers_nonsense_is_refused(run: Simulate) -> None:
    fault = "simulation.faults=[{kind: nan, rounds: [2], client: Cleveland}]"
    for name, overrides in CODED_RUNS.items():
        summary = run(*HEART, *overrides, fault, name=name)
        assert sum(len(codes) for codes in summary["failures"].values()) == 1


def test_asynchronous_steps_travel_coded(run: Simulate) -> None:
    overrides = (
        *HEART,
        "privacy=none",
        "strategy=fedbuff",
        "strategy.timing.concurrency=3",
        "strategy.timing.buffer_size=2",
        *CODED_RUNS["top_k"],
    )
    undisturbed = run(*overrides, name="undisturbed")
    plain = run(*overrides[:-3], name="plain")
    assert undisturbed["bytes"]["up"] < plain["bytes"]["up"] / 2
    stopped(run, *overrides, after=3)
    assert run(*overrides, resume=True)["model_sha256"] == undisturbed["model_sha256"]


def test_under_privacy_a_codec_costs_nothing(run: Simulate) -> None:
    plain = run(*HEART, *PRIVATE, name="plain")["clients"]
    coded = run(*HEART, *PRIVATE, *CODED_RUNS["top_k"], name="coded")["clients"]
    assert {name: line["epsilon"] for name, line in coded.items()} == {
        name: line["epsilon"] for name, line in plain.items()
    }


def test_pages_tell_what_travelled(run: Simulate, tmp_path: Path) -> None:
    run(*HEART, name="plain")
    run(*HEART, *CODED_RUNS["int8"], name="coded")
    write_report_or_warn(tmp_path / "coded")
    page = (tmp_path / "coded" / "report.html").read_text()
    assert "FedAvg, with updates sent as 8-bit integers, with models sent as 8-bit integers" in page
    runs = [read_run(tmp_path / name) for name in ("plain", "coded")]
    compared = comparison_page(runs, title="codecs", page=tmp_path / "index.html")
    assert "updates, a round" in compared
    assert "models, a round" in compared


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (
            ("strategy/download=top_k",),
            "download.kind=top_k: .* set strategy/download=none or bf16",
        ),
        (
            ("strategy=scaffold", "strategy/download=bf16"),
            "download.kind=bf16: objective.kind=scaffold keeps an account at the institutions",
        ),
        (("strategy=feddyn", "strategy/upload=int8"), "kind=feddyn keeps an account"),
        (
            ("privacy=none", "strategy=newton", "client=table", "strategy/upload=int8"),
            "kind=newton adds up sums that have to arrive as they were sent",
        ),
        (
            ("privacy=record", "client=private_table", "strategy/upload=int8"),
            "kind=gradient_sum takes steps whose length follows from the noise",
        ),
        (
            ("strategy=median", "strategy/upload=top_k"),
            "upload.kind=top_k: most institutions send no value .* aggregator.kind=median",
        ),
        (("strategy/upload=top_k", "strategy.upload.fraction=0.5"), "fraction=0.5: expected > 0"),
        (("strategy/upload=zip",), "there is no strategy/upload called zip"),
    ],
)
def test_what_cannot_work_is_refused_with_the_reason(overrides: tuple[str, ...], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        compose([*HEART, *overrides])


def test_adapters_in_turns_have_no_error_to_carry_over() -> None:
    turns = ("experiment=tweets", "tuning=lora_alternating", "strategy=fedavg")
    with pytest.raises(ConfigError, match=r"upload.kind=low_rank: .* tuning=lora"):
        compose([*turns, "strategy/upload=low_rank"])
    assert compose([*turns, "strategy/upload=int8"]).strategy.upload.kind == "int8"
