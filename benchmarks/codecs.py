"""Accuracy against bytes: python benchmarks/codecs.py [FOLDER] writes codecs.csv and codecs.svg.

Two ways to train: adapters (LoRA) and a head on the first layer of MiniLM, on 2,400 tweets, and
all of a small convolutional network, on 5,000 digits; four institutions each, without privacy. A
codec changes how updates travel, and for one line how models do. What was run before is taken from
FOLDER/codecs.csv, so that a broken run goes on.
"""

import argparse
import tempfile
from pathlib import Path

import matplotlib

matplotlib.use("svg")
import pandas
from matplotlib import pyplot

from confide.simulations.api import simulate

_COMMON = (
    "privacy=none",
    "strategy=fedavg",
    "simulation.baselines=[]",
    "data.validation=0",
    "data.num_clients=4",
    "data.partitioner=iid",
)
_UP, _DOWN = "strategy/upload=", "strategy/download="
CODECS = {
    "float32": (),
    "bf16": (f"{_UP}bf16",),
    "int8": (f"{_UP}int8",),
    "int8, both ways": (f"{_UP}int8", f"{_DOWN}int8"),
    "low rank, 4": (f"{_UP}low_rank", "strategy.upload.rank=4"),
    "low rank, 1": (f"{_UP}low_rank", "strategy.upload.rank=1"),
    "top k, 10 %": (f"{_UP}top_k", "strategy.upload.fraction=0.1"),
    "top k, 1 %": (f"{_UP}top_k", "strategy.upload.fraction=0.01"),
}
WAYS: dict[str, tuple[str, ...]] = {
    "full tuning": (
        "experiment=digits",
        "data.test=0.4",
        "client=default",
        "client.local_steps=5",
        "client.batch_size=32",
        "client.optimizer.learning_rate=0.1",
        "server.num_rounds=12",
    ),
    "LoRA": (
        "experiment=tweets",
        "client=default",
        "tuning=lora",
        "backbone.num_hidden_layers=1",
        "task.max_tokens=24",
        "data.max_records=2400",
        "data.test=0.5",
        "client.local_steps=4",
        "client.batch_size=16",
        "client.optimizer.learning_rate=0.5",
        "server.num_rounds=8",
    ),
}
SEEDS = {"full tuning": (0, 1, 2), "LoRA": (0, 1, 2)}
_CURVES = {
    "rounding": {"int8": "int8", "bf16": "bf16", "float32": "float32"},
    "low rank": {"low rank, 1": "1", "low rank, 4": "4", "float32": "float32"},
    "top k": {"top k, 1 %": "1 %", "top k, 10 %": "10 %", "float32": "float32"},
}
"""Family -> its codecs, as drawn; each ends at float32."""
_COLOURS = ("#2a78b5", "#c4661f", "#3a9a5b")
# Reads on light and on dark pages
_INK = dict.fromkeys(
    ("text.color", "axes.labelcolor", "xtick.color", "ytick.color", "axes.edgecolor"), "#888888"
)
_KEYS = ["seed", "way", "codec"]


def measure(way: str, codec: str, seed: int) -> dict[str, object]:
    """Run, and return what was sent and how good the model is."""
    seeded = (f"simulation.seed={seed}", f"data.partition_seed={seed}")
    with tempfile.TemporaryDirectory() as folder:
        overrides = [*_COMMON, *WAYS[way], *CODECS[codec], *seeded]
        summary = simulate(overrides, run_dir=Path(folder) / "run").summary
    answers = 4 * summary["rounds"]
    return {
        "seed": seed,
        "way": way,
        "codec": codec,
        "up": summary["bytes"]["up"] / answers,
        "down": summary["bytes"]["down"] / answers,
        "accuracy": summary["federated"]["accuracy"],
        "log_loss": summary["federated"]["log_loss"],
    }


def means(table: pandas.DataFrame) -> pandas.DataFrame:
    """Return a line for each way and codec: means, and points lost against float32 by seed."""
    whole = table[table.codec == "float32"].set_index(["way", "seed"])["accuracy"]
    plain = [whole[way, seed] for way, seed in zip(table.way, table.seed, strict=True)]
    table = table.assign(points=100 * (table.accuracy - plain))
    found = table.groupby(["way", "codec"])[["up", "down", "accuracy", "log_loss", "points"]].mean()
    order = [(way, codec) for way in WAYS for codec in CODECS if (way, codec) in found.index]
    return found.loc[order]


def draw(found: pandas.DataFrame, path: Path) -> None:
    """Draw accuracy against the bytes of an update, a panel for each way to train."""
    pyplot.rcParams.update(_INK)
    figure, panels = pyplot.subplots(1, len(WAYS), figsize=(9, 3.8))
    for axis, way in zip(panels, WAYS, strict=True):
        part = found.loc[way]
        for (family, codecs), colour in zip(_CURVES.items(), _COLOURS, strict=True):
            curve = part.loc[[codec for codec in codecs if codec in part.index]]
            axis.plot(curve.up / 1024, curve.accuracy, "o-", color=colour, label=family, ms=5)
            for codec, line in curve.iloc[:-1].iterrows():
                at = (line.up / 1024, line.accuracy)
                text = codecs[str(codec)]
                # Above the curve of rounding, which is the highest, and below the others
                side = 6 if family == "rounding" else -13
                axis.annotate(text, at, (0, side), textcoords="offset points", ha="center", size=7)
        middle = (part.accuracy.max() + part.accuracy.min()) / 2
        reach = max(0.05, 0.65 * (part.accuracy.max() - part.accuracy.min()))
        axis.set(xscale="log", ylim=(middle - reach, middle + reach), title=way)
        axis.set(xlabel="KiB an update", ylabel="accuracy")
        axis.minorticks_off()
        axis.set_xticks([4, 8, 16, 32, 64, 128], ["4", "8", "16", "32", "64", "128"])
        axis.set_xlim(part.up.min() / 1400, part.up.max() / 700)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="lower center", ncols=3, frameon=False)
    figure.tight_layout(rect=(0, 0.07, 1, 1))
    figure.savefig(path, metadata={"Date": None}, transparent=True)


def main() -> None:
    """Run what is missing, print the table, and draw."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, nargs="?", default=Path())
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    path = arguments.folder / "codecs.csv"
    rows = pandas.read_csv(path).to_dict("records") if path.exists() else []
    known = {tuple(row[key] for key in _KEYS) for row in rows}
    todo = [
        (seed, way, codec)
        for seed in sorted({seed for seeds in SEEDS.values() for seed in seeds})
        for way in WAYS
        for codec in CODECS
        if seed in SEEDS[way] and (seed, way, codec) not in known
    ]
    for seed, way, codec in todo:
        rows.append(measure(way, codec, seed))
        pandas.DataFrame(rows).to_csv(path, index=False)
        print(*rows[-1].values(), sep="\t", flush=True)
    found = means(pandas.DataFrame(rows))
    print(found.to_string(float_format=lambda value: f"{value:.4g}"))
    draw(found, arguments.folder / "codecs.svg")


if __name__ == "__main__":
    main()
