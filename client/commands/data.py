"""``confide data``: checks an institution's records before anything is trained."""

import dataclasses
import functools
import json
import os
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.override_parser.types import Quote, QuotedString

from confide.config.composing.compose import compose
from confide.config.composing.folders import own_configs
from confide.config.custom import find_part, look_in_current_folder
from confide.config.models.table import BACKBONES, without_weights
from confide.config.run import Config
from confide.config.tasks.table import TASKS
from confide.errors import ConfigError, DataError, ModelError
from confide.terminal import make_console

if TYPE_CHECKING:
    from datasets import Dataset
    from rich.console import Console

    from confide.client.records.report import CountTokens, Report, SourceReport
    from confide.tables import Table
    from confide.tasks.tokens import TokenCounts

_OVERRIDE = re.compile(r"[+~]{0,2}[\w./@]+=.*", re.DOTALL)

_HELP = """Look at records before anything is trained.

usage: confide data check [PATH] [--json] [OVERRIDES ...]
           check records against a task
       confide data draft RECORDS [--label COLUMN] [--output FILE]
           draft the schema of a task, or merge several drafts

`confide data check --help` and `confide data draft --help` say more."""

_CHECK_HELP = """Check records against a task, as an institution's own client would.

Nothing is trained, and nothing leaves this machine.

usage: confide data check [PATH] [--json] [--config-dir DIR] [OVERRIDES ...]

PATH is a file (.csv, .tsv, .jsonl, .ndjson, .json, .parquet, .arrow, .conll, .npz),
pkg://PACKAGE/FILE inside an installed package, a folder with one file for each institution, a
folder of pictures or sounds ([INSTITUTION/]CLASS/FILE), or a database's SQLAlchemy URL with
data.query="SELECT ..."; without it, data.path is checked.

  confide data check hospital.csv task=heart_disease data.id_column=id
  confide data check notes.parquet task.text_column=note task.label_column=grade \\
      'task.labels=[mild,severe]'
  confide data check scans/ task=image 'task.labels=[benign,malignant]'
  confide data check 'postgresql+psycopg://ann@db/ward' task=heart_disease \\
      data.query='SELECT * FROM heart'

--config-dir DIR (-cd) adds a folder of your own configs; conf/ in the current folder is found by
itself: `confide data check experiment=mine`.

Keep a database's password in ~/.pgpass, or in an environment variable:
'postgresql+psycopg://ann:${oc.env:WARD}@db/ward'. --json prints the same as JSON. Exit status:
0 ready, 1 the records do not fit, 2 the command or its config is wrong."""


def main(argv: Sequence[str]) -> int:
    """Run ``confide data``.

    Args:
        argv: arguments after ``data``.

    Returns:
        The exit status: 0 ready, 1 records do not fit.

    Raises:
        ConfigError: naming every mistake of the command or its config.
    """
    words = list(argv)
    if not words or words[0] in {"-h", "--help", "help"}:
        print(_HELP)
        return 0
    if words[0] == "draft":
        from confide.client.commands.draft import main as draft

        return draft(words[1:])
    if words[0] != "check":
        raise ConfigError(f"confide data {words[0]}: expected check or draft.")
    if {"-h", "--help"} & set(words):
        print(_CHECK_HELP)
        return 0
    return _check(words[1:])


def _check(words: Sequence[str]) -> int:
    with own_configs(words) as rest:
        return _check_composed(rest)


def _check_composed(words: Sequence[str]) -> int:
    flags = [word for word in words if word.startswith("-")]
    # A file may be called n=1.csv
    paths = [
        word
        for word in words
        if word not in flags and (not _OVERRIDE.fullmatch(word) or Path(word).exists())
    ]
    if set(flags) - {"--json"} or len(paths) > 1:
        raise ConfigError(
            "confide data check: expected [PATH] [--json] [OVERRIDES ...], got"
            f" {' '.join([*flags, *paths])}."
        )
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    overrides = [word for word in words if word not in flags and word not in paths]
    # A path may hold commas and braces, which mean something in Hydra's grammar
    quoted = [str(QuotedString(text=path, quote=Quote.single).with_quotes()) for path in paths]
    # Public: nothing is trained, so that nothing has to be accounted for
    config = _compose(["data.public=true", *(f"data.path={path}" for path in quoted), *overrides])
    look_in_current_folder(config.custom_parts)
    if config.task._target_ is not None:
        find_part(config.task._target_, key="task")
    # Imported once the config is known to be right: reading records takes pandas and datasets.
    from confide.client.records.report import check_records

    report = check_records(
        config, count_tokens=_tokenizer(config), notes_fn=functools.partial(_looked_up, config)
    )
    if "--json" in flags:
        print(json.dumps(report.to_json(), indent=2))
    else:
        _show(report, config)
    return 0 if report.ready else 1


def _compose(overrides: Sequence[str]) -> Config:
    """Compose; a backbone other than for texts may be left out, since checking needs none."""
    try:
        return compose(overrides)
    except ConfigError as error:
        first = error
        chosen = {re.split(r"[.=@]", override.lstrip("+~"))[0] for override in overrides}
        if {"backbone", "tuning", "experiment"} & chosen:
            raise
        # Of each kind of input one
        kinds = {BACKBONES[name].inputs: name for name in reversed(without_weights())}
        tried = [first.problems]
        for name in reversed(kinds.values()):
            try:
                return compose([*overrides, f"backbone={name}", "tuning=full"])
            except ConfigError as error:
                tried.append(error.problems)
        # Mistakes found with all backbones are the user's, the others come from the one tried
        common = [one for one in first.problems if all(one in problems for problems in tried)]
        raise (ConfigError(common) if common else first) from None


def _tokenizer(config: Config) -> "CountTokens":
    """Return a function that counts tokens, if the backbone's tokenizer is on this machine."""

    # Loaded with the first text: a table needs no tokenizer, and none may be installed
    @functools.cache
    def loaded() -> Any:
        from confide.models.backbones import find_backbone
        from confide.models.encoders.assets import folder_assets
        from confide.tasks.build import build_task

        assert config.backbone.pretrained is not None
        # The task itself: a conversation is more tokens than its texts. Nothing of one's own is
        # imported for it.
        schema = dataclasses.replace(config.task, _target_=None, kwargs={})
        return build_task(schema, folder_assets(find_backbone(config.backbone.pretrained)))

    def count(*columns: Sequence[str]) -> "TokenCounts | None":
        from confide.tasks.tokens import CountsTokens

        try:
            task = loaded()
            return task.count_tokens(*columns) if isinstance(task, CountsTokens) else None
        except (ModelError, OSError, ValueError):
            return None

    return count


def _looked_up(config: Config, records: "Dataset") -> Sequence[str]:
    """Return what a task says of records by what lies beside its backbone, if that is here.

    Raises:
        DataError: naming what a task of one's own demands and they lack.
    """
    own = config.task._target_ is not None
    kind, pretrained = TASKS[config.task.kind], config.backbone.pretrained
    needed = kind.assets_for(config.task.outcome.kind)
    is_asked = own or kind.maker is not None or (needed and "record_notes" in kind.members)
    if not is_asked or (needed and pretrained is None):
        return []
    from confide.models.backbones import find_backbone
    from confide.models.encoders.assets import folder_assets
    from confide.tasks.build import build_task
    from confide.tasks.tokens import NotesRecords

    try:
        assets = {} if pretrained is None else folder_assets(find_backbone(pretrained))
        task = build_task(config.task, assets, config.task.custom_tasks)
    except ModelError as error:
        what = "Texts were not counted" if kind.maker is None else "Items were not looked up"
        if own:
            what = "What the task itself demands was not looked up"
        return [f"{what}: {error}"]
    if own and (problems := task.check(records)):
        raise DataError(problems)
    return task.record_notes(records) if isinstance(task, NotesRecords) else []


# --- what is shown


def _show(report: "Report", config: Config) -> None:
    from confide.tables import Table

    console = make_console()
    if report.source is not None:
        source, table = report.source, Table("", "", title=report.path)
        table.add_row("records", str(source.records))
        table.add_row("left out", _left_out(source))
        table.add_row("labels", _counts(source.labels))
        gaps = {name: count for name, count in source.missing.items() if count}
        table.add_row("missing values", _counts(gaps) or "none")
        table.add_row("expected splits", _counts(report.splits))
        table.show(console)
        for table in _tables(report, config):
            if table.row_count:
                table.show(console)
    _say(console, "note", report.notes)
    _say(console, "problem", report.problems)
    if report.ready:
        console.print("ready", style="bold green", highlight=False)
    else:
        count = f"{len(report.problems)} problem{'s' if len(report.problems) > 1 else ''}"
        print(f"confide data check: not ready: {count}.", file=sys.stderr)


def _say(console: "Console", kind: str, sentences: Sequence[str]) -> None:
    for sentence in sentences:
        console.print(f"{kind}: {sentence}", markup=False, highlight=False, soft_wrap=True)


def _tables(report: "Report", config: Config) -> "Iterator[Table]":
    """Yield what is known of columns, of texts' lengths and of files."""
    from confide.tables import Table

    headers: tuple[str, ...] = (
        "column",
        "kind",
        "range or categories",
        "missing",
        "clipped",
        "indicator",
    )
    table = Table(
        *headers,
        numbers=("missing", "clipped"),
        title="What the schema will do",
        line_fn=_column_line,
    )
    for name, column in report.columns.items():
        table.add_row(
            name,
            column.kind,
            column.encodes,
            str(column.missing),
            str(column.clipped) if column.kind == "numeric" else "-",
            "added" if column.indicator else "-",
        )
    yield table
    limit = getattr(config.task, "max_tokens", None)
    numbers = ("median", "95 %", "longest")
    table = Table("length in", *numbers, f"cut at {limit}", numbers=numbers)
    for unit, lengths in report.lengths.items():
        cut = "-" if lengths.cut is None else f"{lengths.cut:.1%}"
        table.add_row(
            unit, f"{lengths.median:g}", f"{lengths.percentile_95:g}", str(lengths.longest), cut
        )
    yield table
    headers = ("file", "records", "left out", "labels", "missing")
    table = Table(*headers, numbers=("records", "missing"))
    for name, source in report.files.items():
        missing = str(sum(source.missing.values()))
        counted = (str(source.records), _left_out(source), _counts(source.labels), missing)
        table.add_row(name, *counted)
    yield table


def _column_line(cells: Sequence[str]) -> str:
    """Return what the schema does with a column as a line, without what there is none of."""
    from confide.tables import TIED

    name, kind, encodes, missing, clipped, indicator = cells
    of = encodes if kind == "numeric" else f"({encodes})"
    said = [f"{name}{TIED * 2}{kind} {of}"]
    said += [f"missing{TIED}{missing}"] if missing != "0" else []
    said += [f"clipped{TIED}{clipped}"] if clipped not in {"0", "-"} else []
    said += ["indicator"] if indicator == "added" else []
    return ", ".join(said)


def _left_out(source: "SourceReport") -> str:
    return "unknown" if source.left_out is None else _counts(source.left_out) or "none"


def _counts(counts: Any) -> str:
    from confide.tables import TIED

    return ", ".join(f"{name}{TIED}{count}" for name, count in counts.items())


__all__ = ["main"]
