"""The table of tasks.

``TASKS`` is the one place that lists kinds. The plan's union, Hydra's groups, policy, prediction,
export, report and model card are built from its entries; see docs/design/0021-tables.md.
"""

from collections import ChainMap
from collections.abc import Mapping
from typing import Any

from confide.config.models.kind import Network
from confide.config.outcomes.table import OUTCOMES
from confide.config.tasks.causal_lm import CausalLmConfig
from confide.config.tasks.kind import TaskKind
from confide.config.tasks.media.audio_classification import AudioClassificationConfig
from confide.config.tasks.media.image_classification import ImageClassificationConfig
from confide.config.tasks.media.segmentation import SegmentationConfig
from confide.config.tasks.media.speech_recognition import SpeechRecognitionConfig
from confide.config.tasks.recommendation import RecommendationConfig
from confide.config.tasks.sequence_to_sequence import SequenceToSequenceConfig
from confide.config.tasks.series import SeriesConfig
from confide.config.tasks.tabular import TabularConfig
from confide.config.tasks.text_classification import TextClassificationConfig
from confide.config.tasks.token_classification import TokenClassificationConfig
from confide.metrics.metric import Metric

TASKS: dict[str, TaskKind] = {
    "text_classification": TaskKind(
        schema=TextClassificationConfig,
        task="confide.tasks.text_classification.TextClassification",
        inputs=("input_ids", "attention_mask"),
        reader="confide.tasks.schema.read_texts",
        inventor="confide.tasks.invented.texts",
        choice="text",
        title="Text classification",
        purpose="Classifies texts",
        records="texts",
        pipeline_tag="text-classification",
        assets=("tokenizer",),
        explainer="confide.explaining.kinds.tokens.Tokens",
    ),
    "tabular": TaskKind(
        schema=TabularConfig,
        task="confide.tasks.tabular.Tabular",
        inputs=("features",),
        reader="confide.tasks.schema.read_table",
        inventor="confide.tasks.invented.rows",
        title="Classification of a table",
        purpose="Classifies rows of a table",
        records="rows of a table",
        pipeline_tag="tabular-classification",
        members=("num_inputs",),
        explainer="confide.explaining.kinds.columns.Columns",
    ),
    "series": TaskKind(
        schema=SeriesConfig,
        task="confide.tasks.series.make_series",
        inputs=("features",),
        reader="confide.tasks.made.windows.read_windows",
        inventor="confide.tasks.made.windows.invent_windows",
        maker="confide.tasks.made.windows.make_windows",
        title="Classification of series",
        purpose="Classifies windows of series",
        records="windows of series",
        outcomes=("forecast", "classes"),
        members=("num_inputs",),
        explainer="confide.explaining.kinds.windows.Windows",
    ),
    "recommendation": TaskKind(
        schema=RecommendationConfig,
        task="confide.tasks.recommendation.Recommendation",
        inputs=("history",),
        reader="confide.tasks.made.histories.read_histories",
        inventor="confide.tasks.made.histories.invent_histories",
        maker="confide.tasks.made.histories.make_histories",
        choice="recommendation",
        title="Recommendation",
        purpose="Recommends items",
        records="histories of users",
        outcomes=("next_item",),
        assets=("catalogue",),
        explainer="confide.explaining.kinds.items.Items",
    ),
    "token_classification": TaskKind(
        schema=TokenClassificationConfig,
        task="confide.tasks.token_classification.TokenClassification",
        inputs=("input_ids", "attention_mask"),
        reader="confide.tasks.spans.reading.read_words",
        inventor="confide.tasks.spans.reading.invent_words",
        choice="token_classification",
        title="Spans in texts",
        purpose="Finds spans in texts",
        records="texts",
        pipeline_tag="token-classification",
        outcomes=("spans",),
        assets=("tokenizer",),
        networks={
            "transformer": Network(
                builder="confide.models.encoders.token_encoder.build_token_encoder",
                exporter="confide.inference.language.token_tags_form.TokenTagsExporter",
            )
        },
        texts="confide.tasks.spans.words.plain_texts",
        explainer="confide.explaining.kinds.tokens.Tokens",
    ),
    "image_classification": TaskKind(
        schema=ImageClassificationConfig,
        task="confide.tasks.media.image_classification.ImageClassification",
        inputs=("pixel_values",),
        reader="confide.tasks.schema.read_files",
        inventor="confide.pictures.invented.pictures",
        choice="image",
        title="Classification of pictures",
        purpose="Classifies pictures",
        records="pictures",
        pipeline_tag="image-classification",
        assets=("processor",),
        explainer="confide.explaining.kinds.pictures.Pictures",
    ),
    "segmentation": TaskKind(
        schema=SegmentationConfig,
        task="confide.tasks.media.segmentation.Segmentation",
        inputs=("pixel_values", "masks"),
        reader="confide.tasks.schema.read_files",
        inventor="confide.pictures.invented.pictures_with_masks",
        choice="masks",
        title="Segmentation of pictures",
        purpose="Segments pictures",
        records="pictures",
        pipeline_tag="image-segmentation",
        outcomes=("mask",),
        forms=("hf", "merged"),
        explainer="confide.explaining.kinds.pictures.Pictures",
    ),
    "audio_classification": TaskKind(
        schema=AudioClassificationConfig,
        task="confide.tasks.media.audio_classification.AudioClassification",
        inputs=("input_values",),
        reader="confide.tasks.schema.read_files",
        inventor="confide.sounds.invented.sounds",
        choice="audio",
        title="Classification of sounds",
        purpose="Classifies sounds",
        records="sounds",
        pipeline_tag="audio-classification",
        networks={
            "cnn": Network(
                builder="confide.models.sounds.cnn.build_sound_cnn",
                exporter="confide.inference.media.sounds_form.SoundsExporter",
            ),
        },
        explainer="confide.explaining.kinds.sounds.Sounds",
    ),
    "speech_recognition": TaskKind(
        schema=SpeechRecognitionConfig,
        task="confide.tasks.media.speech_recognition.make_speech",
        inputs=("input_values",),
        reader="confide.tasks.media.spoken.read_spoken",
        inventor="confide.tasks.media.spoken.invent_spoken",
        explainer="confide.explaining.kinds.recordings.Recordings",
        title="Speech recognition",
        purpose="Writes what is said",
        records="recordings",
        pipeline_tag="automatic-speech-recognition",
        outcomes=("transcript", "text"),
        members=("tally", "predictions", "record_notes"),
        networks={
            "seq2seq": Network(
                builder="confide.models.language.spoken.build_spoken",
                exporter="confide.inference.language.spoken_form.SpokenExporter",
            ),
        },
    ),
    "causal_lm": TaskKind(
        schema=CausalLmConfig,
        task="confide.tasks.conversations.causal_lm.CausalLm",
        inputs=("input_ids", "attention_mask", "answer_at"),
        reader="confide.tasks.conversations.messages.read_conversations",
        inventor="confide.tasks.conversations.messages.invented_conversations",
        choice="conversations",
        explainer="confide.explaining.kinds.conversations.Conversations",
        title="Answers to conversations",
        purpose="Answers conversations",
        records="conversations",
        pipeline_tag="text-generation",
        outcomes=("answer",),
        assets=("tokenizer",),
        members=("prompts", "written", "end_ids", "most_tokens"),
        forms=("hf", "merged"),
    ),
    "sequence_to_sequence": TaskKind(
        schema=SequenceToSequenceConfig,
        task="confide.tasks.sequences.sequence_to_sequence.SequenceToSequence",
        inputs=("input_ids", "attention_mask", "decoder_input_ids"),
        reader="confide.tasks.sequences.reading.read_sources",
        inventor="confide.tasks.sequences.reading.invented_texts",
        choice="translation",
        explainer="confide.explaining.kinds.sources.Sources",
        title="Texts from texts",
        purpose="Writes texts from others",
        records="texts",
        pipeline_tag="text2text-generation",
        outcomes=("text",),
        members=("tally", "predictions", "record_notes"),
        forms=("hf", "merged"),
    ),
}
"""Kinds of task, by name."""


def known_metrics() -> Mapping[str, Metric]:
    """Return the metrics of all outcomes and of all kinds of task, by name."""
    tables: list[Any] = [  # ChainMap asks for more than a Mapping, and only reads here
        *(kind.metrics for kind in OUTCOMES.values()),
        *(kind.metrics for kind in TASKS.values()),
    ]
    # Joined as they are: every reply is held against them, and a copy takes longer than to read one
    return ChainMap(*reversed(tables))


__all__ = ["TASKS", "known_metrics"]
