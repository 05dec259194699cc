"""TensorBoard: an event file under ``RUN/tensorboard``, for ``tensorboard --logdir runs``.

Only the messages and the framing of records are tensorboard's own code; the file is written here.
Tensorboard's writer, and torch's, import tensorflow if it is installed, which takes seconds, and
write in a thread, where a full disk goes unnoticed.
"""

import os
import socket
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary, SummaryMetadata
from tensorboard.compat.proto.tensor_pb2 import TensorProto
from tensorboard.compat.proto.tensor_shape_pb2 import TensorShapeProto
from tensorboard.compat.proto.types_pb2 import DT_STRING
from tensorboard.summary.writer.record_writer import RecordWriter

from confide.config.tracking import TrackingConfig
from confide.server.trackers.scalars import Scalar, Scalars, final_scores
from confide.server.trackers.tracker import Metric

FOLDER = "tensorboard"


class TensorBoardTracker:
    """Writes curves, and the config as text.

    Args:
        named_clients: largest number of institutions that get separate curves.
    """

    def __init__(self, named_clients: int) -> None:
        self._scalars = Scalars(named_clients)

    def begin(self, name: str, config: Mapping[str, object], run_dir: Path) -> None:
        """Open a new file."""
        folder = run_dir / FOLDER
        folder.mkdir(parents=True, exist_ok=True)
        path = (
            folder / f"events.out.tfevents.{time.time():.6f}.{socket.gethostname()}.{os.getpid()}"
        )
        self._writer = RecordWriter(path.open("wb"))
        self._write(Event(file_version="brain.Event:2"))
        # A restart at step 0: TensorBoard then drops what files of earlier processes contain,
        # since a resumed run writes all of it again.
        self._write(Event(session_log=SessionLog(status=SessionLog.START)))
        self._write(Event(summary=Summary(value=[_text("config", config)])))
        self._writer.flush()

    def log(self, metrics: Sequence[Metric]) -> None:
        """Write points."""
        self._points(self._scalars.of(metrics))

    def finish(self, summary: Mapping[str, Any] | None) -> None:
        """Write the final scores, and close the file."""
        if summary is not None:
            self._points(
                Scalar(tag, summary["rounds"], value)
                for tag, value in final_scores(summary).items()
            )
        self._writer.close()

    def _points(self, scalars: Iterable[Scalar]) -> None:
        steps: dict[int, list[Any]] = {}
        for tag, step, value in scalars:
            steps.setdefault(step, []).append(Summary.Value(tag=tag, simple_value=value))
        for step, values in steps.items():
            self._write(Event(step=step, summary=Summary(value=values)))
        self._writer.flush()

    def _write(self, event: Any) -> None:
        event.wall_time = time.time()
        self._writer.write(event.SerializeToString())


def _text(tag: str, config: Mapping[str, object]) -> Any:
    """Write a config as TensorBoard's text plugin shows it."""
    shown = "".join(
        f"    {line}\n" for line in yaml.safe_dump(dict(config), sort_keys=False).splitlines()
    )
    return Summary.Value(
        tag=f"{tag}/text_summary",
        metadata=SummaryMetadata(plugin_data=SummaryMetadata.PluginData(plugin_name="text")),
        tensor=TensorProto(
            dtype=DT_STRING,
            string_val=[shown.encode()],
            tensor_shape=TensorShapeProto(dim=[TensorShapeProto.Dim(size=1)]),
        ),
    )


def make_tracker(settings: TrackingConfig) -> TensorBoardTracker:
    """Make it of its settings."""
    return TensorBoardTracker(settings.named_clients)


__all__ = ["FOLDER", "TensorBoardTracker", "make_tracker"]
