"""A project of somebody's own: a table of applicants, and the configs that describe it."""

import random
from pathlib import Path

FILES = {
    "task/credit.yaml": """\
kind: tabular
labels: [good, bad]
label_column: Status
columns:
  Age: {minimum: 18, maximum: 100}
  Income: {minimum: 0, maximum: 1000, missing_values: ["NA"], indicator: true}
  Home: {kind: categorical, categories: [owner, rent]}
""",
    "data/credit.yaml": """\
path: credit.csv
id_column: Id
num_clients: 3
public: true
""",
    "experiment/credit.yaml": """\
# Whether a loan was paid back.
defaults:
  - override /task: credit
  - override /data: credit
  - override /backbone: logistic
  - override /tuning: full
  - override /privacy: none
server: {num_rounds: 2}
simulation: {baselines: []}
""",
}


def write_configs(folder: Path, **changed: str) -> Path:
    """Write own configs; ``changed`` are texts by group, in place of that group's file."""
    for name, text in FILES.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(changed.get(path.parent.name, text))
    return folder


def write_records(path: Path, *, count: int = 150) -> Path:
    """Write invented applicants, of whom those with a larger income pay back."""
    draw = random.Random(0)
    lines = ["Id,Age,Income,Home,Status"]
    for number in range(count):
        income = draw.randint(50, 900)
        label = "good" if income + draw.randint(-200, 200) > 450 else "bad"
        home = draw.choice(["owner", "rent"])
        lines.append(f"{number},{draw.randint(20, 70)},{income},{home},{label}")
    path.write_text("\n".join(lines) + "\n")
    return path
