"""Words that Hydra cannot read are told with how to write them, all at once."""

import pytest

from confide.cli import main
from confide.config.composing.compose import compose
from confide.errors import ConfigError
from confide.server.run.command_line import run_with_hydra

HEART = "experiment=heart_disease"


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("privacy.epsilon", "privacy.epsilon: expected NAME=VALUE; a value with blanks is quoted"),
        ("wards", 'wards: expected NAME=VALUE; a value with blanks is quoted, "NAME=two words".'),
        ("=", "=: expected NAME=VALUE in one word, without blanks around =."),
        ("3", "3: expected NAME=VALUE"),
        (
            "simulation.baselines=local",
            "simulation.baselines=local: expected a list, such as simulation.baselines=[local].",
        ),
        ("task.metrics=[accuracy, auc", "what [ begins is not closed with ]"),
        (
            "simulation.seed=[0,1]",
            "expected one value and no list; a sweep (-m) over several is written"
            " simulation.seed=0,1.",
        ),
    ],
)
def test_a_word_that_sets_nothing_is_told_with_how_to_write_it(word: str, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        compose([HEART, word])
    [problem] = caught.value.problems
    assert said in problem
    assert "Exception" not in problem


def test_an_option_that_is_none_is_told_with_all_else() -> None:
    words = [HEART, "--epsilon", "3", "--privacy.delta=1e-6", "server.num_round=5"]
    with pytest.raises(ConfigError) as caught:
        run_with_hydra("simulate", words, print)
    told = "\n".join(caught.value.problems)
    assert len(caught.value.problems) == 4
    assert "--epsilon: there is no such option; a setting is written NAME=VALUE" in told
    assert "such as privacy.delta=1e-6." in told
    assert "Did you mean server.num_rounds" in told


def test_an_empty_mapping_empties_what_an_experiment_says() -> None:
    config = compose([HEART, "task.label_values={}"])
    assert config.task.label_values == {}
    dealt = compose(["experiment=titles", "data.partitioner=iid", "data.partitioner_args={}"])
    assert dealt.data.partitioner_args == {}
    # What has nothing in it stays, and what is wrong is told as ever
    assert compose([HEART, "data.partitioner_args={}"]).data.partitioner_args == {}
    with pytest.raises(ConfigError, match=r"no setting task\.label_value\."):
        compose([HEART, "task.label_value={}"])


def test_a_run_is_started_with_the_mapping_emptied(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["simulate", HEART, "task.label_values={}", "--cfg", "job"]) == 0
    assert "label_values: {}" in capsys.readouterr().out
