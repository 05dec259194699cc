"""What SuperLink could not carry is refused before anybody is asked."""

from dataclasses import replace

import pytest
from builders import build_plan, workload_of

from confide.config.models.perceptrons import LogisticConfig
from confide.config.strategies.codecs import Bf16Config
from confide.errors import ConfigError
from confide.models.networks import trainable_tensors
from confide.protocol.masked_sums import MaskedSums
from confide.protocol.plan import TrainingPlan
from confide.protocol.tensors import num_bytes
from confide.server.deployment.coordinate import check_payload

PLAN = build_plan(backbone=LogisticConfig())
WORKLOAD = workload_of(PLAN)
MODEL_MIB = num_bytes(trainable_tensors(WORKLOAD.model)) / 2**20
HALF = replace(PLAN, upload=Bf16Config(), download=Bf16Config())


@pytest.mark.parametrize(
    ("plan", "models"),
    [
        (PLAN, 1),
        (HALF, 1),  # the kept model is scored as it is
        (replace(PLAN, sums=MaskedSums(bits=32, max_value=8.0)), 1),
        (replace(PLAN, sums=MaskedSums(bits=64, max_value=8.0)), 2),
    ],
    ids=["plain", "coded", "words of 32 bits", "words of 64 bits"],
)
def test_an_update_counts_as_it_travels(plan: TrainingPlan, models: int) -> None:
    check_payload(WORKLOAD, plan, models * MODEL_MIB)
    with pytest.raises(ConfigError, match=r"server\.max_payload_mb="):
        check_payload(WORKLOAD, plan, 0.999 * models * MODEL_MIB)
