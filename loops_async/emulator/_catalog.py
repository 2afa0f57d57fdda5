"""What exists from the start: base models, an instance type and one run with checkpoints.

Model names and lengths are those of Baseten's page of supported models; the rest is
made up, in the shapes of the OpenAPI document.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from attrs import field, frozen

from ._language_model import DEFAULT_END


@frozen
class CatalogModel:
    """A base model that the capabilities route knows."""

    name: str
    max_seq_len: int
    """Tokens."""
    vision: bool = False
    approved: bool = True


@frozen
class Checkpoint:
    """A saved checkpoint of a run."""

    id: str
    run_id: str
    name: str
    base_model: str
    target: str
    """`"sampler"` or `"trainer"`."""
    created_at: str
    files: tuple[tuple[str, int], ...] = field(factory=tuple)
    """Name and size in bytes of each file."""

    @property
    def size_bytes(self) -> int:
        return sum(size for _, size in self.files)

    @property
    def path(self) -> str:
        folder = "sampler_weights" if self.target == "sampler" else "weights"
        return f"bt://loops:{self.run_id}/{folder}/{self.name}"


MODELS: tuple[CatalogModel, ...] = (
    CatalogModel("Qwen/Qwen3-0.6B", 8_192),
    CatalogModel("Qwen/Qwen3-4B-Instruct-2507", 40_960),
    CatalogModel("Qwen/Qwen3-8B", 40_960),
    CatalogModel("Qwen/Qwen3.5-9B", 65_536, vision=True),
    CatalogModel("moonshotai/Kimi-K2.6", 131_072),
    CatalogModel("nvidia/NVIDIA-Nemotron-3-Super-120B-A12B-BF16", 262_144),
    CatalogModel("zai-org/GLM-5.2-FP8", 131_072, approved=False),
)

_END_IDS: tuple[tuple[str, int], ...] = (
    ("Qwen/Qwen3.", 248_046),
    ("Qwen/Qwen", 151_645),
    ("moonshotai/Kimi-K2", 163_586),
    ("zai-org/GLM-5", 154_827),
    ("nvidia/NVIDIA-Nemotron-3", 11),
    ("deepseek-ai/DeepSeek-V", 1),
)
"""The id of the token that ends a turn, by how the names of the models begin; the first that fits counts.

These are `<|im_end|>`, or what the chat template of the model has in its place: real renderers stop there.
"""


def end_id(base_model: str) -> int:
    """Return the id of the end token of a base model."""
    return next((token for start, token in _END_IDS if base_model.startswith(start)), DEFAULT_END)


MAX_LENGTHS: Mapping[str, int] = MappingProxyType({model.name: model.max_seq_len for model in MODELS})
"""Tokens."""

MAX_LENGTH_OF_OTHERS = 131_072
"""Tokens of a base model that is not in the catalogue."""


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

_LORA_FILES = (("adapter_config.json", 812), ("adapter_model.safetensors", 174_655_536))

CHECKPOINTS: tuple[Checkpoint, ...] = (
    Checkpoint("c3n8d1p", "k4q95w5", "step-100", "Qwen/Qwen3-8B", "sampler", "2026-03-02T09:30:00Z", _LORA_FILES),
    Checkpoint(
        "c5t2h7v",
        "k4q95w5",
        "step-100",
        "Qwen/Qwen3-8B",
        "trainer",
        "2026-03-02T09:30:04Z",
        (*_LORA_FILES, ("optimizer.pt", 349_311_072)),
    ),
    Checkpoint("c9r4k6b", "k4q95w5", "step-200", "Qwen/Qwen3-8B", "sampler", "2026-03-02T10:10:00Z", _LORA_FILES),
)

INSTANCE_TYPE: dict[str, Any] = {
    "id": "h100-1x26x234",
    "name": "H100:1x26x234",
    "memory_limit_mib": 239_616,
    "millicpu_limit": 26_000,
    "gpu_count": 1,
    "gpu_type": "H100",
    "gpu_memory_limit_mib": 81_920,
}

LORA_CONFIG: dict[str, Any] = {
    "config_version": "v1",
    "targets": ["q_proj", "k_proj", "v_proj", "o_proj"],
    "expert_layout": None,
}

TEAMS_SINCE = "2026-01-05T08:00:00Z"
"""When every team was created."""
