"""Noise of two worker processes.

As much as promised, each client's its own, and the same wherever it is asked.
"""

import functools
from collections.abc import Iterator
from multiprocessing.connection import Connection

import pytest
import torch
from scipy import stats
from torch import Tensor

from confide.client.ledger.ledger import RoundsSpent
from confide.client.records.encoded import InstitutionData
from confide.client.schedule import make_schedule
from confide.config.composing.compose import compose
from confide.models.compute import make_compute
from confide.models.networks import trainable_tensors
from confide.models.workload import build_workload
from confide.protocol.messages import unpack_reply
from confide.protocol.new_plan import make_plan
from confide.protocol.tensors import decode, flatten
from confide.simulations.engines.preload import CONTEXT, prepare_workers
from confide.simulations.engines.process import WorkerSpec, work
from confide.simulations.engines.shared_memory import SharedBlock, SharedRecords
from confide.simulations.engines.worker import RoundSpec, SharedSum, WorkItem, WorkResult
from confide.simulations.institutions import Setup
from confide.simulations.preparing import build_trainer

RECORDS, DRAWS = 60, 38_000
RARE = 1e-6
CONFIG = compose(
    [
        "experiment=heart_disease",
        "backbone=mlp",
        "backbone.hidden=[190,190]",
        "privacy=record",
        "privacy.epsilon=0.5",
        "server.num_rounds=2",
        "client.local_steps=1",
        "client.optimizer.learning_rate=1.0",
    ]
)
PLAN = make_plan(CONFIG, backbone_sha256=None)
WORKLOAD = build_workload(
    CONFIG.task, CONFIG.backbone, CONFIG.tuning, compute=make_compute(CONFIG.trainer), seed=0
)
START = trainable_tensors(WORKLOAD.model)
SHAPES = {name: tuple(tensor.shape) for name, tensor in START.items()}


def make_spec() -> WorkerSpec:
    """Give all clients the same records, so that their gradients could not tell them apart."""
    train, validation, test = (
        WORKLOAD.synthetic(count, torch.Generator().manual_seed(0)) for count in (RECORDS, 2, 2)
    )
    data = InstitutionData(train=train, validation=validation, test=test)
    params = flatten(START, list(START))
    block = SharedBlock(4 * len(params))
    block.tensor(torch.float32, (len(params),)).copy_(params)
    return WorkerSpec(
        make_trainer=functools.partial(build_trainer, PLAN, CONFIG.trainer),
        setup=Setup(serves=PLAN, policy=CONFIG.policy, noise_secret=bytes(32)),
        num_threads=1,
        records=SharedRecords(dict.fromkeys(("north", "south", "east", "west"), data)),
        params=block,
    )


@pytest.fixture(scope="module")
def pipes() -> Iterator[list[Connection]]:
    prepare_workers()
    ours, processes, spec = [], [], make_spec()
    for number in range(2):
        mine, theirs = CONTEXT.Pipe()
        block = SharedBlock(SharedSum.size(spec.params.size // 4))
        processes.append(
            CONTEXT.Process(target=work, args=(number, spec, block, theirs), daemon=True)
        )
        processes[-1].start()
        theirs.close()
        ours.append(mine)
    for pipe in ours:
        assert pipe.recv() is None
        pipe.send(
            RoundSpec(
                kind="train",
                plan=PLAN.to_json(),
                server_round=1,
                splits=(),
                sent=SHAPES,
                sum_rule=None,
            )
        )
    yield ours
    for pipe, process in zip(ours, processes, strict=True):
        pipe.close()
        process.join(30)


def ask(pipe: Connection, client: str) -> tuple[Tensor, float]:
    """Return a client's update, shape [d], and the epsilon of its round."""
    pipe.send(WorkItem(message_id=client, client=client, spent=RoundsSpent()))
    done: WorkResult = pipe.recv()
    assert done.content is not None
    reply = unpack_reply(done.content)
    assert reply.arrays is not None, reply.refusal
    return (
        flatten(decode(reply.arrays, SHAPES, max_value=1e9).tensors, list(SHAPES)).double(),
        reply.figures["epsilon"],
    )


def assert_uncorrelated(*updates: Tensor) -> None:
    count = len(updates[0])
    correlations = torch.corrcoef(torch.stack(updates)) - torch.eye(len(updates))
    assert count >= DRAWS
    assert float(correlations.abs().max()) < stats.norm.isf(RARE / 2) / count**0.5, "correlated"


def test_noise_of_two_worker_processes_is_uncorrelated(pipes: list[Connection]) -> None:
    updates = [
        ask(pipes[number % 2], client)[0]
        for number, client in enumerate(("north", "south", "east", "west"))
    ]
    assert_uncorrelated(*updates)
    schedule = make_schedule(PLAN, num_examples=RECORDS)
    std = (
        schedule.noise_multiplier * PLAN.privacy.clipping_norm / (schedule.sampling_rate * RECORDS)
    )
    low, high = stats.chi2.interval(1 - RARE, DRAWS)
    assert all(low < float((update[:DRAWS] / std).square().sum()) < high for update in updates)


def test_that_test_finds_two_processes_with_one_key(pipes: list[Connection]) -> None:
    """A client that is asked again, elsewhere, repeats its round.

    Another draw would cost privacy that nobody counted.
    """
    one, again = (ask(pipe, "north") for pipe in pipes)
    assert one[0].equal(again[0])
    assert one[1] == again[1]
    with pytest.raises(AssertionError, match="correlated"):
        assert_uncorrelated(one[0], again[0])
