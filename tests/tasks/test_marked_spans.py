"""A task of one's own on texts says which tokens are pooled, what records need, what is invented.

docs/examples/custom_spans.py is that task.
"""

import dataclasses
from pathlib import Path

import pytest
import torch
from builders import build_plan, build_tuning
from datasets import Dataset
from small_models import make_backbone

from confide.client.commands.data import main as data
from confide.client.training.private.dp_sgd import DpSgd
from confide.client.training.private.preflight import preflight
from confide.config.custom import unforeseen
from confide.config.tasks.text_classification import TextClassificationConfig
from confide.errors import ConfigError, DataError
from confide.inference.export import export
from confide.models.backbones import content_hash, find_backbone
from confide.models.compute import Compute
from confide.models.networks import TextClassifier, trainable_tensors
from confide.models.saved import save_model
from confide.models.workload import Workload, build_workload
from confide.protocol.plan import TrainingPlan

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"
PATH = "custom_spans.MarkedSpans"
SPANS = TextClassificationConfig(
    labels=["drug", "place"], text_column="sentence", _target_=PATH, max_tokens=24
)
RECORDS = Dataset.from_dict(
    {
        "sentence": ["[[tea]] was given [1]", "given [2] in [[the ward]] today", "x [[y"],
        "label": ["drug", "place", "drug"],
    }
)
FIT = RECORDS.select([0, 1])


@pytest.fixture(autouse=True)
def path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(EXAMPLES)


def plan_of(folder: Path, tuning: str, pooling: str = "mean") -> TrainingPlan:
    backbone = dataclasses.replace(make_backbone(folder), pooling=pooling)
    return build_plan(
        task=SPANS,
        backbone=backbone,
        backbone_sha256=content_hash(find_backbone(backbone)),
        tuning=build_tuning(tuning, rank=2),
    )


def workload_of(plan: TrainingPlan) -> Workload:
    return build_workload(
        plan.task, plan.backbone, plan.tuning, compute=Compute(), seed=0, custom_tasks=[PATH]
    )


def test_tokens_of_the_span_are_marked_and_no_others(tmp_path: Path) -> None:
    examples = workload_of(plan_of(tmp_path, "full")).task.encode(FIT)
    # [CLS] [ [ tea ] ] was given [ 1 ] [SEP]; [CLS] given [ 2 ] in [ [ the ward ] ] ...
    marked = [row.nonzero().flatten().tolist() for row in examples.columns["pooled_tokens"]]
    assert marked == [[3], [8, 9]]


@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_a_text_is_the_mean_of_the_tokens_that_the_task_names(pooling: str, tmp_path: Path) -> None:
    workload = workload_of(plan_of(tmp_path, "full", pooling))
    model, batch = workload.model, workload.task.encode(FIT).take(torch.tensor([1]))
    assert isinstance(model, TextClassifier)
    inputs = model._inputs.of(batch["input_ids"], batch["attention_mask"])
    hidden = model.encoder(**inputs).last_hidden_state
    del batch["labels"]
    assert torch.allclose(model.pooled(**batch), hidden[:, 8:10].mean(dim=1), atol=1e-6)


@pytest.mark.parametrize("book_keeping", [True, False])
@pytest.mark.parametrize("tuning", ["full", "lora"])
def test_preflight_passes_on_what_it_invents(
    tuning: str, book_keeping: bool, tmp_path: Path
) -> None:
    workload = workload_of(plan_of(tmp_path, tuning))
    invented = workload.synthetic(4, torch.Generator().manual_seed(3))
    assert (invented.columns["pooled_tokens"].sum(dim=1) > 0).all()
    dp_sgd = DpSgd(
        workload.model.train(),
        lambda model, batch: workload.task.loss(workload.outputs(model, batch), batch),
        physical_batch_size=8,
        book_keeping=book_keeping,
    )
    preflight(dp_sgd, invented, autocast=None)


@pytest.mark.parametrize(
    ("tuning", "form"),
    [
        ("full", "merged"),
        ("head", "onnx"),
        pytest.param("lora", "hf", marks=pytest.mark.slow),
    ],
)
@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
def test_exported_models_pool_the_same_tokens(tuning: str, form: str, tmp_path: Path) -> None:
    plan = plan_of(tmp_path / "bert", tuning)
    workload = workload_of(plan)
    tensors = {
        name: tensor + 0.3 * torch.randn(tensor.shape, generator=torch.Generator().manual_seed(1))
        for name, tensor in trainable_tensors(workload.model).items()
    }
    save_model(tmp_path / "run" / "model", workload, tensors, plan)
    # On records that the task invents itself: others have no span
    assert export(tmp_path / "run", form, tmp_path / "exported", custom_tasks=[PATH]).exact


def test_what_a_task_itself_demands_is_told_wherever_records_are_read(tmp_path: Path) -> None:
    task = workload_of(plan_of(tmp_path, "full")).task
    told = "Column sentence: 1 texts without a [[span]]."
    assert task.check(RECORDS) == [told]
    with pytest.raises(DataError) as caught:
        task.encode(RECORDS)
    assert list(caught.value.problems) == [told]


def check(folder: Path, records: Dataset, target: str) -> int:
    records.to_pandas().to_csv(folder / "spans.csv", index=False)
    words = "task=text backbone=minilm task.labels=[drug,place] task.text_column=sentence"
    return data(["check", str(folder / "spans.csv"), *words.split(), f"task._target_={target}"])


def test_data_check_asks_a_task_of_ones_own(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert check(tmp_path, FIT, PATH) == 0
    assert check(tmp_path, RECORDS, PATH) == 1
    assert "problem: Column sentence: 1 texts without a [[span]]." in capsys.readouterr().out
    with pytest.raises(ConfigError, match=r"custom_spans\.Missing: AttributeError"):
        check(tmp_path, FIT, "custom_spans.Missing")


def test_an_exception_of_a_part_of_ones_own_is_told_with_its_line(tmp_path: Path) -> None:
    task = workload_of(plan_of(tmp_path, "full")).task
    task.opens = "["  # type: ignore[attr-defined]  # no number, as a mistake of one's own
    with pytest.raises(AttributeError) as caught:
        task.encode(FIT)
    own = unforeseen(caught.value)
    assert str(own).startswith(f"task._target_={PATH}: encode, line ")
    assert "custom_spans.py, raises AttributeError" in str(own)
    assert own.advice("run.log") == "The traceback is in run.log; correct that part of yours."
    with pytest.raises(ZeroDivisionError) as other:
        _ = 1 / len([])
    assert str(unforeseen(other.value)).startswith("unforeseen ZeroDivisionError")
