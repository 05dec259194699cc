"""The table of backbones.

``BACKBONES`` is the one place that lists kinds; see docs/design/0021-tables.md.
"""

from confide.config.models.cnn import CnnConfig
from confide.config.models.ctc import CtcConfig
from confide.config.models.items import ItemsConfig
from confide.config.models.kind import BackboneKind, Network
from confide.config.models.language_model import LanguageModelConfig
from confide.config.models.patches import PatchesConfig
from confide.config.models.perceptrons import AdditiveConfig, LogisticConfig, MlpConfig
from confide.config.models.seq2seq import Seq2SeqConfig
from confide.config.models.transformer import TransformerConfig
from confide.config.models.trees import TreesConfig
from confide.config.models.unet import UNetConfig
from confide.config.models.vision import VisionConfig
from confide.config.tunings.table import TUNINGS

_PERCEPTRON = Network(
    builder="confide.models.perceptron.build_perceptron",
    exporter="confide.inference.features_form.FeaturesExporter",
)

_PICTURES = ("pixel_values",)

BACKBONES: dict[str, BackboneKind] = {
    "transformer": BackboneKind(
        schema=TransformerConfig,
        inputs=("input_ids", "attention_mask"),
        network=Network(
            builder="confide.models.encoders.encoder.build_encoder",
            exporter="confide.inference.language.tokens_form.TokensExporter",
        ),
        tunings=TUNINGS.keys(),
        has_weights=True,
        choice="minilm or another transformer",
        has_features=True,
    ),
    "language_model": BackboneKind(
        schema=LanguageModelConfig,
        inputs=("input_ids", "attention_mask", "answer_at"),
        network=Network(
            builder="confide.models.language.language_model.build_language_model",
            exporter="confide.inference.language.answers_form.AnswersExporter",
        ),
        tunings=("lora", "lora_ffa", "lora_alternating"),
        has_weights=True,
        choice="language_model",
        outcomes=("answer",),
        forms=("hf", "merged"),
    ),
    "seq2seq": BackboneKind(
        schema=Seq2SeqConfig,
        inputs=("input_ids", "attention_mask", "decoder_input_ids"),
        network=Network(
            builder="confide.models.language.seq2seq.build_seq2seq",
            exporter="confide.inference.language.texts_form.TextsExporter",
        ),
        tunings=("lora", "lora_ffa", "lora_alternating", "full"),
        has_weights=True,
        choice="seq2seq",
        outcomes=("text",),
        forms=("hf", "merged"),
    ),
    "logistic": BackboneKind(
        schema=LogisticConfig,
        inputs=("features",),
        network=_PERCEPTRON,
        tunings=("full",),
        has_weights=False,
        choice="logistic",
    ),
    "additive": BackboneKind(
        schema=AdditiveConfig,
        inputs=("features",),
        network=_PERCEPTRON,
        tunings=("full",),
        has_weights=False,
        choice="additive",
    ),
    "mlp": BackboneKind(
        schema=MlpConfig,
        inputs=("features",),
        network=_PERCEPTRON,
        tunings=("full",),
        has_weights=False,
        choice="mlp",
        has_features=True,
    ),
    "unet": BackboneKind(
        schema=UNetConfig,
        inputs=("pixel_values", "masks"),
        network=Network(
            builder="confide.models.pictures.unet.build_unet",
            exporter="confide.inference.media.masks_form.MasksExporter",
        ),
        tunings=("full",),
        has_weights=False,
        choice="unet",
        tasks=("segmentation",),
        outcomes=("mask",),
        forms=("hf", "merged"),
    ),
    "trees": BackboneKind(
        schema=TreesConfig,
        inputs=("features",),
        network=Network(
            builder="confide.models.trees.build_trees",
            exporter="confide.inference.trees_form.TreesExporter",
        ),
        tunings=("full",),
        has_weights=False,
        choice="trees",
        tasks=("tabular",),
        outcomes=("classes",),
        algorithm="boosting",
        forms=("xgboost", "onnx"),
    ),
    "patches": BackboneKind(
        schema=PatchesConfig,
        inputs=("features",),
        network=Network(
            builder="confide.models.patches.build_patches",
            exporter="confide.inference.features_form.FeaturesExporter",
        ),
        tunings=("full",),
        has_weights=False,
        choice="patches",
        tasks=("series",),
        forms=("onnx", "int8"),
        has_features=True,
    ),
    "items": BackboneKind(
        schema=ItemsConfig,
        inputs=("history",),
        network=Network(
            builder="confide.models.recommender.build_recommender",
            exporter="confide.inference.items_form.ItemsExporter",
        ),
        tunings=("head",),
        has_weights=True,
        choice="items",
        forms=("hf", "onnx", "int8"),
        maker="confide.models.encoders.items.make_items",
    ),
    "vision": BackboneKind(
        schema=VisionConfig,
        inputs=_PICTURES,
        network=Network(
            builder="confide.models.pictures.vision.build_vision",
            exporter="confide.inference.media.pictures_form.VisionExporter",
        ),
        tunings=("head", "lora", "lora_ffa", "lora_alternating", "lora_after_head", "bias", "norm"),
        has_weights=True,
        choice="vision with a pretrained model of pictures",
        has_features=True,
    ),
    "cnn": BackboneKind(
        schema=CnnConfig,
        inputs=_PICTURES,
        network=Network(
            builder="confide.models.pictures.cnn.build_cnn",
            exporter="confide.inference.media.pictures_form.CnnExporter",
        ),
        tunings=("full",),
        has_weights=False,
        choice="cnn",
        has_features=True,
    ),
    "ctc": BackboneKind(
        schema=CtcConfig,
        inputs=("input_values",),
        network=Network(
            builder="confide.models.sounds.ctc.build_ctc",
            exporter="confide.inference.media.speech_form.SpeechExporter",
        ),
        tunings=("full",),
        has_weights=False,
        choice="ctc",
        tasks=("speech_recognition",),
        outcomes=("transcript",),
    ),
}
"""Kinds of backbone, by name."""


def without_weights() -> tuple[str, ...]:
    """Name the kinds of backbone that start at random."""
    return tuple(name for name, kind in BACKBONES.items() if not kind.has_weights)


__all__ = ["BACKBONES", "without_weights"]
