"""Made-up customer service conversations of four banks: ``data=customer_service``."""

import random

import pandas

_NAMES = ("Ann", "Ben", "Cleo", "Dara", "Eli", "Fay", "Gus", "Hana", "Ian", "Jo", "Kim", "Lou")
_CITIES = ("Rome", "Oslo", "Lyon", "Bern", "Cork", "Graz", "Kiel", "Lodz", "Pisa", "Turku")
_CARDS = ("debit card", "credit card", "travel card")
_TOPICS = {
    "lost": (
        ("I lost my {card} in {city}, what now?", "My {card} was stolen in {city}."),
        "We have blocked your {card}. A new one reaches you within {days} working days.",
    ),
    "fee": (
        ("Why did you charge me {sum} euros?", "There is a fee of {sum} euros on my statement."),
        "The fee of {sum} euros is for your {card}. We have credited it to your account.",
    ),
    "transfer": (
        ("My transfer of {sum} euros to {city} has not arrived.", "Where are my {sum} euros?"),
        "Transfers take up to {days} working days. Please write to us again if yours takes longer.",
    ),
    "limit": (
        ("Can you raise the limit of my {card} to {sum} euros?", "My {card} limit is too low."),
        "You can change the limit of your {card} in the app under Settings, up to {sum} euros.",
    ),
    "branch": (
        ("When does the branch in {city} open?", "Is your branch in {city} open on Saturday?"),
        "Our branch in {city} is open from nine to five on weekdays. Saturdays are by appointment.",
    ),
    "address": (
        ("I am moving to {city}, what do you need?", "How do I change my address to {city}?"),
        "Please enter your address in {city} in the app under Profile, and confirm it by code.",
    ),
    "app": (
        ("The app shows error {sum}.", "I cannot log in, the app says code {sum}."),
        "Please update the app and restart your phone. Error {sum} is gone after {days} minutes.",
    ),
    "loan": (
        ("How long does a loan of {sum} euros take?", "Can I borrow {sum} euros?"),
        "We decide on a loan of {sum} euros within {days} working days of your application.",
    ),
}
_OPENING = "Dear {name}, thank you for your message."
_CLOSINGS = {
    "bank_a": "Kind regards, your service team",
    "bank_b": "Best wishes from all of us at the bank",
    "bank_c": "Is there anything else we can do for you?",
    "bank_d": "Yours sincerely, customer care",
}


def conversations(count: int = 500, seed: int = 0) -> pandas.DataFrame:
    """Return conversations, of each bank as many; customers of each ask about unlike things.

    Args:
        count: of all banks.
        seed: of what is drawn.

    Returns:
        Columns institution, customer, prompt and answer.
    """
    draw, banks = random.Random(seed), list(_CLOSINGS)
    return pandas.DataFrame(
        [_conversation(banks[place % len(banks)], draw) for place in range(count)]
    )


def _conversation(bank: str, draw: random.Random) -> dict[str, str]:
    """Invent one conversation of a bank."""
    # Each bank's customers ask mostly about three things
    first = list(_CLOSINGS).index(bank) * 2
    topics = list(_TOPICS)
    mostly = [topics[(first + place) % len(topics)] for place in range(3)]
    questions, body = _TOPICS[draw.choice(mostly if draw.random() < 0.8 else topics)]
    slots = {
        "card": draw.choice(_CARDS),
        "city": draw.choice(_CITIES),
        "days": draw.choice(("two", "three", "five", "ten")),
        "sum": str(draw.randrange(10, 990)),
        "name": draw.choice(_NAMES),
    }
    answer = " ".join((_OPENING, body, _CLOSINGS[bank])).format(**slots)
    question = f"{draw.choice(questions)} {slots['name']}".format(**slots)
    customer = f"{bank}-{slots['name']}-{draw.randrange(40)}"
    return {"institution": bank, "customer": customer, "prompt": question, "answer": answer}


__all__ = ["conversations"]
