"""Drafts of a schema: what each column becomes, what is left out, and merging."""

import json
import random
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas
import pytest
import yaml
from datasets import Dataset
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

import confide.cli
from confide.client.records.drafting.draft import Draft, Named, draft_task
from confide.client.records.drafting.merging import merge_tasks
from confide.client.records.drafting.reading import draft_source
from confide.client.records.drafting.values import round_range
from confide.client.records.drafting.writing import draft_yaml, notes_of
from confide.config.composing.compose import compose
from confide.config.composing.folders import searching
from confide.config.outcomes.regression import RegressionConfig
from confide.config.tasks.tabular import TabularConfig
from confide.config.tasks.task import TaskConfig
from confide.config.tasks.text_classification import TextClassificationConfig
from confide.errors import DataError
from confide.tasks.spans.words import list_text

COUNT = 200
DRAW = random.Random(1)
LABEL = [DRAW.choice(["no", "yes"]) for _ in range(COUNT)]
AGE = [str(DRAW.randint(21, 68)) for _ in range(COUNT)]


def drafted(named: Named | None = None, **columns: Sequence[str | None]) -> Draft:
    table = {"age": AGE, **columns}
    table.setdefault("outcome", LABEL)
    return draft_task(Dataset.from_dict({name: list(v) for name, v in table.items()}), named)


def column_of(name: str, values: Sequence[str | None]) -> dict[str, object]:
    """Return what a draft says of a column; {} if it leaves it out."""
    task = drafted(**{name: values}).task
    assert isinstance(task, TabularConfig)
    if name not in task.columns:
        return {}
    column = task.columns[name]
    said = {"minimum": column.minimum, "maximum": column.maximum, "missing": column.missing_values}
    if column.kind == "categorical":
        said = {"categories": column.categories, "missing": column.missing_values}
    return {**said, "indicator": column.indicator}


def mixed(values: Sequence[str], *others: str, every: int = 10) -> list[str]:
    """Put other values in place of every tenth one."""
    return [
        others[(place // every) % len(others)] if place % every == 0 else value
        for place, value in enumerate(values)
    ]


def chosen(*words: str) -> list[str]:
    return [DRAW.choice(words) for _ in range(COUNT)]


def numbers(low: int, high: int) -> list[str]:
    return [str(DRAW.randint(low, high)) for _ in range(COUNT)]


@pytest.mark.parametrize(
    ("name", "values", "missing", "maximum"),
    [
        ("a", mixed(numbers(0, 90), "?"), ["?"], 90),
        ("a", mixed(numbers(0, 90), "-9"), ["-9"], 90),
        ("a", mixed(numbers(0, 90), "-999", "-9"), ["-999", "-9"], 90),
        ("a", mixed(numbers(0, 90), "999"), ["999"], 90),
        ("a", mixed(numbers(0, 90), "n/a", "Unknown"), ["Unknown", "n/a"], 90),
        ("a", mixed(numbers(0, 90), "-9", "-9.0"), ["-9", "-9.0"], 90),
        ("celsius", mixed(numbers(-9, 35), "-999"), ["-999"], 35),
        ("age", mixed(numbers(20, 68), "99"), ["99"], 70),
        ("answer", mixed(numbers(1, 5), "9"), ["9"], 5),
        ("chol", mixed(numbers(120, 390), "0"), ["0"], 400),
        ("height", mixed(numbers(150, 190), "0"), ["0"], 190),
        ("a", mixed(numbers(120, 390), "0"), ["0"], 400),
    ],
)
def test_words_and_numbers_that_mean_missing(
    name: str, values: list[str], missing: list[str], maximum: float
) -> None:
    column = column_of(name, values)
    assert column["missing"] == missing
    assert column["maximum"] == maximum
    assert column["indicator"] is True


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("a", numbers(0, 99)),  # 99 is one of many
        ("a", numbers(-9, 9)),
        ("a", mixed(numbers(1, 40), "0")),  # a count
        ("temperature_below", numbers(-99, 10)),
        ("balance", numbers(-999, 999)),
        ("rooms", [*numbers(1, 8)[:-1], "9"]),
    ],
)
def test_numbers_that_are_measurements_are_not_missing(name: str, values: list[str]) -> None:
    assert column_of(name, values)["missing"] == []


def test_categories_are_listed_and_missing_words_are_none() -> None:
    column = column_of("home", mixed(chosen("rent", "owner", "no"), "?", "NA "))
    assert column == {
        "categories": ["no", "owner", "rent"],
        "missing": ["?", "NA"],
        "indicator": True,
    }
    assert column_of("pets", chosen("none", "cat"))["categories"] == ["cat", "none"]
    assert column_of("flag", chosen("TRUE", "false", "True"))["categories"] == ["TRUE", "false"]
    assert column_of("flag", chosen("0", "1")) == {
        "categories": ["0", "1"],
        "missing": [],
        "indicator": False,
    }


def test_empty_cells_get_an_indicator() -> None:
    column = column_of("a", [None if place % 7 == 0 else "5" for place in range(COUNT)])
    assert column == {}
    gaps = [None if place % 7 == 0 else value for place, value in enumerate(numbers(0, 50))]
    assert column_of("a", gaps)["indicator"] is True


@pytest.mark.parametrize(
    ("name", "values", "why"),
    [
        ("id", [f"p{n}" for n in range(COUNT)], "an id"),
        ("n", [str(n + 1) for n in range(COUNT)], "an id"),
        ("case_no", [str(3 * n) for n in range(COUNT)], "an id"),
        ("pidnum", [str(3 * n) for n in range(COUNT)], "an id"),
        ("patient_id", numbers(1, 40), "whose a record is"),
        ("customerID", numbers(1, 40), "whose a record is"),
        ("surname", chosen("Meyer", "Li", "Khan"), "identifies people"),
        ("First Name", chosen("Ann", "Bo"), "identifies people"),
        ("zip_code", numbers(10000, 99999), "identifies people"),
        ("contact", [f"a{n % 50}@example.org" for n in range(COUNT)], "e-mail addresses"),
        ("nr", [f"+49 30 {n % 60 + 1000000}" for n in range(COUNT)], "telephone numbers"),
        ("visited", [f"20{n % 20 + 10}-03-{n % 28 + 1:02}" for n in range(COUNT)], "dates"),
        ("seen", [f"{n % 28 + 1}.{n % 12 + 1}.1999" for n in range(COUNT)], "dates"),
        ("day", [f"2019{n % 12 + 1:02}{n % 28 + 1:02}" for n in range(COUNT)], "dates"),
        ("state", ["on"] * COUNT, "the same value in every record"),
        ("nothing", [None] * COUNT, "empty"),
        ("code", [f"C{n % 90}" for n in range(COUNT)], "too many different values"),
        ("dose", [f"{n % 9},{n % 7}" for n in range(COUNT)], "decimal commas"),
        ("dose", [f"{n},{n % 7}" for n in range(COUNT)], "decimal commas"),
        ("amount", [f"{n * 31 + 1000:,.2f}" for n in range(COUNT)], "groups of three digits"),
        ("amount", [f"${n * 31 + 1000:,}" for n in range(COUNT)], "with '$' beside them and in"),
        ("rate", [f"{n / 7:.1f}%" for n in range(COUNT)], "with '%' beside them"),
        ("engine", [f"{n * 7} CC" for n in range(COUNT)], "with 'CC' beside them"),
        ("ID", [str(n // 2 * 31 + 1000) for n in range(COUNT)], "few records share"),
        ("result_code", LABEL, "tells the label"),
        ("result2", [{"yes": "1", "no": "0"}[one] for one in LABEL], "tells the label"),
        ("score", [f"{(one == 'yes') + n / 500}" for n, one in enumerate(LABEL)], "tells the"),
        ("odd", chosen("???", "a"), "cannot be written"),
        ("???", chosen("a", "b"), "cannot be written"),
        ("${x}", chosen("a", "b"), "cannot be written"),
        ("hospital", chosen("north", "south"), "names the institution"),
        ("inst", chosen("3", "11", "12"), "names the institution"),
    ],
)
def test_columns_that_should_be_no_input_are_left_out(
    name: str, values: list[str | None], why: str
) -> None:
    draft = drafted(**{name: values})
    assert why in draft.left_out[name], draft.left_out
    assert isinstance(draft.task, TabularConfig)
    assert list(draft.task.columns) == ["age"]


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("owner", chosen("yes", "no")),
        ("client", chosen("new", "old")),
        ("owner", chosen("First Owner", "Second Owner", "Third Owner")),
        ("member", chosen("0", "1")),
        ("hospital", [str(max(0, n % 11 - 7)) for n in range(COUNT)]),
        ("bank", chosen("yes", "no")),
        ("code", [f"{n % 40}.{n % 3}.1" for n in range(20)] * (COUNT // 20)),
    ],
)
def test_flags_counts_and_kinds_are_inputs_whatever_they_are_called(
    name: str, values: list[str | None]
) -> None:
    draft = drafted(**{name: values})
    assert (draft.group_column, draft.institution) == (None, None)
    assert isinstance(draft.task, TabularConfig)
    assert list(draft.task.columns) == ["age", name]


def test_an_id_that_repeats_says_whose_records_are() -> None:
    assert drafted(id=[f"p{n // 2}" for n in range(COUNT)]).group_column == "id"


def test_what_is_no_input_and_what_repeats_is_told() -> None:
    ages, labels = [*AGE[:-30], *AGE[:30]], [*LABEL[:-30], *LABEL[:30]]
    note = drafted(None, age=ages, outcome=labels, town=["x"] * COUNT)
    told = "\n".join(notes_of(note))
    assert "records repeat another one" in told
    assert "town is no input: the same value in every record" in told


def test_a_first_line_that_is_a_record_is_told(tmp_path: Path) -> None:
    rows = [f"{50 + n % 17},{n % 31 / 10},{n % 2}" for n in range(40)]
    (tmp_path / "x.csv").write_text("\n".join(rows))
    assert any("is the first line a record?" in n for n in draft_source(f"{tmp_path}/x.csv").notes)
    (tmp_path / "x.csv").write_text("\n".join(["0,1,2", *rows]))
    assert draft_source(f"{tmp_path}/x.csv").notes == []


def test_columns_of_types_that_no_schema_reads_are_left_out(tmp_path: Path) -> None:
    path = str(tmp_path / "x.parquet")
    table = pandas.DataFrame({"age": AGE, "scan": [b"a"] * COUNT, "outcome": LABEL})
    table.assign(many=[[1, 2]] * COUNT).to_parquet(path)
    draft = draft_source(path)
    assert list(draft.left_out) == ["scan", "many"]
    with pytest.raises(DataError, match="Column scan holds values of type bytes"):
        draft_source(path, Named(label="scan"))


def test_names_with_a_line_break_stay_one_line_of_yaml() -> None:
    draft = drafted(**{"two\nlines": numbers(0, 50), "kind": chosen("a\nb", "c")})
    written = draft_yaml(draft, source="x.csv")
    read = yaml.safe_load(written)
    assert list(read["columns"]) == ["age", "two\nlines", "kind"]
    assert read["columns"]["kind"]["categories"] == ["a\nb", "c"]
    assert not [line for line in written.splitlines() if not line.strip()]


def test_free_text_beside_a_table_is_no_input() -> None:
    notes = [f"patient {n} has a cough of {n} days now" for n in range(COUNT)]
    more = {name: numbers(0, 50) for name in ("b", "c")}
    draft = drafted(note=notes, **more)
    assert "free text" in draft.left_out["note"]
    assert any("--text 'note'" in choice for choice in draft.choices)
    assert isinstance(
        drafted(Named(text="note"), note=notes, **more).task, TextClassificationConfig
    )


def test_roles_beside_the_schema_are_found() -> None:
    draft = drafted(
        rownames=[str(n) for n in range(COUNT)],
        Id=[f"p{n}" for n in range(COUNT)],
        patient=numbers(1, 30),
        clinic=chosen("a", "b", "c"),
    )
    assert (draft.id_column, draft.group_column) == ("Id", "patient")
    assert draft.institution == ("clinic", 3)


def test_settings_are_told_as_a_shell_takes_them() -> None:
    spaced = {"patient id": numbers(1, 30), "clinic name": chosen("a", "b", "c")}
    draft = drafted(None, **spaced)
    told = "\n".join([*notes_of(draft), draft_yaml(draft, source="table.csv")])
    assert "'data.group_column=patient id'" in told
    assert told.count("'data.partition_by=clinic name'") == 2


def test_every_drafted_column_is_marked_and_no_count_is_written() -> None:
    draft = drafted(home=chosen("rent", "owner"))
    assert draft.task.drafted == ["age", "home"]
    text = draft_yaml(draft, source="table.csv")
    assert "200" not in text
    assert "drafted: [age, home]" in text


def test_the_label_is_found_or_named() -> None:
    assert drafted().task.label_column == "outcome"
    assert drafted().task.labels == ["no", "yes"]
    other = drafted(Named(label="home"), home=chosen("rent", "owner"))
    assert other.task.label_column == "home"
    with pytest.raises(DataError, match="lack column nowhere"):
        drafted(Named(label="nowhere"))
    with pytest.raises(DataError, match="name it with --label COLUMN"):
        draft_task(Dataset.from_dict({"age": AGE, "more": AGE}))


@pytest.mark.parametrize("name", ["re admitted", "Re-Admitted", "good_bad"])
def test_a_label_may_be_written_in_two_words(name: str) -> None:
    half = len(AGE) // 2
    other = (["a", "b", "b"] * half)[: 2 * half]
    table = {"age": AGE[: 2 * half], "other": other, name: ["0", "1"] * half, "home": other[::-1]}
    draft = draft_task(Dataset.from_dict(table))
    assert draft.task.label_column == name


@pytest.mark.parametrize(
    ("table", "told"),
    [
        ({"a;b": ["1;2"] * 30}, "may separate fields"),
        ({"a": AGE}, "needs something to be told from"),
    ],
)
def test_records_that_give_no_task_are_refused(table: dict[str, list[str]], told: str) -> None:
    with pytest.raises(DataError, match=told):
        draft_task(Dataset.from_dict(table))
    with pytest.raises(DataError, match="2 to 100 classes"):
        drafted(Named(label="n"), n=[f"c{n % 150}" for n in range(COUNT)])


def test_a_text_and_a_label_make_a_task_on_texts() -> None:
    texts = [f"the scan of {n} shows {DRAW.choice('abc')} and nothing else" for n in range(COUNT)]
    draft = draft_task(
        Dataset.from_dict({"report": texts, "outcome": LABEL, "id": [str(n) for n in range(COUNT)]})
    )
    assert isinstance(draft.task, TextClassificationConfig)
    assert (draft.task.text_column, draft.id_column) == ("report", "id")
    assert draft.task.drafted == []


@given(st.floats(-1e6, 1e6), st.floats(1e-3, 1e12))
def test_ranges_hold_all_values_and_are_round(low: float, span: float) -> None:
    high = low + span
    bottom, top = round_range(low, high)
    assert bottom <= low <= high <= top
    assert top - bottom <= 3 * (high - low) or bottom == 0


def test_nothing_of_the_extremes_is_left_in_a_range() -> None:
    assert round_range(21, 68) == (0, 70)
    assert round_range(105, 11140) == (0, 12000)
    assert round_range(1203.7, 1286.2) == (1200, 1290)


# --- as YAML


ODD = {
    "no": chosen("yes", "no", "off"),
    "a b": numbers(0, 50),
    "alk.phos: x": chosen("${oc.env:HOME}", "1e3", "null", "a, b", "it's", 'q"'),
    "größe": numbers(100, 190),
    "1": chosen("01", "x", "~", "y", "z"),
    "#": chosen("{", "[", "-", ":"),
    "kind": chosen("a", "b"),
}


def test_a_draft_composes_and_fits_its_own_records(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    table = {"age": AGE, **ODD, "outcome": LABEL}
    Dataset.from_dict(table).to_json("records.jsonl")
    output = "conf/task/mine.yaml"
    assert confide.cli.main(["data", "draft", "records.jsonl", "--output", output]) == 0
    with searching(["conf"]):
        words = ["task=mine", "data.path=records.jsonl", "backbone=logistic", "tuning=full"]
        config = compose([*words, "privacy=none"])
    assert isinstance(config.task, TabularConfig)
    assert set(config.task.columns) >= set(ODD)
    listed = config.task.columns["alk.phos: x"]
    assert {*listed.categories, *listed.missing_values} == set(ODD["alk.phos: x"])
    capsys.readouterr()
    assert confide.cli.main(["data", "check", *words, "data.max_records=null"]) == 0
    assert "Nobody has confirmed the ranges" in capsys.readouterr().out
    assert confide.cli.main(["data", "draft", "records.jsonl", "--output", output]) == 1


# --- merging


def tasks(first: Mapping[str, object], second: Mapping[str, object]) -> dict[str, TaskConfig]:
    base = {"labels": ["a", "b"], "label_column": "y", "kind": "tabular"}
    adapter = TypeAdapter(TabularConfig)
    return {
        "A": adapter.validate_json(json.dumps({**base, **first})),
        "B": adapter.validate_json(json.dumps({**base, **second})),
    }


def test_merging_takes_the_widest_range_and_all_categories() -> None:
    merged = merge_tasks(
        tasks(
            {
                "columns": {
                    "x": {"minimum": 0.0, "maximum": 5.0, "missing_values": ["-9"]},
                    "c": {"kind": "categorical", "categories": ["r", "a"]},
                },
                "drafted": ["x"],
            },
            {
                "columns": {
                    "x": {"minimum": -2.0, "maximum": 3.0, "indicator": True},
                    "c": {"kind": "categorical", "categories": ["a", "q"]},
                },
                "drafted": ["c"],
            },
        )
    )
    assert merged.conflicts == []
    assert isinstance(merged.task, TabularConfig)
    x, c = merged.task.columns["x"], merged.task.columns["c"]
    assert (x.minimum, x.maximum, x.missing_values, x.indicator) == (-2.0, 5.0, ["-9"], True)
    assert c.categories == ["a", "q", "r"]
    assert merged.task.drafted == ["x", "c"]


def test_conflicts_are_listed() -> None:
    merged = merge_tasks(
        tasks(
            {
                "columns": {
                    "x": {"minimum": 0.0, "maximum": 5.0},
                    "k": {"minimum": 0.0, "maximum": 5.0},
                    "s": {"kind": "categorical", "categories": ["Male", "?"]},
                },
            },
            {
                "labels": ["a", "c"],
                "label_column": "z",
                "columns": {
                    "k": {"kind": "categorical", "categories": ["u"]},
                    "s": {
                        "kind": "categorical",
                        "categories": ["male"],
                        "missing_values": ["?"],
                    },
                },
            },
        )
    )
    told = "\n".join(merged.conflicts)
    for words in (
        "label_column: y in A, z in B",
        "labels: A has no record of c",
        "labels: B has no record of b",
        "columns.x: B lacks it",
        "columns.k: numeric in A, categorical in B",
        "differ by case alone: Male, male",
        "? means missing in B, and is a category in A",
    ):
        assert words in told, told
    assert isinstance(merged.task, TabularConfig)
    assert list(merged.task.columns) == ["s"]


def test_drafts_are_merged_on_the_command_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, high in (("a", 40), ("b", 900)):
        table = {"x": numbers(0, high), "outcome": LABEL}
        Dataset.from_dict(table).to_csv(tmp_path / f"{name}.csv", index=False)
        words = ["data", "draft", str(tmp_path / f"{name}.csv")]
        assert confide.cli.main([*words, "-o", str(tmp_path / f"{name}.yaml")]) == 0
    capsys.readouterr()
    paths = [str(tmp_path / "a.yaml"), str(tmp_path / "b.yaml")]
    assert confide.cli.main(["data", "draft", *paths]) == 0
    merged = yaml.safe_load(capsys.readouterr().out)
    assert merged["columns"]["x"] == {"minimum": 0, "maximum": 900}
    assert merged["drafted"] == ["x"]
    (tmp_path / "b.yaml").write_text("kind: tabular\nlabels: [a]\nnothing: 1\n")
    assert confide.cli.main(["data", "draft", *paths]) == 2
    assert "b.yaml:3: nothing" in capsys.readouterr().err


def test_a_label_with_many_numbers_drafts_regression() -> None:
    amounts = [str(10 * n + 5) for n in range(COUNT)]
    copied = [str(3 * n) for n in range(COUNT)]
    draft = drafted(Named(label="amount"), amount=amounts, copied=copied, home=chosen("a", "b"))
    assert draft.task.outcome == RegressionConfig(column="amount", minimum=0.0, maximum=2000.0)
    assert "amount" in draft.task.drafted
    assert "tells the label" in draft.left_out["copied"]
    text = draft_yaml(draft, source="table.csv")
    assert "outcome: {kind: regression, column: amount, minimum: 0, maximum: 2000}" in text
    assert "label_column" not in text


def test_drafts_of_numbers_merge_to_the_widest_range() -> None:
    north, south = (
        drafted(Named(label="amount"), amount=[str(n * times) for n in range(COUNT)]).task
        for times in (1, 7)
    )
    merged = merge_tasks({"north": north, "south": south})
    assert merged.task is not None
    assert merged.task.outcome == RegressionConfig(column="amount", minimum=0.0, maximum=1400.0)
    assert merged.task.drafted[-1] == "amount"
    other = merge_tasks({"north": north, "south": drafted().task})
    assert other.task is None
    assert "outcome: regression of amount in north, classes of outcome in south" in other.conflicts


def test_words_with_a_tag_each_become_a_task_of_spans() -> None:
    rows = [(["Anna", "ran"], ["B-PER", "O"]), (["in", "New", "York"], ["O", "B-LOC", "I-LOC"])]
    records = Dataset.from_dict(
        {
            "words": [list_text(words) for words, _ in rows],
            "tags": [list_text(tags) for _, tags in rows],
            "document": ["1", "2"],
        }
    )
    draft = draft_task(records)
    assert draft.group_column == "document"
    written = yaml.safe_load(draft_yaml(draft, source="x.conll"))
    assert written == {
        "kind": "token_classification",
        "words_column": "words",
        "max_tokens": 64,
        "outcome": {"kind": "spans", "types": ["LOC", "PER"]},
    }


@pytest.mark.parametrize("event", ["cens", "censored", "status", "died"])
def test_a_time_and_what_ended_it_are_told_to_be_survival(event: str) -> None:
    told = drafted(time=numbers(1, 900), **{event: chosen("0", "1")})
    assert any(f"time and {event} look like survival" in choice for choice in told.choices)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("said", "这台搅拌机质量很差，已经是第{}次坏了"),
        ("said", "このブレンダーは{}回目も壊れました"),
        ("title", "Film {}"),
        ("said", "the blender broke {} times"),
    ],
)
def test_short_texts_and_those_without_blanks_are_texts(name: str, text: str) -> None:
    records = {name: [text.format(place) for place in range(COUNT)], "kind": chosen("a", "b")}
    task = draft_task(Dataset.from_dict(records)).task
    assert isinstance(task, TextClassificationConfig)
    assert task.text_column == name


def test_codes_are_no_texts_and_who_has_none_is_told_how_to_name_them() -> None:
    records = {"code": [f"AB {place % 150}" for place in range(COUNT)], "kind": chosen("a", "b")}
    with pytest.raises(DataError, match=r"--text COLUMN.*task=recommendation"):
        draft_task(Dataset.from_dict(records))


def test_tags_that_are_numbers_are_told_to_need_names() -> None:
    records = {"tokens": [list_text(["Ann", "says"])] * 20, "tags": [list_text(["1", "0"])] * 20}
    with pytest.raises(DataError, match=r"Column tags holds numbers, .* tag_values: \{\.\.\., 1:"):
        draft_task(Dataset.from_dict(records))
