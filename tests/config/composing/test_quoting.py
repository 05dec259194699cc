"""Texts on the command line mean what was typed, whatever Hydra's grammar says."""

import pytest

from confide.client.deployment.kit import KitConfig
from confide.config.composing.compose import compose
from confide.config.composing.quoting import quote_texts
from confide.errors import ConfigError

BASE = ("privacy=none", "data.public=true")
TASK = ("task.labels=[a,b]",)
QUERY = (
    "SELECT id, CASE fbs WHEN 1 THEN 'true' ELSE \"no\" END AS fbs FROM t"
    " WHERE num <= 3 AND (a > ~b) -- {x}, [y]; 50 %"
)


@pytest.mark.parametrize(
    "path",
    [
        "\u75c5\u5386 (1).csv",
        "a,b.csv",
        "~/ward.csv",
        "x=1.csv",
        "1_2",
        "1e3",
        "true",
        "[ward].csv",
        "{ward}.csv",
        "it's.csv",
        "a#b.csv",
        "C:\\data\\ward.csv",
        "a<b>!.csv",
    ],
)
def test_a_path_is_what_was_typed(path: str) -> None:
    assert compose([*BASE, *TASK, f"data.path={path}"]).data.path == path


def test_a_query_is_what_was_typed() -> None:
    config = compose([*BASE, *TASK, "data.path=sqlite:////x.db", f"data.query={QUERY}"])
    assert config.data.query == QUERY


def test_quotes_null_and_interpolations_keep_their_meaning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WARD", "n=1")
    words = ["data.path='a b.csv'", "data.id_column=null", "data.group_column=${oc.env:WARD}"]
    data = compose([*BASE, *TASK, *words]).data
    assert (data.path, data.id_column, data.group_column) == ("a b.csv", None, "n=1")
    data = compose([*BASE, *TASK, "data.path=x (${oc.env:WARD}).csv"]).data
    assert data.path == "x (n=1).csv"


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("[1_2,3_4]", ["1_2", "3_4"]),
        ("[1e3,NO]", ["1e3", "NO"]),
        ("[true,null]", ["true", "null"]),
        ("[<=50K,>50K]", ["<=50K", ">50K"]),
        ("['a,b',c d]", ["a,b", "c d"]),
        ("[\u826f\u6027, \u6076\u6027]", ["\u826f\u6027", "\u6076\u6027"]),
        ("[it's,b]", ["it's", "b"]),
    ],
)
def test_labels_are_what_was_typed(typed: str, meant: list[str]) -> None:
    assert compose([*BASE, "data.path=x.csv", f"task.labels={typed}"]).task.labels == meant


@pytest.mark.parametrize(
    "typed",
    [
        "{sex: [f], 'size (cm)': [5]}",
        '{sex: [f],"size (cm)":[5]}',
        "{sex: [f], size (cm): [5]}",
        r"{sex: [f], size \(cm\): [5]}",
    ],
)
def test_names_in_braces_may_stand_in_quotes(typed: str) -> None:
    task = compose([*BASE, *TASK, "data.path=x.csv", f"task.subgroups={typed}"]).task
    assert task.subgroups == {"sex": ["f"], "size (cm)": [5]}


def test_a_name_that_the_command_line_cannot_hold_is_told_where_it_can_stand() -> None:
    with pytest.raises(ConfigError, match=r"conf/experiment/NAME.yaml"):
        compose([*BASE, *TASK, "data.path=x.csv", "task.subgroups={'\u5e74': []}"])


def test_raw_values_of_labels_need_no_grammar() -> None:
    typed = ["task.labels=[a,b]", 'task.label_values={0:a,"1":b}']
    assert compose([*BASE, "data.path=x.csv", *typed]).task.label_values == {"0": "a", "1": "b"}


def test_a_sweep_stays_a_sweep() -> None:
    words = ["strategy=fedavg,fedadam", "data.path=\u4e00.csv,1_2", "task.labels=[a,b],[1_0,d]"]
    assert quote_texts(words, sweeping=True) == [
        "strategy=fedavg,fedadam",
        "data.path='\u4e00.csv','1_2'",
        "task.labels=['a','b'],['1_0','d']",
    ]
    assert quote_texts(["data.alpha=1,2", "data.partitioner=iid,dirichlet"]) == [
        "data.alpha=1,2",
        "data.partitioner=iid,dirichlet",
    ]


def test_what_is_quoted_once_is_not_quoted_again() -> None:
    words = [f"data.query={QUERY}", "task.labels=[1_2,b]", "data.path=~/x"]
    once = quote_texts(words)
    assert quote_texts(once) == once
    assert quote_texts(["data.path=~/x"], schema=KitConfig) == ["data.path='~/x'"]


def test_numbers_are_still_numbers() -> None:
    with pytest.raises(ConfigError, match=r"privacy\.epsilon='<3': Value '<3' of type 'str'"):
        compose([*BASE, "privacy.epsilon=<3"])
