"""The files of a new project: configs, a page, a module for parts of one's own."""

import json
import math
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from confide.client.records.drafting.draft import Draft
from confide.client.records.drafting.positive import positive_of
from confide.client.records.drafting.writing import draft_yaml
from confide.client.records.sources.formats import EXTENSIONS
from confide.client.records.sources.reading import Reading
from confide.config.outcomes.table import OF_ONE_CLASS

_IGNORED = ("/runs/", "/ledgers/", "__pycache__/", "*_predicted.csv")
_MOST_INSTITUTIONS, _ENOUGH_RECORDS = 4, 100

_EXPERIMENT = """\
# confide simulate experiment={name}
# Each record is protected at every institution, whose ledger counts what that spends.
{owners}defaults:
  - override /task: {name}
  - override /data: {name}
  - override /backbone: {backbone}
  - override /tuning: {tuning}
  - override /privacy: record
{recipe}privacy: {{epsilon: 3}}
{settings}{report}{budget}{baselines}"""
_OWNERS = """\
# privacy=group protects each {column} instead, with all of its records together.
"""
_BASELINES = """\
# [local] compares with each institution alone, which spends as much again.
simulation: {baselines: []}
"""
_REPORT = """\
# The class that is looked for: a guess {why}, check it. The report's costs and
# curves are of it; report.costs says what its mistakes cost.
report: {{positive: {positive}}}
"""
_BY_NAME, _BY_ORDER = "by its name", "as the last of task.labels"
_TABLE_RECIPE = "  - override /client: private_table\n"
_ANSWER_SETTINGS = """\
# A causal language model with a chat template that you bring, in Hugging Face format.
# backbone: {name: FOLDER}
client: {local_steps: 4, sampling_rate: 0.25, optimizer: {kind: adam, learning_rate: 0.004}}
server: {num_rounds: 3}
"""
_NETWORK_SETTINGS = """\
client: {local_steps: 10, sampling_rate: 0.2, optimizer: {learning_rate: 0.5}}
server: {num_rounds: 20}
"""
_BUDGET = """\
# What all runs together may spend of each institution's privacy; a run beyond it is declined.
policy: {budget: {epsilon: 12}}
"""
_LEDGER = "client: {ledger: ledgers}\n"
_README = """\
# {name}

In this folder:

```
confide data check experiment={name}
confide simulate experiment={name} hydra.run.dir=runs/{name}
{third}
```

The first says whether the records fit the task, the second trains privately and leaves
`runs/{name}/report.html`, the third {third_does}.

| file | says |
|---|---|
| `conf/task/{name}.yaml` | what a record looks like, and its label: {task_state} |
| `conf/data/{name}.yaml` | where the records are, and how a simulation deals them out |
| `conf/experiment/{name}.yaml` | model, privacy, rounds |
| `{module}.py` | parts of your own: `records`, which reads them in Python |

Any setting can be changed on the command line:
`confide simulate experiment={name} privacy.epsilon=8`. `confide simulate --help` lists them.
Without privacy, to see what it costs: `confide simulate experiment={name} {openly}`.
{spending}"""
_DRAFTED = "drafted; confirm its ranges"
_SPENDING = (
    "Each run spends privacy for good: `confide ledger show ledgers` shows how much. If anybody may"
    "\nread the records, say `public: true` in `conf/data/{name}.yaml`, and take `ledger` out of"
    "\n`conf/experiment/{name}.yaml`.\n"
)
_MODULE = '''\
"""Parts of {name} that are your own, named in a config by their dotted path.

records   data.path="" data._target_={module}.records

A strategy, a loss or a task of your own can stand here too: docs/researcher.md, Your own parts.
"""

import {imports}


def records() -> pandas.DataFrame:
    """Return the records, one a row; {records_say}."""
{body}
'''
_READ = """    return {reader}
"""
_INVENTED = """\
    draw = random.Random(0)
    people = []
    for number in range(800):
        age, income = draw.randint(18, 90), draw.randint(0, 1000)
        home = draw.choice(["owner", "rent"])
        repays = income + 300 * (home == "owner") + draw.gauss(0, 200) > 500
        people.append(
            {"id": number, "age": age, "income": income, "home": home,
             "repaid": "yes" if repays else "no"}
        )
    return pandas.DataFrame(people)
"""
_INVENTED_TASK = """\
# What a record looks like. Ranges are what is possible, not what occurs.
kind: tabular
label_column: repaid
labels: ["no", "yes"]
columns:
  age: {minimum: 18, maximum: 100}
  income: {minimum: 0, maximum: 1000}
  home: {kind: categorical, categories: [owner, rent]}
"""
_INVENTED_LABELS = ("no", "yes")
_READERS = {
    ".csv": "read_csv",
    ".tsv": "read_table",
    ".parquet": "read_parquet",
    ".jsonl": "read_json",
    ".ndjson": "read_json",
}


@dataclass(frozen=True, kw_only=True)
class _Recipe:
    """What a new project's experiment says of a kind of task."""

    backbone: str
    tuning: str
    client: str = ""
    settings: str = ""
    openly: tuple[str, ...] = ()


_NETWORK = _Recipe(
    backbone="cnn",
    tuning="full",
    settings=_NETWORK_SETTINGS,
    openly=("client.optimizer.kind=adam", "client.optimizer.learning_rate=0.003"),
)
_RECIPES = {
    "tabular": _Recipe(
        backbone="logistic", tuning="full", client=_TABLE_RECIPE, openly=("client=table",)
    ),
    "text_classification": _Recipe(backbone="minilm", tuning="head"),
    "token_classification": _Recipe(backbone="minilm", tuning="head"),
    "image_classification": _NETWORK,
    "audio_classification": _NETWORK,
    "causal_lm": _Recipe(backbone="language_model", tuning="lora", settings=_ANSWER_SETTINGS),
    "speech_recognition": replace(_NETWORK, backbone="ctc"),
}


@dataclass(frozen=True, kw_only=True)
class Source:
    """Where a project's records are.

    Attributes:
        path: ``data.path``, relative to the project.
        query: ``data.query``.
        reading: ``data.encoding`` and ``data.encoding_errors``.
        files: number of files or folders, if it is a folder with one for each institution.
        draft: what was drafted from the records.
    """

    path: str
    query: str | None
    reading: Reading
    files: int | None
    draft: Draft


def project_files(name: str, source: Source | None) -> dict[str, str]:
    """Write the files of a project.

    Args:
        name: name of its task, data and experiment.
        source: its records; None to invent some, until there are others.

    Returns:
        Path in the project -> text.
    """
    module = f"{name.replace('-', '_')}_parts"
    if source is None:
        task, data = _INVENTED_TASK, _invented_data(name, module)
    else:
        task, data = draft_yaml(source.draft, source=source.path), _data(name, source)
    return {
        f"conf/task/{name}.yaml": task,
        f"conf/data/{name}.yaml": data,
        f"conf/experiment/{name}.yaml": _experiment(name, source),
        f"{module}.py": _module(name, module, source),
        "README.md": _readme(name, module, source),
    }


def ignored(source: Source | None) -> list[str]:
    """List what a project's repository should not hold: runs, ledgers, and the records."""
    outside = source is None or "://" in source.path or source.path.startswith(("/", ".."))
    return [*_IGNORED, *([] if outside or source is None else [f"/{source.path}"])]


def _experiment(name: str, source: Source | None) -> str:
    recipe = _recipe_of(source)
    settings = recipe.settings
    spends = source is not None and not source.path.startswith("pkg://")
    if spends:
        ledger = _LEDGER.removesuffix("}\n")
        settings = settings.replace("client: {", f"{ledger}, ") if settings else _LEDGER
    owner = None if source is None else source.draft.group_column
    return _EXPERIMENT.format(
        name=name,
        owners="" if owner is None else _OWNERS.format(column=" ".join(owner.split())),
        backbone=recipe.backbone,
        tuning=recipe.tuning,
        recipe=recipe.client,
        settings=settings,
        report=_report(source),
        budget=_BUDGET if spends else "",
        baselines=_BASELINES if spends else "",
    )


def _report(source: Source | None) -> str:
    """Return the lines on the class that is looked for; "" where there are not two classes."""
    labels: Sequence[str] = _INVENTED_LABELS
    if source is not None:
        task = source.draft.task
        labels = task.labels if task.outcome.kind in OF_ONE_CLASS else ()
    if len(labels) != 2:
        return ""
    named = positive_of(labels)
    why = _BY_ORDER if named is None else _BY_NAME
    return _REPORT.format(why=why, positive=json.dumps(named or labels[-1], ensure_ascii=False))


def _recipe_of(source: Source | None) -> "_Recipe":
    return _RECIPES["tabular" if source is None else source.draft.task.kind]


def _invented_data(name: str, module: str) -> str:
    return (
        "# Invented people, until there are records: `path: FILE` in place of the next two lines.\n"
        f'path: ""\n_target_: {module}.records\npublic: true\n'
        f"id_column: id\nnum_clients: 4\ninstitution: {name}\n"
    )


def _data(name: str, source: Source) -> str:
    draft = source.draft
    lines = ["# Where the records are, and how a simulation deals them out to institutions."]
    lines.append(f"path: {json.dumps(source.path, ensure_ascii=False)}")
    if source.query is not None:
        lines.append(f"query: {json.dumps(source.query, ensure_ascii=False)}")
    if source.reading.encoding != "utf-8":
        lines.append(f"encoding: {json.dumps(source.reading.encoding)}")
    if source.reading.errors != "strict":
        lines.append(f"encoding_errors: {source.reading.errors}")
    if not source.path.startswith("pkg://"):
        lines.append(
            "# public: true  # if anybody may read these records: no ledger is needed then"
        )
    names: Mapping[str, str | None] = {
        "id_column": draft.id_column,
        "group_column": draft.group_column,
    }
    lines += [
        f"{key}: {json.dumps(value, ensure_ascii=False)}" for key, value in names.items() if value
    ]
    if source.files is not None:
        lines += ["partitioner: natural  # a file or folder each", f"num_clients: {source.files}"]
    elif draft.institution is not None:
        column, count = draft.institution
        lines += [
            "partitioner: natural",
            f"partition_by: {json.dumps(column, ensure_ascii=False)}",
            f"num_clients: {count}",
        ]
    else:
        fitting = min(_MOST_INSTITUTIONS, draft.records // _ENOUGH_RECORDS)
        lines += _made_up(draft, max(2, fitting))
        # The folder of ledgers is every project's: names in it, and budgets, are not
        lines.append(f"institution: {name}  # {name}-1, {name}-2, ...: each has its own budget")
    return "\n".join(lines) + "\n"


def _made_up(draft: Draft, institutions: int) -> list[str]:
    """Return the lines that deal records out to institutions that are made up."""
    if draft.group_column is None:
        return ["partitioner: iid", f"num_clients: {institutions}"]
    # An owner at two institutions would be charged at both, which privacy=group refuses
    owners = f"{{group_size: {math.ceil(draft.owners / institutions)}, sort_unique_ids: true}}"
    return [
        "partitioner: grouped_natural  # nobody's records are at two institutions",
        f"partition_by: {json.dumps(draft.group_column, ensure_ascii=False)}",
        f"partitioner_args: {owners}  # owners at an institution, in the order of their ids",
    ]


def _readme(name: str, module: str, source: Source | None) -> str:
    suffix = "" if source is None else "." + source.path.rpartition(".")[2].lower()
    one_file = source is not None and source.files is None and suffix in EXTENSIONS
    # A folder of pictures or sounds is read as it is, in its folders of institutions too
    folder = source is not None and bool(source.draft.task.files) and not Path(source.path).suffix
    if source is not None and (one_file or folder):
        third = (
            f"confide predict runs/{name} {shlex.quote(source.path)} --output {name}_predicted.csv"
            + _reading_words(source.reading)
        )
        does = "predicts with the model; give it new records"
    else:
        third, does = f"confide report runs/{name}", "writes the report again"
    spends = source is not None and not source.path.startswith("pkg://")
    openly = ["privacy=none", *_recipe_of(source).openly]
    openly += ["client.ledger=null"] if spends else []
    return _README.format(
        name=name,
        module=module,
        third=third,
        third_does=does,
        task_state="yours to write" if source is None else _DRAFTED,
        openly=" ".join(openly),
        spending=_SPENDING.format(name=name) if spends else "",
    )


def _reading_words(reading: Reading) -> str:
    """Return the options that read records as a project's own data does."""
    encoding = "" if reading.encoding == "utf-8" else f" --encoding {reading.encoding}"
    return encoding + ("" if reading.errors == "strict" else f" --encoding-errors {reading.errors}")


def _module(name: str, module: str, source: Source | None) -> str:
    suffix = "" if source is None else "." + source.path.rpartition(".")[2].lower()
    if source is None or suffix not in _READERS or source.path.startswith("pkg://"):
        body, imports = _INVENTED, "random\n\nimport pandas"
        say = "invented ones, until you fill this in"
    else:
        arguments = json.dumps(source.path, ensure_ascii=False)
        arguments += ", lines=True" if suffix in (".jsonl", ".ndjson") else ""
        body = _READ.format(reader=f"pandas.{_READERS[suffix]}({arguments})")
        imports, say = "pandas", "filter, join or derive columns here"
    return (
        _MODULE.replace("{body}\n", body)
        .replace("{name}", name)
        .replace("{module}", module)
        .replace("{imports}", imports)
        .replace("{records_say}", say)
    )


__all__ = ["Source", "ignored", "project_files"]
