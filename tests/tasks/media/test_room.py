"""A plan that asks for more memory than encoded files may take."""

from pathlib import Path

import pytest
import torch
from masks_made import write_squares
from picture_models import make_vision
from pictures_made import build_pictures, write_folder
from sounds_made import write_spelled, write_tones

from confide.client.records.checked import load_checked_records
from confide.config.data import DataConfig
from confide.config.models.cnn import CnnConfig
from confide.config.models.unet import UNetConfig
from confide.config.outcomes.mask import MaskConfig
from confide.config.outcomes.transcript import TranscriptConfig
from confide.config.tasks.media.audio_classification import AudioClassificationConfig
from confide.config.tasks.media.segmentation import SegmentationConfig
from confide.config.tasks.media.speech_recognition import SpeechRecognitionConfig
from confide.config.tasks.task import TaskConfig
from confide.config.tunings.tuning import TuningConfig
from confide.errors import DataError, ModelError
from confide.models.compute import Compute
from confide.models.workload import Workload, build_workload
from confide.pictures.processor import WIDEST, PictureProcessor, load_processor
from confide.tasks.build import build_task
from confide.tasks.media import room as module
from confide.tasks.media.room import MOST_BYTES, room

MASKS = MaskConfig(labels=["background", "square"], values=[0, 255])
TASKS = {
    "pictures": build_pictures(size=16),
    "masks": SegmentationConfig(outcome=MASKS, size=16, channels=1),
    "sounds": AudioClassificationConfig(labels=["low", "high"], seconds=0.3, bands=16),
    "speech": SpeechRecognitionConfig(
        seconds=0.7, bands=16, step_ms=10, outcome=TranscriptConfig(characters=" abc")
    ),
}
WRITERS = {
    "pictures": lambda folder: write_folder(folder, 12),
    "masks": write_squares,
    "sounds": write_tones,
    "speech": write_spelled,
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


LARGE = {
    "pictures": build_pictures(size=1024),
    "masks": SegmentationConfig(outcome=MASKS, size=1024, channels=1),
    "sounds": AudioClassificationConfig(
        labels=["low", "high"], seconds=60, rate=192_000, bands=256, step_ms=2
    ),
}


@pytest.mark.parametrize("content", LARGE)
def test_a_pass_holds_no_more_than_memory_whatever_a_plan_asks_for(content: str) -> None:
    def built(widths: list[int], asked: TaskConfig) -> Workload:
        network = UNetConfig if content == "masks" else CnnConfig
        tuning = TuningConfig(kind="full")
        return build_workload(
            asked, network(widths=widths), tuning, compute=Compute(physical_batch_size=128), seed=0
        )

    assert built([4, 8], TASKS[content]).compute.physical_batch_size == 128
    assert built([4, 8], LARGE[content]).compute.physical_batch_size < 128
    with pytest.raises(ModelError, match=r"numbers of one record, expected at most 268,435,456"):
        built([2048, 8], LARGE[content])
