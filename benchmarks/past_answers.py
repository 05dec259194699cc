"""What past answers of one's own add: ``python benchmarks/past_answers.py RUN [QUESTIONS]``.

RUN is one of ``confide simulate experiment=customer_service backbone.name=FOLDER``. Each of its
four banks has 100 past conversations. First the past answer to the nearest question is sent as it
is, to 40 new questions of each bank, beside any past answer. Then answers to fewer, 5 of each bank
unless QUESTIONS says otherwise, are written by the untrained and by the trained model, alone and
after the nearest past conversation: a CPU takes seconds for each. All are compared with those that
were made up: ROUGE-L on tokens, the share that is right word by word, and the share that is of the
right kind, of eight.
"""

import random
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pandas
import torch

from confide.inference.inputs import read_inputs
from confide.inference.language.past_answers import Nearest, answer_tokens
from confide.inference.prediction import predict_in_parts, read_past, score
from confide.inference.predictor import Predictor, find_model, load_predictor
from confide.models.compute import Compute
from confide.models.language.writing import WritingOptions
from confide.models.networks import trainable_tensors
from confide.models.saved import load_model, read_description, save_model
from confide.simulations.datasets.customer_service import conversations
from confide.tasks.outcomes.answer import rouge_l

PAST, SENT, QUESTIONS = 100, 40, 5
NEW_SEED = 1
Row = tuple[str, pandas.Series, float]
"""Where answers are from, the answers, and their ROUGE-L."""
Answers = Callable[[Predictor, pandas.DataFrame, pandas.DataFrame], Iterator[Row]]


def kind(answer: str) -> str:
    """Return the first words of an answer's body, which are each kind's own."""
    return " ".join(answer.partition("message. ")[2].split()[:2])


def untrained(run: Path, folder: Path) -> Path:
    """Save a run's model as it was before training: adapters begin as zero."""
    place = find_model(run)
    workload, _, _ = load_model(place, compute=Compute())
    tensors = {
        name: torch.zeros_like(tensor) if "lora_B" in name else tensor
        for name, tensor in trainable_tensors(workload.model).items()
    }
    save_model(folder / "model", workload, tensors, read_description(place).plan)
    return folder


def sent(predictor: Predictor, past: pandas.DataFrame, new: pandas.DataFrame) -> Iterator[Row]:
    """Yield past answers, the nearest and any."""
    shown = read_past(predictor, past)
    records = read_inputs(predictor, new).records
    labels = shown.task.encode(records).labels.tolist()
    known = [answer_tokens(row, shown.task.end_ids) for row in labels]
    nearest = shown.nearest(records)
    yield _row("the nearest past answer", nearest, known)
    draw = random.Random(0)
    drawn = [draw.randrange(len(shown.conversations)) for _ in known]
    anyone = [Nearest(shown.conversations[i], shown.tokens[i], 0.0) for i in drawn]
    yield _row("any past answer", anyone, known)


def _row(how: str, found: Sequence[Nearest], known: Sequence[Sequence[int]]) -> Row:
    rouge = sum(rouge_l(one.tokens, row) for one, row in zip(found, known, strict=True))
    answers = pandas.Series([one.conversation.answer for one in found])
    return how, answers, rouge / len(known)


def written(predictor: Predictor, past: pandas.DataFrame, new: pandas.DataFrame) -> Iterator[Row]:
    """Yield answers that a model writes."""
    inputs = read_inputs(predictor, new)
    shown = read_past(predictor, past)
    for how, one in (("alone", None), ("after the nearest past conversation", shown)):
        parts = list(predict_in_parts(predictor, inputs, WritingOptions(), one))
        frame = pandas.concat([part.frame for part in parts])
        yield how, frame["prediction"], score(predictor, parts)[0]["rouge_l"]


def measure(name: str, predictor: Predictor, count: int, answers: Answers) -> None:
    """Measure at all banks, and print."""
    made = conversations(4 * PAST), conversations(4 * count, NEW_SEED)
    rows = []
    for bank in sorted(set(made[0]["institution"])):
        past, new = (frame[frame["institution"] == bank].reset_index(drop=True) for frame in made)
        for how, found, rouge in answers(predictor, past, new):
            wanted = new["answer"].to_numpy()
            exact = (found.to_numpy() == wanted).mean()
            alike = (found.map(kind).to_numpy() == [kind(one) for one in wanted]).mean()
            rows.append({"how": how, "rouge_l": rouge, "exact": exact, "right kind": alike})
    table = pandas.DataFrame(rows).groupby("how", sort=False).mean().round(3)
    print(f"{name}, {4 * count} new questions:\n{table.to_string()}\n", flush=True)


def main() -> None:
    """Measure and print."""
    torch.set_num_threads(1)
    run, count = Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else QUESTIONS
    measure("sent as they are", load_predictor(run, compute=Compute()), SENT, sent)
    with tempfile.TemporaryDirectory() as folder:
        for name, place in (("untrained", untrained(run, Path(folder))), ("trained", run)):
            measure(name, load_predictor(place, compute=Compute()), count, written)


if __name__ == "__main__":
    main()
