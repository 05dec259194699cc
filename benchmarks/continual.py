"""Going on from a released model: python benchmarks/continual.py [FOLDER [SETTING]].

It writes continual.csv. A first run is trained on what is there by then, a second one goes on from
its model with the rest, which alone it trains on, as FedAvg and with an L2-SP penalty on the way
from there. Both are scored on the test records of either time, beside the first model and one that
is trained on all records at once, with the same rounds. Every run is trained without privacy, and
with record-level privacy of its own; whoever takes part in both runs spends both.

Tweets: 800 of them at four banks, three quarters of which come first by a keyed hash, so that the
rest is of the same kind; a head on MiniLM's features. Hospitals: patients younger than 55 first,
older ones afterwards, who are more often ill; a logistic regression.
"""

import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas

from confide.config.composing.compose import compose
from confide.models.backbones import resolve_package_path
from confide.simulations.api import simulate

MODELS = ("first", "FedAvg", "L2-SP", "all at once")


@dataclass(frozen=True)
class Setting:
    """What is gone on with.

    Attributes:
        words: of every run.
        first: of the first run, besides.
        rest: of a run that goes on, besides.
        private: of a run under privacy, besides.
        exposed: of one without, besides.
        sample: number of lines that are drawn of its records once, since each run reads them; None
            for all.
        alphas: weight of the penalty: without privacy, with it.
        seeds: of splits, parts and batches.
    """

    words: Sequence[str]
    first: Sequence[str]
    rest: Sequence[str]
    private: Sequence[str]
    exposed: Sequence[str]
    alphas: tuple[float, float]
    seeds: Sequence[int]
    sample: int | None = None


SETTINGS: Mapping[str, Setting] = {
    "hospitals": Setting(
        words=["experiment=heart_disease", "client=table"],
        first=["data.arrival_column=age", "data.until=55"],
        rest=["data.arrival_column=age", "data.old_before=55"],
        private=["privacy=record", "privacy.epsilon=8", "privacy.delta=1e-3"],
        exposed=["privacy=none"],
        alphas=(0.5, 0.5),
        seeds=(0, 1, 2, 3, 4),
    ),
    "tweets": Setting(
        words=[
            *("experiment=tweets", "server.num_rounds=10"),
            *("data.test=0.25", "client.local_steps=10", "client.sampling_rate=0.2"),
        ],
        first=["data.until=0.75"],
        rest=["data.old_before=0.75"],
        private=["privacy.epsilon=8", "client.optimizer.learning_rate=3"],
        exposed=["privacy=none", "client.optimizer.learning_rate=0.5"],
        alphas=(0.1, 0.1),
        seeds=(0, 1, 2),
        sample=800,
    ),
}


def results(folder: Path, settings: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Run everything: a row for each model and sort of test records."""
    for name, setting in ((name, SETTINGS[name]) for name in settings):
        records = _sampled(folder, setting)
        for epsilon, of_privacy in (("none", setting.exposed), ("8 a run", setting.private)):
            for seed in setting.seeds:
                words = [
                    *(*setting.words, *records, *of_privacy, f"simulation.seed={seed}"),
                    *(f"data.partition_seed={seed}", "simulation.baselines=[]", "tracking=none"),
                ]
                alpha = setting.alphas[epsilon != "none"]
                for model, scores in _models(folder, words, setting, alpha).items():
                    for records, one in scores.items():
                        yield {
                            "setting": name,
                            "epsilon": epsilon,
                            "seed": seed,
                            "model": model,
                            "records": records,
                            "accuracy": one["accuracy"],
                            "n": one["num_examples"],
                        }


def _sampled(folder: Path, setting: Setting) -> list[str]:
    """Draw a setting's records into a file of their own, and return the words that name it."""
    if setting.sample is None:
        return []
    source = compose(setting.words).data.path
    table = pandas.read_csv(resolve_package_path(source), encoding_errors="replace")
    table["text"] = table["text"].str.split().str.join(" ")
    path = folder / "records.csv"
    table.drop_duplicates("text").sample(setting.sample, random_state=0).to_csv(path, index=False)
    return [f"data.path={path}", "data.public=true", "data.max_records=null"]


def _models(
    folder: Path, words: Sequence[str], setting: Setting, alpha: float
) -> dict[str, Mapping[str, Mapping[str, float]]]:
    """Train, and return model -> sort of test records -> scores."""
    penalty = ["strategy=l2_sp", f"strategy.objective.alpha={alpha}"]

    def run(name: str, *more: str) -> Mapping[str, Any]:
        shutil.rmtree(folder / name, ignore_errors=True)
        return simulate([*words, *more], run_dir=folder / name).summary

    def goes_on(name: str, start: str, *more: str) -> Mapping[str, Any]:
        begun = ("backbone=run", f"backbone.path={folder / start}")
        found: Mapping[str, Any] = run(name, *begun, *setting.rest, *more)["release"]["scores"]
        return found

    run("first", "strategy=fedavg", *setting.first)
    plain = goes_on("plain", "first", "strategy=fedavg")
    held = goes_on("held", "first", *penalty)
    run("all", "strategy=fedavg")
    # A run that trains nothing scores the model on both sorts of records
    still = ("strategy=fedavg", "server.num_rounds=1", "client.optimizer.learning_rate=1e-30")
    whole = goes_on("scored", "all", *still)
    found = (plain["old_model"], plain["new_model"], held["new_model"], whole["old_model"])
    return dict(zip(MODELS, found, strict=True))


def main() -> None:
    """Run everything and write what came of it."""
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else ".")
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as temporary:
        rows = []
        for row in results(Path(temporary), sys.argv[2:] or list(SETTINGS)):
            rows.append(row)
            # Each time anew: whoever breaks it off has what came before
            pandas.DataFrame(rows).to_csv(folder / "continual.csv", index=False)
    table = pandas.DataFrame(rows)
    spread = table.groupby(["setting", "epsilon", "model", "records"], sort=False)["accuracy"]
    print(spread.agg(["mean", "std"]).unstack().round(3).to_string())


if __name__ == "__main__":
    main()
