"""Made-up populations: what an institution holds follows from the seed and its number alone."""

import numpy
import pytest

from confide.config.composing.compose import compose
from confide.config.data import DataConfig
from confide.config.generators.generator import GeneratorConfig
from confide.config.generators.linear import LinearGeneratorConfig
from confide.config.generators.logistic import LogisticGeneratorConfig
from confide.config.generators.synthetic import SyntheticConfig
from confide.config.generators.table import GENERATORS, read_generator
from confide.errors import ConfigError, DataError
from confide.privacy.keys import seeded_secret
from confide.simulations.generators.source import GeneratedSource, generated_source
from confide.simulations.population import partition_records

FIXED = {"num_records": 20}


def source_of(generator: GeneratorConfig, number: int = 5) -> GeneratedSource:
    return generated_source(
        DataConfig(
            path="",
            generator=generator,
            num_clients=number,
            partitioner="natural",
            partition_by="institution",
        )
    )


def features_of(source: GeneratedSource, index: int) -> numpy.ndarray:
    table = source.table(index)
    columns = [table[name].to_pylist() for name in source.config.feature_columns]
    return numpy.array(columns, dtype=float).T


@pytest.mark.parametrize("kind", sorted(GENERATORS))
def test_records_follow_from_seed_and_number_alone(kind: str) -> None:
    few, many = (source_of(GENERATORS[kind].schema(), number) for number in (3, 1_000_000))
    many.records(999_999)  # what was asked for before says nothing
    assert few.records(2).to_dict() == many.records(2).to_dict()
    assert few.records(1).to_dict() != few.records(2).to_dict()
    other = source_of(GENERATORS[kind].schema(seed=1))
    assert other.records(2).to_dict() != few.records(2).to_dict()


@pytest.mark.parametrize("kind", sorted(GENERATORS))
def test_the_number_of_records_is_told_without_making_them(kind: str) -> None:
    source = source_of(GENERATORS[kind].schema(least=7, most=90), 40)
    sizes = [source.num_records(i) for i in range(40)]
    assert [len(source.records(i)) for i in range(0, 40, 9)] == sizes[::9]
    assert min(sizes) >= 7
    assert max(sizes) == 90
    assert len(set(sizes)) > 10


def test_names_and_numbers_are_inverse_and_strangers_have_none() -> None:
    source = source_of(SyntheticConfig(), 1_000_000)
    assert source.index(source.name(999_999)) == 999_999
    names = list(map(source.name, (0, 8, 9, 98, 99, 999_999)))
    assert names == sorted(names)  # a cohort is drawn from sorted names
    for stranger in ("institution-0000000", "institution-1000001", "institution-1", "bank-1", "1"):
        with pytest.raises(KeyError):
            source.index(stranger)


def test_beta_is_how_far_records_lie_apart() -> None:
    near = source_of(SyntheticConfig(beta=0, **FIXED), 60)
    far = source_of(SyntheticConfig(beta=5, **FIXED), 60)
    # The mean over an institution's columns is B_k, of deviation beta, and noise of 1 / sqrt(60)
    means = [numpy.array([features_of(s, i).mean() for i in range(60)]) for s in (near, far)]
    assert means[0].std() == pytest.approx(60**-0.5, rel=0.4)
    assert means[1].std() == pytest.approx(5, rel=0.4)


def test_no_label_depends_on_alpha_as_the_paper_has_it() -> None:
    none, much = (source_of(SyntheticConfig(alpha=alpha, **FIXED)) for alpha in (0, 10))
    for index in range(5):
        assert none.records(index).to_dict() == much.records(index).to_dict()


def test_a_column_varies_as_the_paper_says() -> None:
    features = features_of(source_of(SyntheticConfig(num_records=1000)), 0)
    expected = numpy.arange(1, 61) ** -1.2
    assert features.var(axis=0) == pytest.approx(expected, rel=0.15)


def test_iid_institutions_share_one_model() -> None:
    # Where every record lies around 0, one linear model of the first fits the second as well
    source = source_of(SyntheticConfig(iid=True, num_records=3000))
    parts = [(features_of(source, i), source.records(i)["label"][:]) for i in range(2)]
    hits = [_score_of_first(parts), _score_of_first([parts[0], parts[0]])]
    assert hits[0] > 0.5
    assert hits[1] - hits[0] < 0.1
    own = source_of(SyntheticConfig(num_records=300), 20)
    parts = [(features_of(own, i), own.records(i)["label"][:]) for i in range(20)]
    assert numpy.mean([_score_of_first([parts[0], part]) for part in parts[1:]]) < 0.4


def _score_of_first(parts: list[tuple[numpy.ndarray, list[str]]]) -> float:
    """Fit classes of the first institution by least squares; return the hits at the second."""
    (x, labels), (other, truth) = parts
    targets = (numpy.array(labels, int)[:, None] == numpy.arange(10)).astype(float)
    fitted, *_ = numpy.linalg.lstsq(numpy.c_[x, numpy.ones(len(x))], targets, rcond=None)
    guess = (numpy.c_[other, numpy.ones(len(other))] @ fitted).argmax(axis=1)
    return float((guess == numpy.array(truth, int)).mean())


def test_a_shift_of_zero_is_one_model_for_all() -> None:
    source = source_of(LinearGeneratorConfig(shift=0, noise=0, **FIXED))
    fits = []
    for i in range(2):
        x, y = features_of(source, i), numpy.array(source.records(i)["label"][:], dtype=float)
        fits.append(numpy.linalg.lstsq(x, y, rcond=None)[0])
    assert fits[0] == pytest.approx(fits[1], abs=1e-3)
    assert numpy.linalg.norm(fits[0]) == pytest.approx(2.0, abs=1e-3)


def test_without_signal_classes_are_coins() -> None:
    source = source_of(LogisticGeneratorConfig(shift=0, signal=0, num_records=3000))
    assert numpy.mean([one == "1" for one in source.records(0)["label"]]) == pytest.approx(
        0.5, abs=0.03
    )


def test_settings_come_back_from_plain_values() -> None:
    generator = SyntheticConfig(alpha=0.5, num_records=7)
    assert read_generator(vars(generator)) == generator


@pytest.mark.parametrize("kind", sorted(GENERATORS))
def test_a_generator_alone_is_a_job(kind: str) -> None:
    config = compose([f"data.generator={kind}", "data.num_clients=7"])
    assert config.data.num_clients == 7
    assert config.data.is_public
    made = partition_records(config.data, task=config.task, secret=seeded_secret(0))
    source = generated_source(config.data)
    assert list(made.parts) == [source.name(i) for i in range(7)]
    for index in (0, 6):
        part = made.parts[source.name(index)]
        expected = zip(*(source.records(index)[name] for name in ("x0", "label")), strict=True)
        assert sorted(zip(part["x0"][:], part["label"][:], strict=True)) == sorted(expected)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["data.path=a.csv"], r"path='a.csv'.*leave these out"),
        (["data.partitioner=iid"], r"partitioner=iid.*each institution's records"),
        (["data.max_records=10"], r"max_records=10.*leave it out"),
        (["data.generator.most=5"], r"most=5 is below least=50; raise it"),
        (["data.generator.alpha=-1"], r"data\.generator\.alpha=-1.*expected >= 0"),
        (["data.generator.signal=1"], r"no setting data\.generator\.signal"),
    ],
)
def test_what_says_otherwise_is_refused(words: list[str], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        compose(["experiment=synthetic", *words])


def test_records_may_be_read_instead() -> None:
    config = compose(["experiment=synthetic", "data/generator=none", "data.path=a.csv"])
    assert config.data.generator is None
    assert (config.data.path, config.data.partition_by) == ("a.csv", None)


def test_a_generator_that_is_not_there_is_named() -> None:
    with pytest.raises(ConfigError, match="Choose one of: linear, logistic, none, synth"):
        compose(["data.generator=synthetik", "task=synthetic", "backbone=logistic", "tuning=full"])


def test_columns_that_nobody_makes_are_named() -> None:
    config = compose(["experiment=synthetic", "data/generator=logistic"])
    with pytest.raises(DataError, match="x59"):
        partition_records(config.data, task=config.task, secret=seeded_secret(0))
