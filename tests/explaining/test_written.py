"""What was written, given to the model again: its pieces, and how likely each of them is."""

from pathlib import Path

import pytest
import torch
from explained_models import invented, save_plan
from small_language_models import TASK as CHAT
from small_language_models import make_language_model
from small_seq2seq import RECORDS, TASK, make_seq2seq

from confide.explaining.attribution import Pieces, attribute
from confide.explaining.case import Case
from confide.explaining.kinds.conversations import Conversations
from confide.explaining.kinds.sources import Sources
from confide.explaining.methods.table import METHODS
from confide.explaining.network import Network
from confide.explaining.target import target_fn
from confide.explaining.written import Runs, pieces_of
from confide.inference.predictor import Predictor
from confide.models.language.writing import WritingOptions
from confide.tasks.outcomes.text import written_tokens
from confide.tasks.task import LABELS


@pytest.fixture(scope="module")
def predictor(tmp_path_factory: pytest.TempPathFactory) -> Predictor:
    folder = tmp_path_factory.mktemp("texts")
    return save_plan(folder, TASK, make_seq2seq(folder / "tiny"), "lora")


@pytest.fixture(scope="module")
def case(predictor: Predictor) -> Case:
    return Sources(predictor, Network(predictor), "padding").case(RECORDS.select([1]))


def pieces(case: Case, predictor: Predictor, method: str) -> Pieces:
    with torch.no_grad():
        outputs = case.outputs_fn(case.inputs)
    target = target_fn(predictor)(predictor, outputs, case.batch, None)
    found = attribute(case, target.score_fn, method).pieces
    assert found is not None
    return found


def test_what_is_explained_is_what_the_model_writes_by_itself_and_likeliest(
    predictor: Predictor, case: Case
) -> None:
    (written,) = written_tokens(predictor.outputs(RECORDS.select([1])))
    assert case.batch[LABELS][0].tolist() == written
    batch = predictor.task.encode(RECORDS.select([1])).take(torch.tensor([0]))
    assert len(case.units) == int(batch["attention_mask"].sum()) - 1
    with torch.no_grad():
        told = case.outputs_fn(case.inputs)[0]
    assert told.shape == (len(written),)
    # Of 273 words the likeliest has at least a share of one in as many
    assert bool((told.exp() >= 1 / 273).all())


@pytest.mark.parametrize("method", METHODS)
def test_pieces_are_attributed_by_every_method_and_their_sum_is_the_record(
    method: str, case: Case, predictor: Predictor
) -> None:
    found = pieces(case, predictor, method)
    count = len(case.batch[LABELS][0])
    assert found.values.shape == (count, len(case.units))
    if METHODS[method].adds_up:
        assert torch.allclose(found.values.sum(dim=1), found.differences, atol=0.05)
    with torch.no_grad():
        outputs = case.outputs_fn(case.inputs)
    second = target_fn(predictor)(predictor, outputs, case.batch, "2")
    alone = attribute(case, second.score_fn, method)
    assert alone.pieces is None
    assert torch.allclose(alone.values, found.values[1], atol=0.05)


def test_errors_of_pieces_do_not_make_up_for_each_other(case: Case, predictor: Predictor) -> None:
    with torch.no_grad():
        outputs = case.outputs_fn(case.inputs)
    target = target_fn(predictor)(predictor, outputs, case.batch, None)
    found = attribute(case, target.score_fn, "integrated_gradients")
    assert found.pieces is not None
    before = found.error
    found.pieces.values[0, 0] += 100
    found.pieces.values[1, 0] -= 100
    assert found.error > before + 1


def test_units_of_a_conversation_are_what_was_said_and_not_the_template(tmp_path: Path) -> None:
    predictor = save_plan(tmp_path, CHAT, make_language_model(tmp_path / "tiny"), "lora")
    record = invented(predictor).select([0])
    case = Conversations(predictor, Network(predictor), "padding").case(record)
    text = record[0]["prompt"]
    names = [unit.name.split(" (")[0] for unit in case.units]
    assert len(names) == len(text)
    assert [name for name in names if name != "Ġ"] == list(text.replace(" ", ""))
    assert predictor.writer is not None
    (written,) = predictor.writer.write(record, WritingOptions())
    assert case.batch[LABELS][0].tolist() == written


def test_frames_of_a_word_are_those_of_its_characters() -> None:
    path = torch.tensor([0, 2, 2, 0, 2, 1, 3, 0, 0])  # aa of three frames, a blank, b
    outputs = torch.nn.functional.one_hot(path, 4).float()
    runs = Runs(outputs, " ab")
    assert runs.text == "aa b"
    told = runs.log_probabilities(outputs[None])[0]
    one = float(outputs.log_softmax(dim=-1).max())
    assert told.tolist() == pytest.approx([3 * one, one])


def test_a_single_word_is_explained_by_characters_and_nothing_by_all_frames() -> None:
    word = torch.nn.functional.one_hot(torch.tensor([0, 1, 2, 2]), 3).float()
    runs = Runs(word, "ab")
    assert pieces_of(runs.text) == ["a", "b"]
    assert runs.log_probabilities(word[None]).shape == (1, 2)
    silence = torch.nn.functional.one_hot(torch.tensor([0, 0, 0]), 3).float()
    runs = Runs(silence, "ab")
    assert runs.text == ""
    one = float(silence.log_softmax(dim=-1).max())
    assert runs.log_probabilities(silence[None]).tolist() == [pytest.approx([3 * one])]
