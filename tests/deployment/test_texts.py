"""Pairs of texts, and texts from texts: institutions with kits get the weights of a simulation."""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import pytest
from deployment_run import ALLOWING, Deployment
from small_models import MINILM
from small_seq2seq import ENGLISH, GERMAN, in_words, make_seq2seq

OFFICES = ("east", "west")
ROUNDS = "server.num_rounds=2"
# Scores leave with the noise of an institution's own policy, which a simulation has to be told
NOISY = ("policy.metrics_privacy=noisy", "policy.min_support=5")
SPLIT = ("data.validation=0.1", "data.test=0.3")
JOB = (
    "data=default",
    "data.public=true",
    "data.partition_by=office",
    *SPLIT,
    "privacy=record",
    "privacy.epsilon=8",
    "client.local_steps=2",
    "simulation.baselines=[]",
)


def written(records: Path, rows: Iterable[Mapping[str, str]]) -> str:
    """Write records, every other one of each office; return the setting that names them."""
    lines = [{"office": OFFICES[place % 2], **row} for place, row in enumerate(rows)]
    records.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return f"data.path={records}"


def refuse_other_weights(words: Sequence[str], backbone: str) -> None:
    """Deploy a job once, and compare its weights and scores with the simulation's."""
    allowing = (
        *ALLOWING,
        *SPLIT,
        "policy.backbones=[any]",
        "policy.min_records=5",
        NOISY[1],
        f"backbones=['{backbone}']",
    )
    with Deployment(
        run_overrides=words, institutions=OFFICES, client_overrides=allowing
    ) as deployment:
        deployment.start_clients()
        deployment.start_server(ROUNDS)
        assert deployment.wait_for_server(360) == 0
        summary, simulated = deployment.summary(), deployment.simulate(ROUNDS, *NOISY)
        assert summary["model_sha256"] == simulated["model_sha256"]
        assert summary["federated"] == simulated["federated"]
        assert all(client["epsilon"] <= 8 for client in summary["clients"].values())


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_titles_with_their_plots_are_learnt_alike_in_a_deployment(tmp_path: Path) -> None:
    """Several labels of a pair of texts, adapters in the first two layers of MiniLM."""
    rows = [
        {
            "title": f"The {kind} {number}",
            "plot": f"{end}, they say, of {number} people",
            "genres": f"{genre}|{mood}",
        }
        for number in range(20)
        for kind, genre in (("robots", "scifi"), ("wedding", "romance"))
        for end, mood in (("A sad end", "drama"), ("A merry end", "comedy"))
    ]
    pairs = (
        "task=text",
        "task.text_column=title",
        "task.pair_column=plot",
        "task/outcome=multi_label",
        "task.outcome.column=genres",
        "task.outcome.separator='|'",
        "task.outcome.labels=[scifi,romance,drama,comedy]",
        "task.max_tokens=32",
        "backbone=minilm",
        "backbone.num_hidden_layers=2",
        "tuning=lora",
        "tuning.rank=2",
    )
    refuse_other_weights((*pairs, *JOB, written(tmp_path / "films.jsonl", rows)), MINILM.name)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_numbers_are_translated_alike_in_a_deployment(tmp_path: Path) -> None:
    """Each institution scores texts that its model wrote: BLEU and chrF leave as noisy sums."""
    rows = [
        {"source": in_words(number, ENGLISH), "target": in_words(number, GERMAN)}
        for number in range(10, 90)
    ]
    backbone = make_seq2seq(tmp_path / "backbone").name
    texts = (
        "task=translation",
        "task.max_tokens=16",
        "task.outcome.max_tokens=16",
        "backbone=seq2seq",
        f"backbone.name={backbone}",
        "tuning=full",
    )
    refuse_other_weights((*texts, *JOB, written(tmp_path / "numbers.jsonl", rows)), backbone)
