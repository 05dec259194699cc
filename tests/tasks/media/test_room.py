"""A plan that asks for more memory than encoded files may take."""

from pathlib import Path

import pytest
import torch
from masks_made import write_squares
from picture_models import make_vision
from pictures_made import build_pictures, write_folder
from sounds_made import write_tones

from confide.client.records.checked import load_checked_records
from confide.config.data import DataConfig
from confide.config.outcomes.mask import MaskConfig
from confide.config.tasks.media.audio_classification import AudioClassificationConfig
from confide.config.tasks.media.segmentation import SegmentationConfig
from confide.errors import DataError, ModelError
from confide.pictures.processor import WIDEST, PictureProcessor, load_processor
from confide.tasks.build import build_task
from confide.tasks.media import room as module
from confide.tasks.media.room import MOST_BYTES, room

MASKS = MaskConfig(labels=["background", "square"], values=[0, 255])
TASKS = {
    "pictures": build_pictures(size=16),
    "masks": SegmentationConfig(outcome=MASKS, size=16, channels=1),
    "sounds": AudioClassificationConfig(labels=["low", "high"], seconds=0.3, bands=16),
}
WRITERS = {
    "pictures": lambda folder: write_folder(folder, 12),
    "masks": write_squares,
    "sounds": write_tones,
}


@pytest.mark.parametrize("content", TASKS)
def test_files_that_fill_the_memory_are_refused(
    content: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = WRITERS[content](tmp_path / "files") or tmp_path / "files"
    config = DataConfig(path=str(path), num_clients=1, partitioner="iid")
    schema = TASKS[content]
    records = load_checked_records(config, schema).records
    task = build_task(schema, {"processor": PictureProcessor})
    assert len(task.encode(records)) == len(records)
    monkeypatch.setattr(module, "MOST_BYTES", 1_000)
    with pytest.raises(DataError, match=r"expected at most 1,000; (lower|raise) task\."):
        task.encode(records)


def test_the_largest_plan_takes_no_memory_before_it_is_refused() -> None:
    with pytest.raises(DataError, match=f"expected at most {MOST_BYTES:,}; lower task.size"):
        room(10**6, (3, 1024, 1024), torch.uint8, fix="lower task.size")


@pytest.mark.parametrize(
    "asked",
    ['"size": {"height": 99999, "width": 16}', '"size": 99999', '"crop_size": {"height": 99999}'],
)
def test_a_backbones_folder_asks_for_no_huge_pictures(asked: str, tmp_path: Path) -> None:
    folder = Path(make_vision(tmp_path, "vit").name)
    kind = '"image_processor_type": "ViTImageProcessor"'
    (folder / "preprocessor_config.json").write_text(f"{{{kind}, {asked}}}")
    with pytest.raises(ModelError, match=f"99,999 pixels, expected at most {WIDEST:,}"):
        load_processor(folder)
