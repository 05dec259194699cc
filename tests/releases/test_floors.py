"""What leaves without noise: nothing of fewer units than the floor, and nothing that tells it."""

import itertools

import numpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from release_records import encoded, question

from confide.encodings.cells import CELLS, WIDE_CELLS, WIDE_STARTS, grid
from confide.releases.figures import Partition, partitions
from confide.releases.floors import AS_BEFORE, HIDDEN, Support, floored_counts, spread
from confide.releases.quantiles import COUNTS
from confide.releases.release import Floats, Sums
from confide.releases.statistics import BOTH, FIGURE_COUNTS, MOMENTS, PRODUCTS
from confide.releases.table import RELEASES

FLOOR = 10
AGE, SEX, TSH, WARD, ILL = partitions(question().task)


def told(part_cells: list[int], part: object, groups: list[int] | None = None) -> Floats:
    cells = numpy.array(part_cells)
    owners = None if groups is None else numpy.array(groups)
    return floored_counts(part, cells, Support(owners=owners, least=FLOOR))  # type: ignore[arg-type]


def known(counts: Floats) -> float:
    return float(counts.clip(min=0).sum())


def rows(count: int, **columns: list[str]) -> dict[str, list[str]]:
    plain = {
        "age": [str(20 + i % 60) for i in range(count)],
        "sex": ["fm"[i % 2] for i in range(count)],
        "tsh": [str(1 + i % 3) for i in range(count)],
        "ward": ["ab"[i % 2] for i in range(count)],
        "ill": [["no", "yes"][i % 2] for i in range(count)],
    }
    return {**plain, **columns}


def released(
    raw: dict[str, list[str]], groups: list[int] | None = None, floor: int = FLOOR
) -> Sums:
    plan = question()
    exact_fn = RELEASES["statistics"].exact_fn
    assert exact_fn is not None
    return exact_fn(plan, encoded(plan, raw, groups), floor)


# --- categories and labels


def test_a_small_category_takes_another_with_it() -> None:
    """The total is public: one that is kept back alone would follow from it."""
    counts = told([0] * 200 + [1] * 40 + [2] * 3, WARD)
    assert counts.tolist() == [200, HIDDEN, HIDDEN, 0]
    counts = told([0] * 95 + [1] * 3, ILL)
    assert counts.tolist() == [HIDDEN, HIDDEN]


def test_several_small_categories_that_are_enough_together_take_none() -> None:
    assert told([0] * 80 + [1] * 8 + [2] * 5, WARD).tolist() == [80, HIDDEN, HIDDEN, 0]


def test_that_all_have_one_label_is_not_told() -> None:
    assert told([1] * 50, ILL).tolist() == [HIDDEN, HIDDEN]


def test_a_few_missing_values_are_kept_back_with_a_category() -> None:
    counts = told([0] * 60 + [1] * 30 + [3] * 4 + [2] * 40, WARD)
    assert counts.tolist() == [60, HIDDEN, 40, HIDDEN]


def test_large_categories_are_told() -> None:
    assert told([0] * 60 + [1] * 30 + [2] * 10, WARD).tolist() == [60, 30, 10, 0]


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 3), min_size=1, max_size=120), st.integers(1, 6))
def test_no_category_and_no_rest_is_small(cells: list[int], owners: int) -> None:
    groups = [i // owners for i in range(len(cells))]
    counts, array, who = told(cells, WARD, groups), numpy.array(cells), numpy.array(groups)
    considered = [0, 1, 2] if (array != 3).all() else [0, 1, 2, 3]
    shown = [cell for cell in considered if counts[cell] != HIDDEN]
    hidden = [cell for cell in considered if counts[cell] == HIDDEN]
    for cell in shown:
        assert counts[cell] == (array == cell).sum()
        assert len(set(who[array == cell])) >= FLOOR
    if shown and hidden:
        assert len(set(who[numpy.isin(array, hidden)])) >= FLOOR
    if hidden:
        assert len(hidden) > 1


# --- histograms


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, WIDE_CELLS), min_size=1, max_size=150))
def test_no_cell_of_a_histogram_and_no_rest_is_small(cells: list[int]) -> None:
    counts, array = told(cells, AGE), numpy.array(cells)
    missing, total = int((array == WIDE_CELLS).sum()), len(cells)
    shown = counts[counts >= 0]
    assert all(count >= FLOOR or count == 0 == missing for count in shown)
    assert all(count == 0 or count >= FLOOR for count in shown)
    rest = total - known(counts)
    assert rest == 0 or rest >= FLOOR or known(counts) == 0
    if 0 < missing < FLOOR:
        assert counts[-1] == HIDDEN
        assert known(counts) in (0, total)  # the histogram's sum does not tell their number
    if 0 < total - missing < FLOOR:
        assert (counts == HIDDEN).all()
    # A run begins with its count
    assert counts[0] != AS_BEFORE


def test_cells_are_merged_with_their_neighbours() -> None:
    cells = [14] * 30 + [20] * 4 + [21] * 7 + [25] * 12 + [26] * 2
    counts = told(cells, AGE)
    assert counts[counts >= 0].tolist() == [30, 11, 14, 0]


# --- moments and pairs


def moments_of(sums: Sums) -> Floats:
    return sums[MOMENTS].sum(axis=-1)


def test_exact_sums_are_exact() -> None:
    sums = released(rows(200))
    ages = numpy.array([20 + i % 60 for i in range(200)]) / 50 - 1
    assert moments_of(sums)[0] == pytest.approx([200, ages.sum(), (ages**2).sum()], abs=1e-4)
    assert known(sums[FIGURE_COUNTS][ILL.place]) == 200


@pytest.mark.parametrize("missing", [1, 9])
def test_a_few_missing_values_take_the_moments_with_them(missing: int) -> None:
    """A mean of whole numbers to many digits gives the number of values away."""
    raw = rows(200)
    raw["age"][:missing] = [""] * missing
    sums = released(raw)
    assert moments_of(sums)[0].tolist() == [HIDDEN, 0, 0]
    assert sums[PRODUCTS].sum(axis=-1)[0].tolist() == [0, 0, 0, HIDDEN, 0, 0]
    assert 200 - missing not in sums[FIGURE_COUNTS]
    assert missing not in sums[FIGURE_COUNTS]


@pytest.mark.parametrize("missing", [0, 10, 190, 200])
def test_nothing_or_enough_missing_is_told(missing: int) -> None:
    raw = rows(200)
    raw["age"][:missing] = [""] * missing
    counts = released(raw)[FIGURE_COUNTS][AGE.place]
    assert counts[-1] == missing
    assert known(counts) == 200


def test_a_few_values_are_not_told_of_at_all() -> None:
    raw = rows(200)
    raw["age"][4:] = [""] * 196
    sums = released(raw)
    assert (sums[FIGURE_COUNTS][AGE.place] == HIDDEN).all()
    assert moments_of(sums)[0].tolist() == [HIDDEN, 0, 0]


def test_a_pair_with_a_few_that_have_one_value_alone_is_kept_back() -> None:
    """Both columns tell their sums: what few of them lack the other would be a difference."""
    raw = rows(200)
    raw["age"][:20] = [""] * 20
    raw["tsh"][5:25] = [""] * 20
    sums = released(raw)
    assert (moments_of(sums)[:, 0] == 180).all()
    assert sums[PRODUCTS].sum(axis=-1)[0, BOTH] == HIDDEN
    raw["tsh"] = [*[""] * 20, *raw["tsh"][25:], *["2"] * 5]
    assert released(raw)[PRODUCTS].sum(axis=-1)[0, BOTH] == 180


@pytest.mark.parametrize("ones", [0, 3, 10, 190, 197, 200])
def test_a_sum_of_zeros_and_ones_is_no_way_around_the_floor(ones: int) -> None:
    """It is their number: the histogram, which joins them, would hide nothing."""
    raw = rows(200)
    raw["age"] = ["100"] * ones + ["0"] * (200 - ones)
    is_told = ones in (0, 10, 190, 200)
    assert moments_of(released(raw))[0].tolist() == (
        [200, 2 * ones - 200, 200] if is_told else [HIDDEN, 0, 0]
    )


def test_pairs_of_few_values_have_the_floor_too() -> None:
    """Of zeros and ones, products count those that are both, or that lack the other."""
    raw = rows(200)
    raw["age"] = ["100"] * 20 + ["0"] * 180

    def both(tsh: list[str]) -> float:
        return float(released({**raw, "tsh": tsh})[PRODUCTS].sum(axis=-1)[0, BOTH])

    assert both(["530"] * 3 + ["0"] * 17 + ["530"] * 50 + ["0"] * 130) == HIDDEN
    assert both(["530"] * 10 + ["0"] * 10 + ["530"] * 50 + ["0"] * 130) == 200
    values = [str(1 + i / 10) for i in range(200)]
    assert both(values) == 200
    assert both([""] * 3 + values[3:20] + [""] * 50 + values[70:]) == HIDDEN
    assert both([""] * 10 + values[10:20] + [""] * 50 + values[70:]) == 140


def test_owners_are_counted_and_not_their_rows() -> None:
    """Ten rows of one patient are one person's."""
    raw = rows(200, sex=["m"] * 15 + ["f"] * 185)
    one_patient = [0] * 15 + list(range(1, 186))
    assert released(raw)[FIGURE_COUNTS][SEX.place].tolist() == [185, 15, 0]
    assert released(raw, one_patient)[FIGURE_COUNTS][SEX.place].tolist() == [HIDDEN, HIDDEN, 0]


def test_an_institution_below_the_floor_tells_nothing() -> None:
    sums = released(rows(9))
    assert (sums[FIGURE_COUNTS][AGE.place] == HIDDEN).all()
    assert (moments_of(sums)[:, 0] == HIDDEN).all()
    assert known(sums[FIGURE_COUNTS]) == 0


def test_a_floor_of_one_keeps_nothing_back() -> None:
    sums = released(rows(9), floor=1)
    assert HIDDEN not in sums[FIGURE_COUNTS]
    assert moments_of(sums)[0, 0] == 9


# --- quantiles


@pytest.mark.parametrize("floor", [1, 10])
def test_exact_quantiles_have_the_floor_too(floor: int) -> None:
    """Another kind of release must not be a way around it."""
    plan = question("none", "quantiles", edges="released")
    raw = rows(200)
    raw["age"] = [str(50 + i % 2) for i in range(193)] + ["3"] * 7
    exact_fn = RELEASES["quantiles"].exact_fn
    assert exact_fn is not None
    trees = exact_fn(plan, encoded(plan, raw), floor)[COUNTS]
    assert trees[:, 0].tolist() == [200, 200]
    assert (trees == trees.round()).all()
    leaves = trees[0, 2**8 - 1 :]
    alone = leaves[: numpy.searchsorted(grid(0, 100), 20) - 1].sum()
    assert (alone == 7) == (floor == 1)


@given(
    st.lists(st.integers(-1, CELLS - 1), min_size=1, max_size=120),
    st.lists(st.integers(0, 30), min_size=120, max_size=120),
    st.booleans(),
)
@settings(deadline=None, max_examples=60)
def test_histogram_and_quantiles_of_one_column_differ_by_nobody_or_enough(
    fine: list[int], owners: list[int], owned: bool
) -> None:
    """Whoever asks for both gets counts up to the cells of either."""
    cells = numpy.array(fine)
    support = Support(owners=numpy.array(owners[: len(cells)]) if owned else None, least=FLOOR)
    wide = numpy.searchsorted(WIDE_STARTS, cells, side="right") - 1
    both = []
    for own, starts in ((cells, range(CELLS + 1)), (wide, WIDE_STARTS)):
        count = len(starts) - 1
        part = Partition(name="", kind="numeric", start=0, cells=count + 1)
        within = WIDE_STARTS[:-1] if count == CELLS else (0,)
        told = floored_counts(part, numpy.where(cells < 0, count, own), support, starts=within)
        begins = [cell for cell in range(count) if told[cell] >= 0]
        sums = numpy.cumsum([told[cell] for cell in begins])
        both.append(
            (dict(zip([starts[c] for c in begins[1:]] + [CELLS], sums, strict=False)), told)
        )
    (narrow, fine_told), (coarse, wide_told) = both
    assert fine_told[-1] == wide_told[-1]
    edges = sorted({0: 0.0, **narrow, **coarse}.items())
    for place, total in coarse.items():
        assert narrow[place] == total
    for (low, before), (high, after) in itertools.pairwise(edges):
        chosen = (cells >= low) & (cells < high)
        assert after - before >= FLOOR or not chosen.any() or owned
        assert support.none_or_enough(chosen)


def test_counts_are_spread_over_their_cells() -> None:
    told = numpy.array([30.0, AS_BEFORE, AS_BEFORE, 10.0, 25.0, AS_BEFORE, 0.0])
    assert spread(told).tolist() == [10, 10, 10, 10, 12, 13]
    assert spread(numpy.full(5, HIDDEN)).tolist() == [0, 0, 0, 0]
