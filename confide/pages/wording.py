"""Names and numbers as pages show them."""

_DIGITS = 4


def abridged(name: str, longest: int) -> str:
    """Cut a long name in its middle, since names that begin alike often end differently.

    Args:
        name: the name.
        longest: number of characters that there is room for, at least 3.

    >>> abridged("Ward 7", 12), abridged("Krankenhaus der Barmherzigen 15", 12)
    ('Ward 7', 'Krankenh… 15')
    """
    if len(name) <= longest:
        return name
    end = (longest - 1) // 3
    return f"{name[: longest - 1 - end]}…{name[len(name) - end :]}"


def in_digits(number: float) -> str:
    """Return a number with four digits that matter, and all before its point.

    >>> in_digits(49.25), in_digits(-50014.2), in_digits(0.0389912), in_digits(-0.0)
    ('49.25', '-50,014', '0.03899', '0')
    """
    is_large = 10**_DIGITS <= abs(number) < 10**15
    return f"{number:,.0f}" if is_large else f"{number + 0.0:.{_DIGITS}g}"


__all__ = ["abridged", "in_digits"]
