"""Simulated institutions with keys of their own: what they have, and what does not go with it."""

import pickle
from dataclasses import replace
from pathlib import Path

import numpy
import pytest
from cryptography import x509

from confide.client.secure_sums.seat import Seat
from confide.client.secure_sums.taking_part import TakingPart
from confide.config.composing.compose import compose
from confide.errors import ConfigError
from confide.secure_aggregation.adverts import Advert, verify
from confide.secure_aggregation.context import SumContext
from confide.server.secure_sums.collector import MaskedSum
from confide.simulations.secure_sums import SimulatedSums

NAMES = ("anna", "bert", "carl")
SECRET, OTHER = bytes(32), bytes([1]) * 32
REAL = ("aggregation=secure", "aggregation.simulated=real")
HEART = ("experiment=heart_disease",)


def seat(part: TakingPart, job: str = "job") -> Seat:
    return part.seat(job, num_examples=7, noise_multiplier=0.0, sampling_rate=1.0)


def advert(part: TakingPart, job: str = "job") -> Advert:
    return seat(part, job).advert


def keys(sums: SimulatedSums, job: str = "job") -> list[bytes]:
    return [advert(sums.taking_part(name), job).public_key for name in NAMES]


def test_every_worker_has_the_same_keys_and_certificates() -> None:
    sums = SimulatedSums.make(NAMES, secret=SECRET)
    sent: SimulatedSums = pickle.loads(pickle.dumps(sums))
    for name in NAMES:
        assert advert(sent.taking_part(name)) == advert(sums.taking_part(name))


def test_a_later_process_has_the_same_keys_and_trusts_the_certificates_of_the_earlier() -> None:
    before, after = (SimulatedSums.make(NAMES, secret=SECRET) for _ in range(2))
    for name in NAMES:
        was, now = (advert(sums.taking_part(name)) for sums in (before, after))
        assert was.stated == now.stated
        assert was.signature == now.signature
        key = verify(was, "job", x509.load_der_x509_certificate(after.authority))
        assert key == after.taking_part(name).identity.key.public_key()


def test_a_later_process_opens_what_an_earlier_one_masked(tmp_path: Path) -> None:
    before, after = (SimulatedSums.make(NAMES, secret=SECRET, folder=tmp_path) for _ in range(2))
    masking = {name: seat(before.taking_part(name)) for name in NAMES}
    context = SumContext(
        job="job",
        server_round=1,
        question="",
        cohort=tuple(one.advert for one in masking.values()),
        threshold=2,
        scale_bits=0,
        length=5,
    )
    under_way = MaskedSum(context=context)
    for name, one in masking.items():
        masked = one.mask(context, numpy.arange(5) - len(name), name)
        under_way.add(name, masked.vector, masked.boxes, masked.commitments)
    alive = under_way.close()
    opening = {name: seat(after.taking_part(name)) for name in NAMES[1:]}
    shares = {
        name: one.unmask(context, alive, under_way.boxes_for(name)).shares
        for name, one in opening.items()
    }
    assert numpy.array_equal(under_way.open(shares), 3 * numpy.arange(5) - 12)


def test_keys_are_of_one_institution_job_and_secret() -> None:
    sums = SimulatedSums.make(NAMES, secret=SECRET)
    others = SimulatedSums.make(NAMES, secret=OTHER)
    again = replace(sums, draw=1)
    made = [*keys(sums), *keys(sums, "another"), *keys(others), *keys(again)]
    assert len(set(made)) == len(made)
    signers = {
        part.taking_part(name).identity.key.private_numbers().private_value
        for part in (sums, others)
        for name in NAMES
    }
    assert len(signers) == 2 * len(NAMES)


def test_a_name_that_no_certificate_has_room_for_is_refused() -> None:
    with pytest.raises(ConfigError, match="a certificate has room for 64 bytes"):
        SimulatedSums.make(["é" * 33], secret=SECRET)
    assert SimulatedSums.make(["é" * 32], secret=SECRET).certificates.keys() == {"é" * 32}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["simulation.engine=vectorised"], "each institution masks its own update"),
        (["simulation.on_demand=true"], "a key and a certificate, made beforehand"),
        (["simulation/delays=uniform"], "not in virtual time"),
        (["simulation.attack.kind=sign_flip"], "masked ones are not seen there"),
    ],
)
def test_what_masks_do_not_go_with_is_refused(words: list[str], message: str) -> None:
    plain = ("aggregation=secure",)
    with pytest.raises(ConfigError, match=message):
        compose([*HEART, *REAL, *words])
    compose([*HEART, *plain, *words])


def test_more_institutions_than_masks_are_for_are_refused() -> None:
    words = ("task=tweets", "data=tweets", "data.partitioner=iid", "data.num_clients=101")
    with pytest.raises(ConfigError, match="for at most 100 institutions"):
        compose([*words, *REAL])
    compose([*words, "aggregation=secure"])


def test_baselines_are_not_trained_where_masks_are_required() -> None:
    required = (*HEART, *REAL, "policy.secure.required=true")
    assert compose(required).baselines == ()
    with pytest.raises(ConfigError, match="their plans have no masks"):
        compose([*required, "simulation.baselines=[local]"])


@pytest.mark.parametrize("words", [(), ("aggregation=secure",)])
def test_nobody_leaves_where_no_sum_is_opened(words: tuple[str, ...]) -> None:
    leaves = "simulation.faults=[{kind: leaves, client: cleveland}]"
    with pytest.raises(ConfigError, match="nobody is asked to open a sum"):
        compose([*HEART, *words, leaves])
    compose([*HEART, *REAL, leaves])
