"""What exists from the start beside the base models: an instance type and one run with checkpoints.

All of it is made up, in the shapes of the OpenAPI document.
"""

import json
from collections.abc import Mapping
from typing import Literal

from attrs import field, frozen

from ._shapes import InstanceType, LoraConfig


@frozen
class Checkpoint:
    """A saved checkpoint of a run."""

    id: str
    run_id: str
    name: str
    base_model: str
    target: Literal["sampler", "trainer"]
    created_at: str
    files: Mapping[str, bytes] = field(factory=dict, repr=False)
    """The content of each file by its name; the files are small, and clients can download and read them."""

    @property
    def size_bytes(self) -> int:
        return sum(map(len, self.files.values()))

    @property
    def path(self) -> str:
        folder = "sampler_weights" if self.target == "sampler" else "weights"
        return f"bt://loops:{self.run_id}/{folder}/{self.name}"


@frozen
class CatalogRun:
    """A run that exists from the start."""

    id: str
    session_id: str
    deployment_id: str
    base_model: str
    created_at: str


RUNS: tuple[CatalogRun, ...] = (
    CatalogRun("k4q95w5", "s7d4k9x", "t6w3g8m", "Qwen/Qwen3-8B", "2026-03-02T09:00:00+00:00"),
)

LORA_CONFIG = LoraConfig(config_version="v1", targets=["q_proj", "k_proj", "v_proj", "o_proj"], expert_layout=None)
LORA_RANK = 64


def _safetensors(name: str, shape: tuple[int, int]) -> bytes:
    """Write one tensor of zeros, in the format of https://github.com/huggingface/safetensors."""
    size = 4 * shape[0] * shape[1]
    header = json.dumps({name: {"dtype": "F32", "shape": shape, "data_offsets": [0, size]}}).encode()
    return len(header).to_bytes(8, "little") + header + bytes(size)


def _lora_files(base_model: str) -> dict[str, bytes]:
    config = {
        "base_model_name_or_path": base_model,
        "peft_type": "LORA",
        "r": LORA_RANK,
        "target_modules": LORA_CONFIG.targets,
    }
    tensor = "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight"
    return {
        "adapter_config.json": json.dumps(config, indent=2).encode(),
        "adapter_model.safetensors": _safetensors(tensor, (LORA_RANK, 16)),
    }


_LORA_FILES = _lora_files("Qwen/Qwen3-8B")

CHECKPOINTS: tuple[Checkpoint, ...] = (
    Checkpoint("c3n8d1p", "k4q95w5", "step-100", "Qwen/Qwen3-8B", "sampler", "2026-03-02T09:30:00Z", _LORA_FILES),
    Checkpoint(
        "c5t2h7v",
        "k4q95w5",
        "step-100",
        "Qwen/Qwen3-8B",
        "trainer",
        "2026-03-02T09:30:04Z",
        {**_LORA_FILES, "optimizer.pt": bytes(512)},
    ),
    Checkpoint("c9r4k6b", "k4q95w5", "step-200", "Qwen/Qwen3-8B", "sampler", "2026-03-02T10:10:00Z", _LORA_FILES),
)

INSTANCE_TYPE = InstanceType(
    id="h100-1x26x234",
    name="H100:1x26x234",
    memory_limit_mib=239_616,
    millicpu_limit=26_000,
    gpu_count=1,
    gpu_type="H100",
    gpu_memory_limit_mib=81_920,
)

TEAMS_SINCE = "2026-01-05T08:00:00Z"
"""The creation time of every team."""
