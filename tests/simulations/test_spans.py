"""Runs that find spans: from files with a word a line to predictions, whatever carries them."""

import json
from pathlib import Path

import numpy
import pandas
import pytest
from small_models import make_backbone
from stopped_run import Simulate, confide_simulate, kill_when, started

import confide
from confide.inference.prediction import predict

WORDS = {
    "person": ["anna", "maria", "peter"],
    "place": ["rome", "oslo", "new york"],
    "": ["in", "a"],
}
QUIET = ("tracking=none", "simulation.baselines=[]", "server.num_rounds=4", "trainer.num_threads=1")


def write_records(path: Path, count: int = 160) -> Path:
    """Write sentences in which names follow from words; some begin a document."""
    rng, lines = numpy.random.default_rng(0), []
    for number in range(count):
        if number % 3 == 0:
            lines.append("-DOCSTART- -X-\n")
        for _ in range(int(rng.integers(3, 9))):
            kind = str(rng.choice(["person", "place", "", ""]))
            # A number makes each sentence one of its own
            for at, word in enumerate(str(rng.choice(WORDS[kind])).split()):
                lines.append(f"{word}\t{'IB'[at == 0]}-{kind}" if kind else f"{word}\tO")
        lines += [f"{number}\tO", ""]
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, ...]:
    """Return the overrides of a small job."""
    folder = tmp_path_factory.mktemp("spans")
    backbone = make_backbone(folder / "bert")
    path = write_records(folder / "sentences.conll")
    return (
        "task=tweet_entities",
        "task.outcome.types=[person,place]",
        "task.max_tokens=16",
        f"data.path={path}",
        "data.public=true",
        "data.num_clients=3",
        "data.partitioner=dirichlet",
        "backbone=transformer",
        f"backbone.name={backbone.name}",
        *QUIET,
    )


def test_a_private_run_is_the_same_over_processes_and_with_noise_on_its_metrics(
    run: Simulate, job: tuple[str, ...]
) -> None:
    noisy = ("policy.metrics_privacy=noisy", "policy.min_support=1")
    one = run(*job, *noisy, name="inline")
    other = run(*job, *noisy, "simulation.engine=process", "simulation.workers=2", name="process")
    assert one["model_sha256"] == other["model_sha256"]
    assert one["federated"] == other["federated"]
    told = one["evaluation"]
    assert told["noisy"]
    assert "types" not in told


def test_what_is_told_by_type_adds_up(job: tuple[str, ...], tmp_path: Path) -> None:
    words = [*job, "privacy=none", "server.num_rounds=12"]
    confide.simulate(words, run_dir=tmp_path / "run")
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    told = summary["evaluation"]
    for figure in ("hits", "predicted", "gold"):
        assert told["pooled"][figure] == sum(one[figure] for one in told["types"].values())
    assert told["pooled"]["gold"] > 0
    assert told["pooled"]["f1"] == pytest.approx(summary["federated"]["entity_f1"], abs=1e-6)
    page = (tmp_path / "run" / "report.html").read_text()
    assert "A predicted span is right where" in page
    assert page.index(">all<") < page.index(">person<") < page.index(">place<")
    assert "F1 of each type" in (tmp_path / "run" / "model_card.md").read_text()
    # Tags that are there stay beside those that are predicted
    frame = pandas.DataFrame({"words": ["anna in rome"], "tags": ["B-person O B-place"]})
    found = predict(tmp_path / "run", frame)
    assert len(json.loads(found["predicted_tags"][0])) == 3


def test_sentences_of_a_document_are_protected_together(
    run: Simulate, job: tuple[str, ...]
) -> None:
    grouped = (
        "privacy=group",
        "data.group_column=document",
        "data.partitioner=grouped_natural",
        "data.partition_by=document",
        "+data.partitioner_args.group_size=18",
    )
    summary = run(*job, *grouped, "server.num_rounds=1")
    assert summary["privacy"]["unit"] == "group"


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_a_run_killed_after_a_round_ends_as_if_it_had_not(
    job: tuple[str, ...], tmp_path: Path
) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert confide_simulate(*job, f"hydra.run.dir={whole}").returncode == 0
    with started(*job, f"hydra.run.dir={killed}") as process:
        kill_when(process, lambda: bool(list(killed.glob("checkpoints/round-*"))))
    assert not (killed / "summary.json").exists()
    assert confide_simulate(f"resume={killed}").returncode == 0
    one, other = (json.loads((it / "summary.json").read_text()) for it in (whole, killed))
    assert one["model_sha256"] == other["model_sha256"]
    assert one["federated"] == other["federated"]
