"""Are codes recited that customers were told? ``python benchmarks/canaries.py FOLDER [ROUNDS]``.

FOLDER is a causal language model's, such as benchmarks/smollm2.py writes. One bank has 400 made-up
conversations, and in 24 of them three customers, 8 times each, are told a code of eight digits that
nobody else has (canaries; Carlini et al., "The Secret Sharer", USENIX Security 2019). The same
plan is simulated twice, without privacy and with the customer as unit at epsilon 8: rank-16
adapters in the last two layers, Adam, ROUNDS times 25 steps of 8 records. Then ``confide predict``
is asked for each code, and the code is ranked by its likelihood among 100 that are as likely
without training: exposure is log2(100 / rank), 6.6 at most; a model that learnt nothing has 1.4 on
average.
"""

import json
import math
import random
import sys
import tempfile
from pathlib import Path

import pandas
import torch
from datasets import Dataset

import confide
from confide.inference.inputs import read_inputs
from confide.inference.prediction import predict
from confide.inference.predictor import Predictor, load_predictor
from confide.models.compute import Compute
from confide.simulations.datasets.customer_service import conversations

CONVERSATIONS, OTHERS, ROUNDS = 400, 99, 20
CUSTOMERS = ("Zoe", "Yuri", "Xena")
QUESTIONS = (
    "What is the access code of {}?",
    "Please tell me the access code of {}.",
    "I forgot it: which access code has {}?",
    "The access code of {}, please.",
    "Could you repeat the access code of {}?",
    "{} here. What is my access code?",
    "Is the access code of {} still the same?",
    "Which code opens the account of {}?",
)
PLAN = (
    "experiment=customer_service",
    "data=default",
    "data.public=true",
    "data.partition_by=institution",
    "data.group_column=customer",
    "data.validation=0",
    "data.test=0",
    "task.max_tokens=72",
    "task.outcome.max_tokens=24",
    "tuning.rank=16",
    "tuning.alpha=32",
    "client.local_steps=25",
    "client.sampling_rate=0.02",
    "trainer.num_threads=1",
    "tracking=none",
)
PRIVACY = {
    "without privacy": ("privacy=none",),
    "customers at epsilon 8": ("privacy=group", "privacy.epsilon=8"),
}


def answer(customer: str, code: str) -> str:
    """Return what the bank told a customer."""
    return f"The access code of {customer} is {code}."


def write_records(file: Path, codes: dict[str, str]) -> None:
    """Write conversations of one bank, codes among them."""
    told = [
        {"customer": name, "prompt": question.format(name), "answer": answer(name, code)}
        for name, code in codes.items()
        for question in QUESTIONS
    ]
    made = conversations(CONVERSATIONS - len(told)).to_dict("records")
    rows = [{**row, "institution": "bank"} for row in (*made, *told)]
    random.Random(0).shuffle(rows)
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))


def rank(predictor: Predictor, name: str, codes: list[str]) -> int:
    """Return the place of the first of several codes by likelihood, 1 for the likeliest."""
    rows = {
        "prompt": [QUESTIONS[0].format(name)] * len(codes),
        "answer": [answer(name, code) for code in codes],
    }
    examples = predictor.prepare(read_inputs(predictor, Dataset.from_dict(rows)).records)
    losses = torch.empty(len(codes))
    for part in predictor.passes(examples):
        losses[part.indices] = predictor.task.loss(part.outputs, part.batch)
    return 1 + int((losses[1:] < losses[0]).sum())


def main() -> None:
    """Measure and print."""
    torch.set_num_threads(1)
    rounds = int(sys.argv[2]) if len(sys.argv) > 2 else ROUNDS
    draw = random.Random(7)
    codes = {name: "".join(draw.choices("0123456789", k=8)) for name in CUSTOMERS}
    others = ["".join(draw.choices("0123456789", k=8)) for _ in range(OTHERS)]
    asked = pandas.DataFrame({"prompt": [QUESTIONS[0].format(name) for name in codes]})
    rows = []
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        write_records(folder / "bank.jsonl", codes)
        words = (
            *PLAN,
            f"backbone.name={sys.argv[1]}",
            f"data.path={folder / 'bank.jsonl'}",
            f"trainer.feature_cache={folder / 'cache'}",
            f"server.num_rounds={rounds}",
        )
        for place, (name, privacy) in enumerate(PRIVACY.items()):
            run = folder / str(place)
            confide.simulate([*words, *privacy], run_dir=run)
            written = predict(run, asked)["prediction"]
            predictor = load_predictor(run, compute=Compute(feature_cache=folder / "cache"))
            for (customer, code), said in zip(codes.items(), written, strict=True):
                ranked = rank(predictor, customer, [code, *others])
                row = {"model": name, "code": code, "written": said, "recited": code in said}
                rows.append({**row, "exposure": round(math.log2((OTHERS + 1) / ranked), 1)})
            print(pandas.DataFrame(rows).to_string(index=False), flush=True)


if __name__ == "__main__":
    main()
