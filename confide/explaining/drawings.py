"""Drawings of explanations: bars and curves as SVG, maps as pictures. No script, no file beside."""

import base64
import io
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy
import torch
from markupsafe import Markup, escape
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from confide.explaining.dependence import Dependence
from confide.explaining.sentences import told
from confide.pages.wording import abridged

_WIDTH, _HEIGHT = 240.0, 120.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 34.0, 8.0, 8.0, 22.0
_FOR, _AGAINST = (37, 87, 199), (180, 84, 10)
_TICKS, _SIGN = 4, 5.0
"""Labels of numbers, at most, and how wide a sign of one is."""
_LEAST_SIDE, _SIDE = 72, 320
_UNITS = ((1e9, "G"), (1e6, "M"), (1e3, "k"))
_DASHES = ("", "5 3", "2 2", "8 2 2 2")


class Panel(NamedTuple):
    """One drawing.

    Attributes:
        title: above it.
        svg: the element.
    """

    title: str
    svg: Markup


def dependence_panel(found: Dependence, of: str) -> Panel:
    """Draw how a prediction moves with a column: single records faint, their mean strong."""
    records = found.records.double().numpy()
    mean = records.mean(axis=0)
    at = [float(one) for one in found.values] if found.is_numeric else None
    values = found.values if at is None else [_tick(one) for one in at]
    low, high = float(records.min()), float(records.max())
    frame = _Frame(values, low, high, at=at, is_whole=found.is_whole)
    parts = [*frame.axes()]
    for row in records:
        parts.append(frame.line(row, "ice") if found.is_numeric else frame.dots(row, "ice", 1.6))
    parts.append(frame.line(mean, "mean") if found.is_numeric else frame.dots(mean, "mean", 4))
    spoken = f"Mean {of} by {found.column}: {_spoken(values, mean.tolist())}"
    return Panel(found.column, _svg(parts, spoken))


def curve_panel(
    name: str, curve: Mapping[str, Any], outputs: Sequence[str], *, is_whole: bool = False
) -> Panel:
    """Draw what a column adds, exactly: a line for each output, told apart by its dashes."""
    heights = [numpy.array(one) for one in curve["y"]]
    low, high = min(one.min() for one in heights), max(one.max() for one in heights)
    is_numeric = curve["kind"] == "numeric"
    texts = [_tick(float(one)) if is_numeric else str(one) for one in curve["x"]]
    at = [float(one) for one in curve["x"]] if is_numeric else None
    frame = _Frame(texts, min(0.0, float(low)), max(0.0, float(high)), at=at, is_whole=is_whole)
    parts = [*frame.axes(), frame.level(0.0)]
    for place, one in enumerate(heights):
        if is_numeric:
            parts.append(frame.line(one, f"mean out{place}", _DASHES[place % len(_DASHES)]))
        else:
            parts.append(frame.dots(one, f"mean out{place}", 4 - 0.8 * place))
    spoken = f"What {name} adds to {outputs[0]}: {_spoken(texts, heights[0].tolist())}"
    return Panel(name, _svg(parts, spoken))


class _Frame:
    """Places of a panel: values from left to right, heights upwards.

    Args:
        values: values as texts.
        low: lowest height.
        high: highest one.
        at: the values themselves, ascending, which stand as far from each other as they are; None:
            all stand equally far.
        is_whole: whether they are whole numbers, and so are their ticks.
    """

    def __init__(
        self,
        values: Sequence[str],
        low: float,
        high: float,
        *,
        at: Sequence[float] | None = None,
        is_whole: bool = False,
    ) -> None:
        self._values, self._low = list(values), low
        self._high = high if high > low else low + 1.0
        self._at = at if at is not None and at[-1] > at[0] else None
        self._is_whole = is_whole

    def _x(self, place: int) -> float:
        if self._at is not None:
            return self._place(self._at[place], self._at)
        return _LEFT + (_WIDTH - _LEFT - _RIGHT) * (place + 0.5) / len(self._values)

    @staticmethod
    def _place(number: float, at: Sequence[float]) -> float:
        return _LEFT + (_WIDTH - _LEFT - _RIGHT) * (number - at[0]) / (at[-1] - at[0])

    def _y(self, height: float) -> float:
        share = (height - self._low) / (self._high - self._low)
        return _HEIGHT - _BOTTOM - share * (_HEIGHT - _TOP - _BOTTOM)

    def axes(self) -> Iterator[str]:
        """Yield lines at the lowest and highest, and what values are."""
        for height, base in ((self._low, _HEIGHT - _BOTTOM), (self._high, _TOP + 6)):
            y = self._y(height)
            yield _across(y)
            yield f'<text x="{_LEFT - 4}" y="{base:.1f}" text-anchor="end">{told(height)}</text>'
        if self._at is not None:
            yield from self._ticks(self._at)
            return
        count = len(self._values)
        every = max(1, -(-(count - 1) // (_TICKS - 1))) if count > 2 * _TICKS else 1
        longest = max(3, int((_WIDTH - _LEFT - _RIGHT) * every / count / _SIGN) - 1)
        for place in range(0, count, every):
            text = self._values[place]
            shown = abridged(text, longest)
            # Numbers at both ends stay inside
            at_end = place == count - 1 and count > 2 * _TICKS
            x = _WIDTH - 1 if at_end else self._x(place)
            anchor = "end" if at_end else "middle"
            yield (
                f'<text x="{x:.1f}" y="{_HEIGHT - 6}" text-anchor="{anchor}">{escape(shown)}</text>'
            )

    def _ticks(self, at: Sequence[float]) -> Iterator[str]:
        """Yield round numbers below where they are."""
        for number in round_numbers(at[0], at[-1], is_whole=self._is_whole):
            x = self._place(number, at)
            # At the very end it would stick out
            x, anchor = (_WIDTH - 1, "end") if x > _WIDTH - 2 * _RIGHT else (x, "middle")
            yield (
                f'<text x="{x:.1f}" y="{_HEIGHT - 6}" text-anchor="{anchor}">'
                f"{escape(_tick(number))}</text>"
            )

    def level(self, height: float) -> str:
        """Return a line across."""
        return _across(self._y(height))

    def line(self, heights: NDArray[Any], name: str, dashes: str = "") -> str:
        """Return a line through heights."""
        points = " ".join(
            f"{self._x(place):.1f},{self._y(float(height)):.1f}"
            for place, height in enumerate(heights)
        )
        dashed = f' stroke-dasharray="{dashes}"' if dashes else ""
        return f'<polyline class="{name}"{dashed} points="{points}"/>'

    def dots(self, heights: NDArray[Any], name: str, radius: float) -> str:
        """Return dots at heights."""
        return "".join(
            f'<circle class="{name}" cx="{self._x(place):.1f}" cy="{self._y(float(height)):.1f}"'
            f' r="{radius}"/>'
            for place, height in enumerate(heights)
        )


def round_numbers(low: float, high: float, *, is_whole: bool = False) -> list[float]:
    """Return a few round numbers between two, at the same distance from each other.

    >>> round_numbers(20, 90), round_numbers(0, 3, is_whole=True)
    ([20.0, 40.0, 60.0, 80.0], [0.0, 1.0, 2.0, 3.0])
    """
    found = MaxNLocator(nbins=_TICKS + 1, steps=[1, 2, 5, 10], integer=is_whole).tick_values(
        low, high
    )
    return [float(it) + 0.0 for it in found if low <= it <= high]


def _tick(number: float) -> str:
    """Return a number for an axis: 120k for 120,000."""
    for unit, letter in _UNITS:
        if abs(number) >= unit:
            return f"{number / unit:.3g}{letter}"
    return f"{number:.4g}"


def _across(y: float) -> str:
    right = _WIDTH - _RIGHT
    return f'<line class="grid" x1="{_LEFT}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}"/>'


def _svg(parts: Sequence[str], spoken: str) -> Markup:
    label = escape(spoken)
    inner, box = "".join(parts), f"0 0 {_WIDTH:.0f} {_HEIGHT:.0f}"
    # Every text in it was escaped
    return Markup(f'<svg viewBox="{box}" role="img" aria-label="{label}">{inner}</svg>')


def _spoken(values: Sequence[str], heights: Sequence[float]) -> str:
    """Say a curve: its value at both ends, or at each of few categories."""
    places = range(len(values)) if len(values) <= 6 else (0, len(values) // 2, len(values) - 1)
    return ", ".join(f"{told(heights[it])} at {values[it]}" for it in places)


class MapPictures(NamedTuple):
    """A map of attributions over what they are of, as addresses of pictures.

    Attributes:
        shown: what the record is.
        speaks_for: where it speaks for what is explained, over that.
        against: where it speaks against it.
    """

    shown: str
    speaks_for: str
    against: str


def map_pictures(picture: Tensor, attributions: Tensor) -> MapPictures:
    """Draw attributions over a picture, those for and those against apart.

    Args:
        picture: values 0 to 1, shape [h, w] or [h, w, 3].
        attributions: shape [h, w].
    """
    shown = picture if picture.dim() == 3 else picture[:, :, None].expand(-1, -1, 3)
    plain = _enlarged((shown * 255).clamp(0, 255).byte().numpy())
    # Grey and pale, so that nothing in it looks like a sign of ours
    grey = shown.mean(dim=2, keepdim=True).expand(-1, -1, 3) * 0.5 + 0.35
    largest = max(float(attributions.abs().max()), 1e-12)
    made = []
    for sign, colour in ((1, _FOR), (-1, _AGAINST)):
        share = (sign * attributions / largest).clamp(0, 1).sqrt()[:, :, None].float()
        ink = torch.tensor(colour, dtype=torch.float32) / 255
        mixed = grey * (1 - share) + ink * share
        made.append(_address(_enlarged((mixed * 255).clamp(0, 255).byte().numpy())))
    return MapPictures(_address(plain), *made)


def _enlarged(pixels: NDArray[numpy.uint8]) -> NDArray[numpy.uint8]:
    """Repeat pixels, so that a map of few of them is as large as others."""
    height, width = pixels.shape[:2]
    across = max(1, _SIDE // width)
    down = max(across if height > 4 else 1, -(-_LEAST_SIDE // height))
    repeated: NDArray[numpy.uint8] = pixels.repeat(down, axis=0).repeat(across, axis=1)
    return repeated


def _address(pixels: NDArray[numpy.uint8]) -> str:
    file = io.BytesIO()
    Image.fromarray(pixels, "RGB").save(file, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


__all__ = [
    "MapPictures",
    "Panel",
    "curve_panel",
    "dependence_panel",
    "map_pictures",
    "round_numbers",
]
