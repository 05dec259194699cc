"""Every YAML composes, and every mistake is reported at once with name, value and fix."""

import re
from pathlib import Path

import pytest

import confide.conf
from confide.config.composing.compose import check_jobs, compose
from confide.config.composing.main_job import MAIN_JOB
from confide.config.fields import describe_range, setting
from confide.config.run import Config
from confide.errors import ConfigError

CONF = Path(next(iter(confide.conf.__path__)))
RECORDS = ["task=heart_disease", "data=heart_disease"]
TABLE = [*RECORDS, "backbone=logistic", "tuning=full"]
PICTURES = ["backbone=cnn", "tuning=full"]
MASKS = ["task.outcome.labels=[none,lesion]", "task.size=32", "backbone=unet", "tuning=full"]
CONVERSATIONS = (
    "task=conversations",
    "backbone=language_model",
    "backbone.name=/somewhere",
    "tuning=lora",
    "data=default",
    "data.path=mine.jsonl",
    "data.public=true",
)
TEXTS = tuple(
    {"task=conversations": "task=translation", "backbone=language_model": "backbone=seq2seq"}.get(
        word, word
    )
    for word in CONVERSATIONS
)
MADE = {
    "synthetic": "synthetic",
    "synthetic_logistic": "logistic",
    "synthetic_linear": "linear",
}
NEEDS = {
    ("privacy", "group"): ["data.group_column=account"],
    ("backbone", "logistic"): ["task=heart_disease", "data=heart_disease", "tuning=full"],
    ("backbone", "additive"): [*RECORDS, "tuning=full"],
    ("backbone", "mlp"): ["task=heart_disease", "data=heart_disease", "tuning=full"],
    ("strategy", "krum"): ["data.num_clients=5"],
    ("strategy", "multi_krum"): ["data.num_clients=5"],
    ("strategy", "bulyan"): ["data.num_clients=7"],
    ("strategy", "fedper"): ["tuning=lora"],
    ("strategy", "fedrep"): ["tuning=lora"],
    ("strategy", "custom"): ["strategy._target_=my_module.my_strategy"],
    ("data", "default"): ["data.path=mine.csv", "data.public=true"],
    ("task", "stations"): ["data=stations", "backbone=mlp", "tuning=full"],
    ("task", "overloads"): ["data=stations", "backbone=mlp", "tuning=full"],
    ("backbone", "patches"): ["task=stations", "data=stations", "tuning=full"],
    ("task", "recommendation"): ["data=movies", "backbone=items", "backbone.name=/somewhere"],
    ("backbone", "items"): [
        "task=recommendation",
        "data=movies",
        "backbone.name=/somewhere",
        "privacy=none",
    ],
    ("task", "text"): ["task.labels=[no,yes]"],
    ("task", "token_classification"): ["task.outcome.types=[person,place]"],
    ("task", "image"): ["task.labels=[no,yes]", "task.size=32", *PICTURES],
    ("task", "audio"): ["task.labels=[no,yes]", *PICTURES],
    ("task", "speech_recognition"): ["backbone=ctc", "tuning=full"],
    ("backbone", "ctc"): ["task=speech_recognition", "tuning=full"],
    ("task", "masks"): MASKS,
    ("backbone", "unet"): ["task=masks", *MASKS],
    ("task", "digits"): PICTURES,
    ("task", "fashion"): PICTURES,
    ("data", "digits"): ["task=digits", *PICTURES],
    ("backbone", "cnn"): ["task=digits", "tuning=full"],
    ("backbone", "vision"): ["task=digits", "backbone.name=/somewhere"],
    ("strategy", "gradient_sum"): ["client=private_table"],
    ("strategy", "newton"): ["privacy=none"],
    ("strategy", "fedex_lora"): ["tuning=lora_exact"],
    ("strategy", "flora"): ["tuning=lora_exact"],
    ("tuning", "lora_exact"): ["strategy=fedex_lora"],
    ("strategy", "qfedavg"): ["privacy=none"],
    ("strategy", "ifca"): ["privacy=none"],
    ("strategy", "moon"): [*RECORDS, "backbone=mlp", "tuning=full", "privacy=none"],
    ("strategy", "gradient_adam"): ["client=gradients"],
    ("strategy", "private_newton"): ["client=private_newton", *TABLE],
    ("client", "private_newton"): TABLE,
    ("client", "trees"): [*RECORDS, "privacy=none"],
    ("backbone", "trees"): [*RECORDS, "client=trees", "privacy=none"],
    ("strategy", "boosting"): [*RECORDS, "client=trees", "privacy=none"],
    ("data", "custom"): ["data._target_=my_module.load", "data.public=true"],
    ("backbone", "transformer"): ["backbone.name=/somewhere"],
    ("backbone", "language_model"): [*CONVERSATIONS],
    ("task", "conversations"): [*CONVERSATIONS],
    ("backbone", "seq2seq"): [*TEXTS],
    ("task", "translation"): [*TEXTS],
    ("experiment", "customer_service"): ["backbone.name=/somewhere"],
    ("data", "customer_service"): [
        "task=conversations",
        "backbone=language_model",
        "backbone.name=/x",
        "tuning=lora",
        "client=default",
    ],
    **{
        ("task", name): [f"data={name}", "backbone=logistic", "tuning=full"]
        for name in ("heart_disease", "credit", "lending", "dialysis")
    },
    **{
        ("task", task): [f"data/generator={made}", "backbone=logistic", "tuning=full"]
        for task, made in MADE.items()
    },
}
# `backbone=run` is composed from a run that is there: tests/config/composing/test_going_on.py
GROUPS = sorted(
    {
        (path.parent.name, path.stem)
        for path in CONF.rglob("*.yaml")
        if path.parent != CONF and "hydra" not in path.parts
    }
    - {("backbone", "run")}
)


@pytest.mark.parametrize(("group", "choice"), GROUPS)
def test_every_choice_composes(group: str, choice: str) -> None:
    needs = NEEDS.get((group, choice), [])
    has_records = any(
        word in needs
        for word in ("data=heart_disease", "data=movies", "data=stations", f"data={choice}")
    )
    has_records = has_records or any(word.startswith("data/generator=") for word in needs)
    job = [] if group == "experiment" or has_records else [MAIN_JOB]
    assert isinstance(compose([*job, f"{group}={choice}", *needs]), Config)


def test_every_yaml_says_in_its_first_line_what_it_is() -> None:
    for path in CONF.rglob("*.yaml"):
        assert path.read_text().startswith("#") or "hydra" in path.parts, path


def test_unknown_setting_names_a_near_one() -> None:
    with pytest.raises(
        ConfigError, match=r"there is no setting privacy\.epsilo\. Did you mean privacy\.epsilon"
    ):
        compose(["privacy.epsilo=3"])


def test_unknown_choice_lists_the_choices() -> None:
    with pytest.raises(
        ConfigError,
        match=(
            r"strategy=fedfoo: there is no strategy called fedfoo\. Choose one of: apfl,"
            r" boosting, bulyan, centered_clipping, custom, default, ditto, fedadagrad"
        ),
    ):
        compose(["strategy=fedfoo"])


def test_mistakes_of_every_kind_are_reported_together() -> None:
    with pytest.raises(ConfigError) as caught:
        compose(
            ["client.batchsize=3", "privacy.epsilon=0", "server.num_rounds=many", "tuning=none"]
        )
    assert len(caught.value.problems) == 4
    for word in (
        "client.batchsize=3",
        "privacy.epsilon=0.0",
        "server.num_rounds=many",
        "tuning=none",
    ):
        assert word in str(caught.value)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("privacy.epsilon=0", r"privacy\.epsilon=0\.0: expected > 0"),
        ("privacy.epsilon=nan", r"privacy\.epsilon=nan: expected > 0"),
        ("privacy.clipping_norm=-1", r"privacy\.clipping_norm=-1\.0: expected >= 0.001"),
        ("privacy.delta=1", r"privacy\.delta=1\.0: expected >= 1e-12 and < 1"),
        ("server.min_clients=5", r"server\.min_clients=5 exceeds data\.num_clients=4"),
        ("task.primary_metric=rocauc", r"task\.primary_metric=rocauc: expected one of accuracy"),
        ("task.metrics=[log_loss]", r"primary_metric=accuracy is not in metrics=\['log_loss'\]"),
        ("task.labels=[negative]", r"expected at least two distinct class names"),
        ("data.test=0.95", r"leave nothing to train on"),
        ("data.partitioner=natural", r"partition_by=null"),
        (
            "strategy.objective.proximal_mu=1",
            r"there is no setting strategy\.objective\.proximal_mu",
        ),
        ("backbone=logistic", r"does not fit task\.kind=text_classification"),
        ("simulation.baselines=[central]", r"baselines=\['central'\]: expected only local, pooled"),
        (
            "simulation.baselines=[pooled] client.ledger=ledgers policy.budget.epsilon=16",
            (
                r"client\.ledger=ledgers: training on all records in one place would be charged in"
                r" nobody's ledger; set simulation"
            ),
        ),
        ("trainer.device=tpu", r"trainer\.device=tpu: expected one of auto, cpu, cuda, mps"),
        ("backbone=transformer", r"backbone\.name is not set"),
        ("client=3", r"client=3"),
        ("tuning=adalora", r"tuning=adalora: not offered: it prunes ranks by gradients of local"),
        ("tuning=prompt", r"tuning=prompt: not offered: its vectors are looked up once"),
        *(
            (f"tuning={kind}", rf"tuning={kind}: not offered: its parameters lie outside layers")
            for kind in ("ia3", "vera", "dora", "oft")
        ),
        ("tuning.kind=vera", r"tuning\.kind=vera is not offered: its parameters lie outside"),
        ("tuning=lorra", r"there is no tuning called lorra\. Did you mean lora"),
        ("tuning=head tuning.rank=3", r"there is no setting tuning\.rank"),
        ("tuning=lora tuning.rank=0", r"tuning\.rank=0: expected >= 1"),
        ("tuning=bottleneck tuning.bottleneck=0", r"tuning\.bottleneck=0: expected >= 1"),
        ("tuning=prefix tuning.length=0", r"tuning\.length=0: expected >= 1"),
        (
            "tuning=lora_alternating strategy=scaffold",
            r"objective\.kind=scaffold keeps something of each round .* choose strategy=fedavg",
        ),
        ("tuning=lora_ffa tuning.seed=-1", r"tuning\.seed=-1: expected >= 0"),
    ],
)
def test_a_mistake_is_refused_with_its_name_and_value(override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        compose([MAIN_JOB, *override.split()])


HEART = "experiment=heart_disease"


@pytest.mark.parametrize("word", ["privacy.epsilon=3", "privacy.delta=1e-6", "++privacy.epsilon=3"])
def test_a_guarantee_that_nothing_would_keep_is_refused(word: str) -> None:
    with pytest.raises(ConfigError, match=f"{re.escape(word)} asks for a guarantee, and privacy=n"):
        compose([HEART, word])
    assert compose([HEART, "privacy=record", word]).privacy.unit == "record"


def test_more_clients_a_round_than_clients_is_refused() -> None:
    overrides = ["strategy/selection=uniform", "strategy.selection.clients_per_round=9"]
    with pytest.raises(
        ConfigError,
        match=r"clients_per_round=9 exceeds data\.num_clients=4; lower it or add institutions",
    ):
        compose(overrides)


def test_uniform_selection_needs_a_number() -> None:
    with pytest.raises(ConfigError, match=r"selection\.clients_per_round is not set"):
        compose(["strategy/selection=uniform"])


def test_best_model_needs_validation_records() -> None:
    with pytest.raises(ConfigError, match=r"server\.keep=best needs validation records"):
        compose([MAIN_JOB, "server.keep=best", "data.validation=0"])


def test_every_job_of_a_sweep_is_checked_before_the_first() -> None:
    with pytest.raises(ConfigError) as caught:
        check_jobs(["privacy.epsilon=1,0,-2", "strategy=fedavg,fedadam"])
    assert len(caught.value.problems) == 2


@pytest.mark.parametrize(
    "word",
    ["data.partitioner_args={a: 1}", "data.partitioner_args.a=1", "+data.partitioner_args.a=1"],
)
def test_dictionaries_of_arguments_take_new_keys(word: str) -> None:
    assert compose([MAIN_JOB, word]).data.partitioner_args == {"a": 1}


def test_settings_of_hydra_itself_are_left_to_hydra() -> None:
    assert compose(["hydra.run.dir=/tmp/x"]) == compose()


def test_a_range_is_described_in_words() -> None:
    declared = setting(1.0, "A number.", gt=0, le=5)
    assert describe_range(declared.metadata) == "> 0 and <= 5"
    assert describe_range(setting("a", "A word.", choices=("a", "b")).metadata) == "one of a, b"
