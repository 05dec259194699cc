"""Scores of many institutions' records at once are those of each by itself."""

import pytest
import torch
from builders import build_plan, build_records, workload_of

from confide.client.training.trainer import Trainer
from confide.models.networks import trainable_tensors
from confide.tasks.task import Examples

PLAN = build_plan()


def make_parts(trainer: Trainer, *sizes: int) -> list[Examples]:
    return [build_records(trainer.workload, train=size).train for size in sizes]


def test_scores_at_once_are_the_scores_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = Trainer(workload_of(PLAN), private=False)
    parts = make_parts(trainer, 3, 40, 300)
    start = trainable_tensors(trainer.workload.model)
    other = {name: tensor + 1 for name, tensor in start.items()}
    alone = [[trainer.scores(tensors, part) for part in parts] for tensors in (start, other)]
    runs: list[int] = []
    scores = trainer._scorer._scores

    def count(tensors: dict[str, torch.Tensor], examples: Examples) -> torch.Tensor:
        runs.append(len(examples))
        return scores(tensors, examples)

    monkeypatch.setattr(trainer._scorer, "_scores", count)
    with trainer.scoring_together(parts):
        for tensors, expected in zip((start, other), alone, strict=True):
            found = [trainer.scores(tensors, part) for part in parts]
            assert all(one.equal(two) for one, two in zip(found, expected, strict=True))
        assert runs == [343, 343]
        # Records that nobody named are scored by themselves.
        (stranger,) = make_parts(trainer, 5)
        assert len(trainer.scores(start, stranger)) == 5
    assert len(trainer.scores(start, parts[0])) == 3
    assert runs == [343, 343, 5, 3]


def test_nothing_is_scored_that_nobody_asks_for(monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = Trainer(workload_of(PLAN), private=False)

    def never(*_: object) -> torch.Tensor:
        raise AssertionError

    monkeypatch.setattr(trainer._scorer, "_scores", never)
    empty = make_parts(trainer, 3)[0]
    none = Examples({name: column[:0] for name, column in empty.columns.items()})
    with trainer.scoring_together([*make_parts(trainer, 3), none]):
        pass
    with trainer.scoring_together([none]):
        pass


def test_a_pass_that_breaks_off_leaves_no_scores(monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = Trainer(workload_of(PLAN), private=False)
    parts = make_parts(trainer, 3, 40)
    start = trainable_tensors(trainer.workload.model)
    other = {name: tensor + 1 for name, tensor in start.items()}
    expected, scores, calls = trainer.scores(other, parts[1]), trainer._scorer._scores, [0]

    def breaks(tensors: dict[str, torch.Tensor], examples: Examples) -> torch.Tensor:
        calls[0] += 1
        if calls[0] == 2:
            raise MemoryError
        return scores(tensors, examples)

    monkeypatch.setattr(trainer._scorer, "_scores", breaks)
    with trainer.scoring_together(parts):
        trainer.scores(start, parts[0])
        with pytest.raises(MemoryError):
            trainer.scores(other, parts[0])
        assert trainer.scores(other, parts[1]).equal(expected)
