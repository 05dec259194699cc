"""The wire format, bit by bit: what two releases send each other would not fit otherwise.

Masks would not cancel, boxes not open, signatures not hold. Whoever changes a value here changes
``LABEL`` as well, so that no release takes another's for its own.
"""

import hashlib

import numpy
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from confide.secure_aggregation import adverts
from confide.secure_aggregation.adverts import Advert, shared_secret
from confide.secure_aggregation.context import SumContext
from confide.secure_aggregation.keys import LABEL
from confide.secure_aggregation.masks import add_mask
from confide.secure_aggregation.secrets import commitments_of, seal, secrets_of
from confide.secure_aggregation.survivors import key_to_text, sign_survivors, signed_survivors

NAMES = ("a", "b", "ç")
KEYS = {
    name: X25519PrivateKey.from_private_bytes(bytes([place + 1]) * 32)
    for place, name in enumerate(NAMES)
}
SIGNER = ec.derive_private_key(20, ec.SECP384R1())


def advert(name: str) -> Advert:
    return Advert(
        name=name,
        num_examples=10,
        noise_multiplier=1.5,
        sampling_rate=0.25,
        public_key=KEYS[name].public_key().public_bytes_raw(),
        certificate=b"",
    )


def context(bits: int = 64) -> SumContext:
    return SumContext(
        job="job",
        server_round=3,
        question="question",
        cohort=tuple(advert(name) for name in NAMES),
        threshold=2,
        scale_bits=40,
        length=5,
        bits=bits,
    )


def sha256(*parts: bytes) -> str:
    return hashlib.sha256(b"".join(parts)).hexdigest()[:32]


def test_label() -> None:
    assert LABEL == b"confide-sum-v1"


@pytest.mark.parametrize(
    ("bits", "digest", "words", "boxes", "commitments"),
    [
        (
            64,
            "9da72a3a2f5a017cbddd198abb305bff",
            "fb413960f250da6817aa1c14ae34f345",
            "e1917d42d1c0ae3983aa14ed52743089",
            "206acd5a4e70449dcbd738242d6d9564",
        ),
        (
            32,
            "71b0628cd255997d0eaa10710080adc1",
            "1361b36b2015cfed92524c4ffb08fbda",
            "e04569ddf3b4092f521386b178ff8e38",
            "3d03ef9feb291f461bdb1f1b93a88724",
        ),
    ],
)
def test_what_an_institution_sends(
    bits: int, digest: str, words: str, boxes: str, commitments: str
) -> None:
    about, key = context(bits), KEYS["b"].private_bytes_raw()
    shared = {name: shared_secret(KEYS["b"], advert(name)) for name in ("a", "ç")}
    secrets = secrets_of(about, "b", key, shared)
    vector = numpy.zeros(5, dtype=f"<u{bits // 8}")
    for secret in (secrets.own, *secrets.pairs.values()):
        add_mask(vector, secret)
    sealed = seal(about, "b", secrets, key, shared)
    assert sha256(about.digest) == digest
    assert sha256(vector.tobytes()) == words
    assert sha256(*(sealed[name] for name in NAMES)) == boxes
    assert sha256(commitments_of(about, "b", secrets)) == commitments


def test_masks_by_another_implementation() -> None:
    """AES-256-CTR from zero under SHA-256 of label and secret, as `openssl enc` gives it."""
    words = numpy.zeros(3, dtype=numpy.uint64)
    add_mask(words, 5)
    assert words.tolist() == [2945702484755144465, 16754648564132644925, 6010582761298306170]
    halves = numpy.zeros(6, dtype=numpy.uint32)
    add_mask(halves, 5)
    assert halves.tobytes() == words.tobytes()


def test_what_an_institution_signs() -> None:
    signed = signed_survivors(bytes(range(32)), ["ç", "a"])
    assert signed == (
        b'confide-sum-v1/survivors/["000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e'
        b'1f",["a","\\u00e7"]]'
    )
    assert adverts._signed(advert("ç"), "job") == (
        b'confide-sum-v1/advert/["job", "\\u00e7", 10, 1.5, 0.25, "'
        + advert("ç").public_key.hex().encode()
        + b'"]'
    )
    assert sha256(sign_survivors(SIGNER, bytes(32), ["a"])) == "ac506c6bd0d3f53b9babb8d45cbcf3a4"
    assert key_to_text(SIGNER.public_key()) == (
        "03605508ec02c534bceee9484c86086d2139849e2b11c1a9ca1e2808dec2eaf161ac8a105d70d4f85c50599be5800a623f"
    )


def test_an_advert_as_text() -> None:
    assert sha256(advert("ç").to_text().encode()) == "fa09a95f123ce137d547b961b2461368"
