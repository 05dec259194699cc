"""Shares of a secret, and which of them give it back."""

from hypothesis import given
from hypothesis import strategies as st

from confide.secure_aggregation.shares import PRIME, Polynomials, joined, weights_of


@given(secret=st.integers(0, PRIME - 1), count=st.integers(1, 12), data=st.data())
def test_any_threshold_of_shares_gives_the_secret(
    secret: int, count: int, data: st.DataObject
) -> None:
    threshold = data.draw(st.integers(1, count))
    shares = Polynomials(bytes(32)).split(secret, threshold=threshold, count=count)
    places = data.draw(st.permutations(range(count)))[:threshold]
    assert joined([shares[place] for place in places], weights_of(places)) == secret


def test_fewer_shares_than_the_threshold_give_another_secret() -> None:
    shares = Polynomials(bytes(32)).split(5, threshold=3, count=5)
    assert joined(shares[:2], weights_of([0, 1])) != 5


def test_shares_by_hand() -> None:
    """The line 7 + a x, with a the first number of the stream: shares differ by a."""
    shares = Polynomials(bytes(32)).split(7, threshold=2, count=3)
    one, two, three = (int.from_bytes(share, "little") for share in shares)
    assert (two - one) % PRIME == (three - two) % PRIME == (one - 7) % PRIME != 0
