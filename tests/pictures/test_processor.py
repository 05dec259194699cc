"""What a backbone's folder says of pictures: used as it is, or refused by name."""

import json
from pathlib import Path
from typing import Any

import pytest
from pictures_made import build_pictures

from confide.errors import ModelError
from confide.pictures.processor import PictureProcessor, load_processor
from confide.tasks.media.image_classification import ImageClassification

SQUARE = {"image_processor_type": "ViTImageProcessor", "size": {"height": 8, "width": 8}}


def loaded(folder: Path, values: Any) -> PictureProcessor:
    (folder / "preprocessor_config.json").write_text(json.dumps(values))
    return load_processor(folder)


@pytest.mark.parametrize(
    "changed", [{"size": {"shortest_edge": 16}, "do_center_crop": False}, {"do_resize": False}]
)
@pytest.mark.parametrize("family", ["ViT", "MobileNetV2"])
def test_pictures_of_unlike_proportions_need_a_size(
    family: str, changed: dict[str, Any], tmp_path: Path
) -> None:
    named = {**SQUARE, "image_processor_type": f"{family}ImageProcessor", "do_center_crop": False}
    processor = loaded(tmp_path, {**named, **changed})
    with pytest.raises(ModelError, match=r"task.size=null.*unlike proportions.*set task.size"):
        ImageClassification(build_pictures(size=None), processor=processor)
    ImageClassification(build_pictures(size=8), processor=processor)
    ImageClassification(build_pictures(size=None), processor=loaded(tmp_path, SQUARE))


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ([1], "cannot be used"),
        ({**SQUARE, "size": "big"}, "cannot be used"),
        ({**SQUARE, "size": [4, 4]}, "cannot be used"),
        ({**SQUARE, "image_mean": "x"}, "cannot be used"),
        ({**SQUARE, "image_mean": [1, 2]}, "expected one number or three, got 2"),
        ({**SQUARE, "image_mean": [float("nan")] * 3}, "expected finite numbers"),
        ({**SQUARE, "rescale_factor": float("inf")}, "expected finite numbers"),
        ({**SQUARE, "image_std": [0, 0, 0]}, "none of image_std 0"),
    ],
)
def test_values_that_no_picture_can_be_scaled_by_are_refused(
    values: Any, told: str, tmp_path: Path
) -> None:
    with pytest.raises(ModelError, match=f"preprocessor_config.json .*{told}"):
        loaded(tmp_path, values)


@pytest.mark.parametrize("changed", [{"size": {"height": -3, "width": 4}}, {"resample": 77}])
def test_a_size_that_cannot_be_made_is_refused(changed: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="cannot be used"):
        ImageClassification(
            build_pictures(size=None), processor=loaded(tmp_path, {**SQUARE, **changed})
        )
