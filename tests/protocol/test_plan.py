import copy
import dataclasses
import functools
import json
import pickle
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from confide.config.composing.compose import compose
from confide.config.models.perceptrons import MlpConfig
from confide.config.noise_share import NoiseShare
from confide.config.strategies.strategy import (
    ALGORITHMS,
    FedProxConfig,
    ObjectiveConfig,
    ScaffoldConfig,
)
from confide.config.tunings.table import TUNINGS
from confide.errors import ProtocolError
from confide.protocol.new_plan import make_plan
from confide.protocol.plan import (
    LONGEST_PLAN,
    NEIGHBOURING_RELATION,
    PLAN_VERSION,
    TrainingPlan,
    plan_sha256,
)

EXPERIMENT = "experiment=heart_disease"
Path = tuple[str, ...]


@functools.cache
def plan() -> TrainingPlan:
    return make_plan(compose([EXPERIMENT]), backbone_sha256=None)


def edited(path: Path, value: Any) -> str:
    """Return the plan's text with one value set; None is written as null."""
    raw = json.loads(plan().to_json())
    node = raw
    for key in path[:-1]:
        node = node[key]
    node[path[-1]] = value
    return json.dumps(raw)


def without(path: Path) -> str:
    raw = json.loads(plan().to_json())
    node = raw
    for key in path[:-1]:
        node = node[key]
    del node[path[-1]]
    return json.dumps(raw)


def refused(text: str, words: str, code: str = "plan_invalid") -> None:
    with pytest.raises(ProtocolError, match=words) as caught:
        TrainingPlan.from_json(text)
    assert caught.value.code == code


@pytest.mark.parametrize(
    "overrides",
    [
        [EXPERIMENT],
        [EXPERIMENT, "backbone=mlp", "strategy=fedprox", "simulation.seed=null"],
        [
            EXPERIMENT,
            "privacy=record",
            "privacy.epsilon=3",
            "client.local_steps=null",
            "client.sampling_rate=null",
        ],
        [],
    ],
)
def test_plan_survives_the_way_to_json_and_back(overrides: list[str]) -> None:
    made = make_plan(compose(overrides), backbone_sha256="ab" * 32)
    parsed = TrainingPlan.from_json(made.to_json())
    assert parsed == made
    assert type(parsed.task) is type(made.task)
    assert type(parsed.backbone) is type(made.backbone)
    assert parsed.to_json() == made.to_json()


def test_plan_holds_what_the_config_says() -> None:
    overrides = [
        "server.num_rounds=3",
        "server.round_timeout_s=7",
        "strategy=fedprox",
        "job=trial",
        "simulation.seed=5",
    ]
    made = make_plan(compose([EXPERIMENT, *overrides]), backbone_sha256="ab")
    assert (made.job, made.num_rounds, made.deadline_s, made.seed) == ("trial", 3, 7.0, 5)
    assert made.backbone_sha256 == "ab"
    assert made.objective == FedProxConfig(proximal_mu=0.01)
    assert (made.version, made.relation) == (PLAN_VERSION, NEIGHBOURING_RELATION)


def test_plan_of_a_flower_strategy_has_the_plain_objective() -> None:
    made = make_plan(compose([EXPERIMENT, "strategy=flower"]), backbone_sha256=None)
    assert made.objective == ObjectiveConfig()


def test_text_of_a_plain_plan_is_what_approvals_always_knew() -> None:
    made = make_plan(compose([EXPERIMENT]), backbone_sha256=None)
    text = made.to_json()
    assert '"objective":{"kind":"plain","proximal_mu":0.0,"alpha":0.1},"client"' in text
    assert TrainingPlan.from_json(text) == made
    assert TrainingPlan.from_json(text.replace(',"proximal_mu":0.0,"alpha":0.1', "")) == made


@pytest.mark.parametrize(
    "objective",
    [
        '{"kind":"plain","proximal_mu":0.5,"alpha":0.1}',
        '{"kind":"fedprox","proximal_mu":0.5,"alpha":0.1}',
        '{"kind":"fedprox","proximal_mu":-1}',
        '{"kind":"median"}',
        "{}",
        '"plain"',
    ],
)
def test_settings_that_an_algorithm_does_not_have_are_refused(objective: str) -> None:
    plain = '{"kind":"plain","proximal_mu":0.0,"alpha":0.1}'
    text = make_plan(compose([EXPERIMENT]), backbone_sha256=None).to_json()
    with pytest.raises(ProtocolError, match="objective") as caught:
        TrainingPlan.from_json(text.replace(plain, objective))
    assert caught.value.code == "plan_invalid"


def test_algorithm_travels_with_its_own_settings_alone() -> None:
    made = make_plan(compose([EXPERIMENT, "strategy=scaffold"]), backbone_sha256=None)
    assert '"objective":{"kind":"scaffold"},' in made.to_json()
    assert TrainingPlan.from_json(made.to_json()).objective == ScaffoldConfig()


@pytest.mark.parametrize(("unit", "private"), [("none", False), ("record", True)])
def test_plan_is_private_unless_nothing_is_protected(unit: str, private: bool) -> None:
    assert (
        make_plan(compose([EXPERIMENT, f"privacy.unit={unit}"]), backbone_sha256=None).private
        is private
    )


def test_equal_plans_give_equal_text() -> None:
    again = make_plan(compose([EXPERIMENT]), backbone_sha256=None)
    assert again is not plan()
    assert again.to_json() == plan().to_json()


def test_order_of_keys_does_not_matter() -> None:
    backwards = json.dumps(dict(reversed(json.loads(plan().to_json()).items())))
    assert TrainingPlan.from_json(backwards).to_json() == plan().to_json()


def test_order_of_columns_survives() -> None:
    task: Any = plan().task
    assert list(TrainingPlan.from_json(plan().to_json()).task.columns) == list(task.columns)  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("path", "where"),
    [
        (("surprise",), "surprise: Unexpected"),
        (("client", "surprise"), r"client\.surprise: Unexpected"),
        (("client", "optimizer", "surprise"), r"client\.optimizer\.surprise: Unexpected"),
        (("task", "columns", "age", "surprise"), r"columns\.age\.surprise: Unexpected"),
    ],
)
def test_unknown_key_is_refused_by_name(path: Path, where: str) -> None:
    refused(edited(path, 1), where)


@pytest.mark.parametrize(
    "path", [("job",), ("privacy",), ("num_rounds",), ("seed",), ("backbone_sha256",)]
)
def test_missing_key_is_refused_by_name(path: Path) -> None:
    refused(without(path), rf"{path[-1]}: Field required")


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("num_rounds",), "3"),
        (("num_rounds",), 3.0),
        (("num_rounds",), True),
        (("job",), 7),
        (("seed",), "0"),
        (("deadline_s",), "60"),
        (("client", "batch_size"), 1.5),
        (("privacy", "epsilon"), "8"),
        (("privacy", "epsilon"), None),
        (("task", "labels"), "absent"),
    ],
)
def test_wrong_type_is_refused_by_name(path: Path, value: Any) -> None:
    refused(edited(path, value), rf"{path[-1]}: Input should be")


@pytest.mark.parametrize("kind", ["text", "os.system", "", None])
@pytest.mark.parametrize("part", ["task", "backbone"])
def test_unknown_kind_is_refused(part: str, kind: str | None) -> None:
    refused(edited((part, "kind"), kind), f"{part}: ")


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        (("num_rounds",), 0, "num_rounds=0: expected 1 to 1000000"),
        (("deadline_s",), 0.0, "deadline_s=0.0: expected > 0"),
        (("relation",), "add-remove", "relation=add-remove: expected zero-out"),
        (("privacy", "epsilon"), 0.0, r"privacy\.epsilon\b"),
        (("privacy", "delta"), 1.0, r"privacy\.delta\b"),
        (("privacy", "unit"), "patient", r"privacy\.unit=patient: expected one of none, record"),
        (("client", "local_steps"), 0, r"client\.local_steps\b"),
        (("client", "sampling_rate"), 1.5, r"client\.sampling_rate\b"),
        (("client", "optimizer", "learning_rate"), -1.0, r"client\.optimizer\.learning_rate\b"),
        (("objective", "kind"), "mine", r"objective: Input tag 'mine'"),
        (("tuning", "kind"), "some", "tuning: Input tag 'some'"),
        (("task", "primary_metric"), "luck", r"task\.primary_metric=luck"),
        (("task", "columns", "age", "minimum"), 99.0, r"task\.columns\.age\.minimum=99\.0"),
    ],
)
def test_value_out_of_range_is_refused_by_name(path: Path, value: Any, words: str) -> None:
    refused(edited(path, value), words)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize(
    "path", [("deadline_s",), ("privacy", "epsilon"), ("client", "optimizer", "learning_rate")]
)
def test_number_that_is_not_finite_is_refused(path: Path, value: float) -> None:
    refused(edited(path, value), "finite number")


@pytest.mark.parametrize("version", [PLAN_VERSION + 1, 0, None, "1", 1.5])
def test_other_version_is_refused_naming_both(version: Any) -> None:
    refused(
        edited(("version",), version),
        rf"version={version!r}, this side understands {PLAN_VERSION}",
        "plan_version",
    )


def test_newer_version_is_told_before_the_keys_it_brings() -> None:
    raw = {**json.loads(plan().to_json()), "version": 2, "new_key": 1}
    refused(json.dumps(raw), "version=2, this side understands 1", "plan_version")


@pytest.mark.parametrize("text", ["[]", "1", "null", '"plan"'])
def test_json_that_is_no_object_is_refused(text: str) -> None:
    refused(text, "version=None, this side understands 1", "plan_version")


@pytest.mark.parametrize("text", ["", "{", "plan", plan().to_json()[:-1], plan().to_json() + "x"])
def test_what_is_not_json_is_refused(text: str) -> None:
    refused(text, "Expected a plan in JSON")


def test_refusal_does_not_repeat_the_value_of_a_wrong_type() -> None:
    with pytest.raises(ProtocolError) as caught:
        TrainingPlan.from_json(edited(("privacy", "epsilon"), "sesame"))
    assert "sesame" not in str(caught.value)


def test_several_mistakes_are_named_together() -> None:
    made = dataclasses.replace(plan(), num_rounds=0, deadline_s=-1.0, backbone=MlpConfig(hidden=[]))
    refused(made.to_json(), r"backbone\.hidden=\[\].*num_rounds=0.*deadline_s=-1\.0")


@pytest.mark.parametrize("part", ["task", "backbone"])
def test_text_in_place_of_an_object_is_refused(part: str) -> None:
    refused(edited((part,), "logistic"), part)


@pytest.mark.parametrize("text", ["[" * 100_000, "9" * 5000])
def test_json_that_breaks_the_parser_is_refused(text: str) -> None:
    refused(text, "Expected a plan in JSON")


@pytest.mark.parametrize("seed", [-1, 2**64])
def test_seed_out_of_range_is_refused(seed: int) -> None:
    refused(edited(("seed",), seed), f"seed={seed}")


def test_number_of_rounds_beyond_the_configs_bound_is_refused() -> None:
    refused(edited(("num_rounds",), 10**12), "num_rounds=1000000000000")


def test_long_text_is_refused_unread() -> None:
    refused(plan().to_json() + " " * LONGEST_PLAN, "at most", code="too_large")
    refused("[" * (LONGEST_PLAN + 1), "at most", code="too_large")


def test_problems_of_a_plan_do_not_fill_a_log() -> None:
    raw = {
        **json.loads(plan().to_json()),
        "version": 1,
        **{f"key-{i}": 1 for i in range(20_000)},
        "x" * 100_000: 1,
    }
    with pytest.raises(ProtocolError, match="more") as caught:
        TrainingPlan.from_json(json.dumps(raw))
    assert len(str(caught.value)) < 3000
    with pytest.raises(ProtocolError, match="version") as caught:
        TrainingPlan.from_json(json.dumps({"version": "9" * 500_000}))
    assert len(str(caught.value)) < 3000


@pytest.mark.parametrize("digest", ["", "ab", "AB" * 32, "ab" * 31 + "\x1b["])
def test_content_hash_is_a_hash_and_moves_no_cursor(digest: str) -> None:
    refused(edited(("backbone_sha256",), digest), "64 hexadecimal")


# --- tuning

_OF_LORA = '"rank":8,"alpha":16.0,"target_modules":["query","value"]}'


def tuned(*words: str) -> TrainingPlan:
    return make_plan(compose(["experiment=tweets", *words]), backbone_sha256=None)


def tuning_of(made: TrainingPlan) -> str:
    return made.to_json().partition('"tuning":')[2].partition("}")[0] + "}"


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["tuning=head"], f'{{"kind":"head",{_OF_LORA}'),
        (["tuning=full"], f'{{"kind":"full",{_OF_LORA}'),
        (["tuning=lora"], f'{{"kind":"lora",{_OF_LORA}'),
        (["tuning=lora", "tuning.target_modules=[query,value]"], f'{{"kind":"lora",{_OF_LORA}'),
        (["tuning=bias"], '{"kind":"bias"}'),
        (
            ["tuning=lora", "tuning.rank_stabilised=true"],
            f'{{"kind":"lora",{_OF_LORA[:-1]},"rank_stabilised":true}}',
        ),
    ],
)
def test_tuning_is_written_as_the_first_plans_did(words: list[str], text: str) -> None:
    """Approvals and ledgers know a plan by its text."""
    made = tuned(*words)
    assert tuning_of(made) == text
    assert TrainingPlan.from_json(made.to_json()) == made


@pytest.mark.parametrize("kind", TUNINGS)
def test_plan_of_each_tuning_survives_the_way_there_and_back(kind: str) -> None:
    own = [f"strategy={name}" for name, one in ALGORITHMS.items() if one.tuning == kind]
    made = tuned(f"tuning={kind}", *own[:1])
    assert TrainingPlan.from_json(made.to_json()) == made
    assert TrainingPlan.from_json(made.to_json()).to_json() == made.to_json()


def test_rank_of_a_head_in_an_earlier_plan_is_no_obstacle() -> None:
    raw = json.loads(tuned().to_json())
    raw["tuning"]["rank"] = 3
    assert TrainingPlan.from_json(json.dumps(raw)).tuning == tuned().tuning


def test_plan_tells_the_seed_of_frozen_tensors() -> None:
    """The same for a run that begins again, another for another job or seed."""
    words = [["job=a"], ["job=b"], ["job=a", "simulation.seed=1"]]
    seeds = [tuning_of(tuned("tuning=lora_ffa", *said)) for said in words]
    assert seeds[0] == tuning_of(tuned("tuning=lora_ffa", "job=a"))
    assert len(set(seeds)) == len(seeds)
    assert '"seed":5' in tuning_of(tuned("tuning=lora_ffa", "tuning.seed=5"))


@pytest.mark.parametrize("seed", [None, -1, 2**63, 1.5, "0"])
def test_plan_without_a_seed_that_can_be_used_is_refused(seed: object) -> None:
    raw = json.loads(tuned("tuning=lora_ffa").to_json())
    raw["tuning"]["seed"] = seed
    refused(json.dumps(raw), r"tuning\b.*seed")


def parsed(**changes: Any) -> TrainingPlan:
    """Return a plan as an institution gets it, which another test's may not be."""
    return TrainingPlan.from_json(replace(plan(), job="hashed", **changes).to_json())


def test_hash_of_a_plan_is_that_of_its_text() -> None:
    for one in (plan(), parsed(), parsed(num_rounds=4)):
        assert one.sha256 == plan_sha256(one.to_json())
    # Whatever else the other side wrote: settings that say nothing, spaces
    spaced = json.dumps(json.loads(parsed().to_json()), indent=1)
    assert TrainingPlan.from_json(spaced).sha256 == parsed().sha256


def test_hash_of_a_parsed_plan_is_made_once(monkeypatch: pytest.MonkeyPatch) -> None:
    known = parsed()
    text, sha256 = known.to_json(), known.sha256
    monkeypatch.setattr(TrainingPlan, "to_json", lambda self: pytest.fail("written again"))
    assert TrainingPlan.from_json(text) is known
    assert known.sha256 == sha256


@pytest.mark.parametrize(
    "copied", [copy.copy, copy.deepcopy, lambda one: pickle.loads(pickle.dumps(one)), replace]
)
def test_changed_copy_of_a_plan_has_a_hash_of_its_own(
    copied: Callable[[TrainingPlan], TrainingPlan],
) -> None:
    original = parsed()
    other = copied(original)
    assert other == original
    assert other.sha256 == original.sha256
    object.__setattr__(other, "num_rounds", original.num_rounds + 1)
    assert other.sha256 == plan_sha256(other.to_json()) != original.sha256


# --- noise of others


def masked(**privacy: Any) -> TrainingPlan:
    config = compose(
        [
            "experiment=synthetic_logistic",
            "privacy=record",
            "strategy=fedavg",
            "client=table",
            "client.local_steps=1",
            "aggregation=secure",
        ]
    )
    whole = make_plan(config, backbone_sha256=None)
    return replace(whole, privacy=replace(whole.privacy, **privacy))


def sharing() -> TrainingPlan:
    plan = masked()
    assert plan.sums is not None
    share = NoiseShare(clip_norm=1.0, noise_multiplier=1.0, honest=3)
    return replace(plan, sums=replace(plan.sums, weighting="uniform", share=share))


def test_a_plan_that_counts_on_nobody_says_nothing_of_it() -> None:
    told = json.loads(masked().to_json())["privacy"]
    assert {"trust", "honest_peers"}.isdisjoint(told)
    assert TrainingPlan.from_json(masked().to_json()) == masked()


def test_a_plan_may_count_on_others() -> None:
    counting = masked(trust="peers", honest_peers=4)
    read = TrainingPlan.from_json(counting.to_json())
    assert (read.privacy.honest, read.peers_problem) == (4, None)


@pytest.mark.parametrize(
    ("plan", "reason"),
    [
        (replace(masked(), sums=None), "the coordinator sees each update"),
        (
            replace(masked(), client=replace(masked().client, local_steps=2)),
            "local_steps=2: later gradients",
        ),
        (masked(unit="none"), "nothing is trained with noise"),
        (sharing(), "clipped as a whole"),
    ],
)
def test_a_plan_that_counts_on_others_in_vain_is_refused(plan: TrainingPlan, reason: str) -> None:
    assert reason in str(plan.peers_problem)
    counting = replace(plan, privacy=replace(plan.privacy, trust="peers", honest_peers=2))
    refused(counting.to_json(), reason)


def test_a_plan_that_does_not_say_on_how_many_it_counts_is_refused() -> None:
    refused(masked(trust="peers").to_json(), "set both, or neither")
    refused(masked(honest_peers=3).to_json(), "set both, or neither")
