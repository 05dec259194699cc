"""Views of pictures: functions of one record, whose mean gradient is clipped as one."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy
import pytest
import torch
from builders import build_plan
from picture_models import cnn_workload, vision_workload
from pictures_made import build_pictures, drawn
from torch import Tensor

from confide.client.schedule import LocalSchedule
from confide.client.training.private.dp_sgd import DpSgd, DpSgdStep, expect_hook_warning
from confide.client.training.trainer import Trainer
from confide.client.training.work import LocalWork
from confide.config.client import ClientConfig, OptimizerConfig
from confide.config.composing.compose import compose
from confide.config.models.cnn import CnnConfig
from confide.config.models.vision import VisionConfig
from confide.config.privacy import PrivacyConfig
from confide.config.tasks.media.augmentation import Augmentation
from confide.config.tunings.tuning import TuningConfig
from confide.errors import ConfigError, ProtocolError
from confide.models.networks import trainable_tensors
from confide.models.workload import Workload
from confide.privacy.randomness import KeyedGenerator, seed_from
from confide.protocol.plan import TrainingPlan
from confide.protocol.tensors import Tensors
from confide.tasks.media.views import Views
from confide.tasks.task import LABELS, Examples

pytestmark = pytest.mark.filterwarnings(
    "ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"
)

PIXELS = "pixel_values"
FOUR = Augmentation(views=4, flip=True, shift=0.25, mixup=0.0)
KEY = bytes(32)
RECORDS = 6
CLIP = 0.05


def pictures(count: int = RECORDS, seed: int = 0, side: int = 8) -> Examples:
    pixels = torch.from_numpy(drawn(seed, (count, 1, side, side + 2)))
    return Examples({PIXELS: pixels, LABELS: torch.arange(count) % 2})


def views_of(
    examples: Examples, how: Augmentation, records: Sequence[int], step: int = 0, seed: int = 1
) -> Tensor:
    """Return all views of each of some records, shape [records, views, c, h, w]."""
    members = [torch.tensor([record]) for record in records]
    rows, groups = Views(how, seed).of(examples, members, step)
    assert [len(group) for group in groups] == [how.views] * len(records)
    return torch.stack([rows.take(group)[PIXELS] for group in groups])


def possible(picture: numpy.ndarray, most: tuple[int, int], flip: bool) -> Iterator[bytes]:
    """Yield every view of a picture [h, w], by padding and cutting."""
    height, width = picture.shape
    padded = numpy.pad(picture, ((most[0],) * 2, (most[1],) * 2), mode="reflect")
    for down in range(2 * most[0] + 1):
        for right in range(2 * most[1] + 1):
            cut = padded[down : down + height, right : right + width]
            yield cut.tobytes()
            if flip:
                yield cut[:, ::-1].tobytes()


@pytest.mark.parametrize(
    ("flip", "shift", "most"), [(True, 0.25, (2, 2)), (False, 0.5, (4, 5)), (True, 0.0, (0, 0))]
)
def test_a_view_is_its_picture_mirrored_and_moved(
    flip: bool, shift: float, most: tuple[int, int]
) -> None:
    examples = pictures(3)
    how = Augmentation(views=64, flip=flip, shift=shift, mixup=0.0)
    for record, views in enumerate(views_of(examples, how, range(3))):
        allowed = set(possible(examples.columns[PIXELS][record, 0].numpy(), most, flip))
        found = {view[0].numpy().tobytes() for view in views}
        assert found <= allowed
        # 64 draws of up to 99 views
        assert len(found) > min(len(allowed), 20) / 2


def test_colours_move_together() -> None:
    grey = pictures(2).columns[PIXELS]
    examples = Examples({PIXELS: grey.expand(-1, 3, -1, -1), LABELS: torch.arange(2)})
    views = views_of(examples, FOUR, [0, 1])
    assert views.shape == (2, 4, 3, 8, 10)
    assert views[:, :, 0].equal(views[:, :, 2])


@pytest.mark.parametrize("mixup", [0.0, 0.4])
def test_views_follow_from_a_record_its_place_and_the_step_alone(mixup: float) -> None:
    how = replace(FOUR, mixup=mixup)
    alone = views_of(pictures(), how, [2])[0]
    assert views_of(pictures(), how, [5, 2, 0])[1].equal(alone)
    other = pictures(seed=9).columns[PIXELS]
    other[2] = pictures().columns[PIXELS][2]
    changed = Examples({PIXELS: other, LABELS: torch.zeros(RECORDS)})
    assert views_of(changed, how, [1, 2])[1].equal(alone)
    # As the members of one unit, dealt out to several passes
    rows, (group,) = Views(how, 1).of(pictures(), [torch.tensor([4, 2])], 0)
    assert torch.cat([rows.take(part)[PIXELS] for part in group.split(3)])[4:].equal(alone)
    assert not views_of(pictures(), how, [2], step=1)[0].equal(alone)
    assert not views_of(pictures(), how, [2], seed=2)[0].equal(alone)
    twins = Examples({PIXELS: pictures(1).columns[PIXELS].repeat(2, 1, 1, 1), LABELS: alone[:2]})
    assert not torch.equal(*views_of(twins, how, [0, 1]))


def test_a_mixture_is_of_two_views_of_one_picture() -> None:
    examples = pictures(4)
    how = Augmentation(views=16, flip=True, shift=0.0, mixup=0.5)
    proper = 0
    for record, views in enumerate(views_of(examples, how, range(4))):
        one = examples.columns[PIXELS][record].double()
        difference = one - one.flip(2)
        for view in views:
            assert view.dtype == torch.uint8
            # Shares are between those that fit each pixel
            rest = view.double() - one.flip(2)
            share = float((rest * difference).sum() / (difference * difference).sum())
            assert -1e-2 < share < 1 + 1e-2
            assert float((rest - share * difference).abs().max()) <= 1.0
            proper += 0.05 < share < 0.95
    assert proper > 8


def test_views_take_no_memory_before_they_are_taken() -> None:
    examples = pictures()
    rows, _ = Views(replace(FOUR, views=64), 0).of(examples, [torch.arange(RECORDS)], 0)
    assert len(rows) == 64 * RECORDS
    assert rows.columns[PIXELS] is examples.columns[PIXELS]


def viewed(workload: Workload, **changes: object) -> Workload:
    return replace(workload, augmentation=replace(FOUR, **changes))  # type: ignore[arg-type]


def invent(workload: Workload, count: int = RECORDS) -> Examples:
    return workload.synthetic(count, torch.Generator().manual_seed(3))


def gradients_of_means(
    workload: Workload, examples: Examples, members: Sequence[Tensor], seed: int
) -> Tensor:
    """Return the gradient of each unit's mean loss over its views, in one pass a unit, [u, d]."""
    params = [p for p in workload.model.parameters() if p.requires_grad]
    assert workload.augmentation is not None
    found = []
    for unit in members:
        views = views_of(examples, workload.augmentation, unit.tolist(), seed=seed)
        labels = examples.labels[unit].repeat_interleave(workload.augmentation.views, dim=0)
        batch = {PIXELS: views.flatten(0, 1), LABELS: labels}
        loss = workload.losses(workload.model, batch).mean()
        parts = torch.autograd.grad(loss, params, allow_unused=True)
        filled = [
            torch.zeros_like(p) if g is None else g for p, g in zip(params, parts, strict=True)
        ]
        found.append(torch.cat([part.flatten() for part in filled]))
    return torch.stack(found)


UNITS = {
    "record": [torch.tensor([i]) for i in (0, 3, 4)],
    "group": [torch.tensor([5, 1]), torch.tensor([0]), torch.tensor([2, 3])],
}


@pytest.mark.parametrize(("unit", "views", "mixup"), [("record", 3, 0.3), ("group", 4, 0.0)])
@pytest.mark.parametrize("engine", ["cnn", "lora by Opacus", "lora by books"])
def test_what_is_clipped_is_the_gradient_of_the_mean_over_views(
    engine: str, unit: str, views: int, mixup: float, tmp_path: Path
) -> None:
    made = cnn_workload() if engine == "cnn" else vision_workload(tmp_path, "vit", "lora")
    workload = viewed(made, views=views, mixup=mixup)
    workload.model.train()
    dp_sgd = DpSgd(
        workload.model,
        workload.losses,
        physical_batch_size=16,
        book_keeping=engine.endswith("books"),
        group_size=workload.rows_of(2 if unit == "group" else None),
    )
    with torch.no_grad():
        for number, p in enumerate(dp_sgd.params):  # a head starts at zero
            p.add_(0.1 * torch.randn(p.shape, generator=torch.Generator().manual_seed(number)))
    examples, members = invent(workload), UNITS[unit]
    with dp_sgd.plain(), expect_hook_warning():
        single = gradients_of_means(workload, examples, members, seed=1)
    for norm in (1e6, 1e-3):
        factors = (norm / single.norm(dim=1)).clamp_max(1.0)
        expected = (single * factors[:, None]).sum(dim=0)
        step = DpSgdStep(
            clipping_norm=norm, noise_multiplier=0.0, sampling_rate=1.0, expected_batch_size=1.0
        )
        sgd = torch.optim.SGD(dp_sgd.params, lr=1.0)
        optimizer = dp_sgd.optimizer(sgd, step, KeyedGenerator(KEY))
        rows, groups = Views(workload.augmentation, 1).of(examples, members, 0)  # type: ignore[arg-type]
        with expect_hook_warning():
            dp_sgd.private_group_gradient(optimizer, rows, groups)
        found = torch.cat([p.grad.flatten() for p in dp_sgd.params if p.grad is not None])
        assert float((found - expected).norm() / expected.norm()) < 1e-3
        # Without noise and with one unit's expected, the sum is at most C a unit
        assert float(found.norm()) <= norm * len(members)


SCHEDULE = LocalSchedule(
    num_examples=RECORDS,
    batch_size=RECORDS,
    steps=1,
    sampling_rate=1.0,
    noise_multiplier=0.0,
    max_rounds=1,
)


def plan_of(unit: str = "none", clip: float = 1e4) -> TrainingPlan:
    return build_plan(
        task=build_pictures(views=4, shift=0.25),
        backbone=CnnConfig(widths=[4]),
        client=ClientConfig(optimizer=OptimizerConfig(kind="sgd", learning_rate=1.0)),
        privacy=PrivacyConfig(unit=unit, clipping_norm=clip, max_records_per_group=2),
    )


def make_trainer(unit: str, views: int = 4) -> Trainer:
    size = 2 if unit == "group" else None
    return Trainer(viewed(cnn_workload(), views=views), private=unit != "none", group_size=size)


def trained(
    trainer: Trainer, unit: str, *, clip: float = 1e4, steps: int = 1, secret: bytes = KEY
) -> Tensor:
    """Return what a round adds to the tensors that a model starts from, flat."""
    start: Tensors = trainable_tensors(cnn_workload().model)
    update = trainer.train(
        {name: tensor.clone() for name, tensor in start.items()},
        invent(trainer.workload),
        LocalWork(plan=plan_of(unit, clip), schedule=replace(SCHEDULE, steps=steps), secret=secret),
        groups=torch.tensor([0, 0, 0, 1, 1, 2]) if unit == "group" else None,
    )
    return torch.cat([update[name].flatten() for name in start])


@pytest.mark.parametrize("unit", ["none", "record", "group"])
def test_a_step_ends_between_passes_of_its_views(unit: str) -> None:
    calls, most = [0], 4

    def check() -> None:
        calls[0] += 1
        if calls[0] > most:
            raise ProtocolError("late")

    def made() -> Trainer:
        workload = viewed(cnn_workload(), views=64)
        small = replace(workload.compute, physical_batch_size=64)
        size = 2 if unit == "group" else None
        return Trainer(
            replace(workload, compute=small),
            private=unit != "none",
            group_size=size,
            check_fn=check,
        )

    trainer = made()
    calls[0] = 0
    with pytest.raises(ProtocolError, match="late"):
        trained(trainer, unit)
    assert calls[0] == 5
    most = 10_000
    fresh = made()
    # Nothing of it is left
    assert trained(trainer, unit).equal(trained(fresh, unit))


@pytest.mark.parametrize("unit", ["none", "record", "group"])
def test_a_step_is_down_the_mean_over_views(unit: str) -> None:
    members = [torch.tensor([i]) for i in range(RECORDS)]
    if unit == "group":  # a third record of a group is left out
        members = [torch.tensor([0, 1]), torch.tensor([3, 4]), torch.tensor([5])]
    workload = viewed(cnn_workload())
    single = gradients_of_means(workload, invent(workload), members, seed=seed_from(KEY, "views"))
    # Divided by the expected number of units, which the schedule says is that of records
    expected = -single.sum(dim=0) / RECORDS
    found = trained(make_trainer(unit), unit)
    assert float((found - expected).norm() / expected.norm()) < 1e-3


@pytest.mark.parametrize("unit", ["none", "record"])
def test_each_step_and_each_training_sees_other_views(unit: str) -> None:
    trainer = make_trainer(unit)
    seen: list[tuple[int, int]] = []
    draw = Views.draw
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Views, "draw", lambda self, *at: seen.append(at) or draw(self, *at))
        twice = trained(trainer, unit, steps=2)
    assert set(seen) == {(step, record) for step in range(2) for record in range(RECORDS)}
    assert trained(trainer, unit, steps=2).equal(twice)
    assert not trained(trainer, unit, steps=2, secret=bytes([1]) * 32).equal(twice)


def test_predictions_are_made_of_pictures_as_they_are() -> None:
    plain, seen = cnn_workload(), viewed(cnn_workload())
    start = trainable_tensors(plain.model)
    one, other = (Trainer(w, private=False).scores(start, invent(plain)) for w in (plain, seen))
    assert one.equal(other)


def test_one_unit_moves_a_private_step_by_at_most_the_clipping_norm() -> None:
    """However many views it has."""
    update = trained(make_trainer("record", views=16), "record", clip=CLIP)
    assert 0 < float(update.norm()) <= CLIP * (1 + 1e-6)


COMMAND = (
    *("task=image", "task.labels=[dark,light]", "task.size=8", "backbone=cnn"),
    *("data.path=x", "data.public=true"),
)


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (("task.views=65",), "views=65"),
        (("task.views=0",), "views=0"),
        (("task.views=4", "task.shift=0.6"), "shift=0.6"),
        (("task.views=4", "task.flip=false", "task.shift=0"), "all views of a picture"),
        (("task=masks", "backbone=unet", "task.views=4"), "views=4: a mask would have to move"),
        (("task.mixup=0.2",), "mixup=0.2 mixes views, and views=1"),
        (
            ("task.views=4", "backbone=vision", "backbone.name=y", "tuning=head"),
            "task.views=4: tuning=head trains on features that the frozen backbone computes once",
        ),
    ],
)
def test_what_views_cannot_be_is_refused(words: tuple[str, ...], problem: str) -> None:
    with pytest.raises(ConfigError, match=problem.replace("[", r"\[")):
        compose([*COMMAND, *words])


def test_plans_of_pictures_as_they_are_do_not_name_views() -> None:
    plain = build_plan(task=build_pictures(), backbone=CnnConfig())
    assert not {"views", "flip", "shift", "mixup"} & set(json.loads(plain.to_json())["task"])
    seen = build_plan(task=build_pictures(views=4, mixup=0.2), backbone=CnnConfig())
    said = json.loads(seen.to_json())["task"]
    assert (said["views"], said["mixup"], "flip" in said) == (4, 0.2, False)
    assert TrainingPlan.from_json(seen.to_json()) == seen


@pytest.mark.parametrize(
    ("name", "value"), [("views", 65), ("views", 10**9), ("shift", 0.9), ("mixup", -1.0)]
)
def test_a_plan_from_elsewhere_is_held_to_the_same_bounds(name: str, value: float) -> None:
    raw = json.loads(build_plan(task=build_pictures(views=4), backbone=CnnConfig()).to_json())
    raw["task"][name] = value
    with pytest.raises(ProtocolError, match=name):
        TrainingPlan.from_json(json.dumps(raw))


def test_a_plan_of_views_for_a_head_on_kept_features_is_refused() -> None:
    plan = build_plan(
        task=build_pictures(views=4),
        backbone=VisionConfig(name="y"),
        backbone_sha256="0" * 64,
        tuning=TuningConfig(kind="head"),
    )
    with pytest.raises(ProtocolError, match=r"task.views=4: tuning=head"):
        TrainingPlan.from_json(plan.to_json())
