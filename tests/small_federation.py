"""Twelve clients with made-up rows, behind any engine."""

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import torch

from confide.client.records.encoded import InstitutionData
from confide.client.training.trainer import Trainer
from confide.config.composing.compose import compose
from confide.config.run import Config
from confide.models.compute import make_compute
from confide.models.networks import trainable_tensors
from confide.models.workload import build_workload
from confide.protocol.messages import Evaluation
from confide.protocol.new_plan import make_plan
from confide.server.rounds.outcome import Outcome
from confide.server.rounds.state import RunState
from confide.simulations.engines.engine import Engine
from confide.simulations.engines.inline import InlineEngine
from confide.simulations.engines.pool_engine import PoolEngine
from confide.simulations.engines.process import process_engine
from confide.simulations.engines.shared_memory import SharedRecords
from confide.simulations.federation import Federation
from confide.simulations.institutions import Setup
from confide.simulations.preparing import build_trainer
from confide.strategies.build import build_strategy

HEART = ("experiment=heart_disease", "simulation.baselines=[]")
NUM_CLIENTS = 12


@dataclass
class Spy:
    """An observer that does something after each round."""

    after: Callable[[int], None] = lambda server_round: None
    rounds: list[int] = field(default_factory=list)

    def started(self, clients: Mapping[str, int]) -> None:
        pass

    def resumed(self, state: RunState) -> None:
        pass

    def round_done(self, state: RunState) -> None:
        self.rounds.append(state.server_round)
        self.after(state.server_round)

    def evaluated(
        self, split: str, server_round: int, evaluations: Mapping[str, Evaluation]
    ) -> None:
        pass


class Small:
    """Twelve clients with made-up rows, behind either engine."""

    def __init__(self, *overrides: str) -> None:
        quick = ("server.num_rounds=4", "client.local_steps=20", "server.round_timeout_s=60")
        self.config: Config = compose([*HEART, *quick, *overrides])
        self.plan = make_plan(self.config, backbone_sha256=None)
        config = self.config
        self.workload = build_workload(
            config.task,
            config.backbone,
            config.tuning,
            compute=make_compute(config.trainer),
            seed=0,
        )
        generator = torch.Generator().manual_seed(0)
        rows = functools.partial(self.workload.synthetic, generator=generator)
        self.data = {
            f"client-{n:02}": InstitutionData(train=rows(30 + n), validation=rows(8), test=rows(8))
            for n in range(NUM_CLIENTS)
        }
        self.trainer = Trainer(self.workload, private=self.plan.private)
        self.initial = trainable_tensors(self.workload.model)
        self.setup = Setup(serves=self.plan, policy=self.config.policy, noise_secret=bytes(32))

    def inline(self) -> InlineEngine:
        return InlineEngine(
            self.data,
            trainer=self.trainer,
            setup=Setup(serves=self.plan, policy=self.config.policy, noise_secret=bytes(32)),
        )

    def processes(self, workers: int) -> PoolEngine:
        return process_engine(
            SharedRecords(self.data),
            make_trainer=functools.partial(build_trainer, self.plan, self.config.trainer),
            initial=self.initial,
            setup=self.setup,
            workers=workers,
        )

    def federation(self, engine: Engine) -> Federation:
        return Federation(
            data=self.data,
            trainer=self.trainer,
            initial=self.initial,
            secret=bytes(32),
            engine=engine,
        )

    def run(self, engine: Engine, spy: Spy | None = None) -> Outcome:
        federation, algorithm = self.federation(engine), build_strategy(self.config.strategy)
        job = federation.job(algorithm, self.plan, self.config.server)
        return federation.run(replace(job, observers=[spy] if spy else []))
