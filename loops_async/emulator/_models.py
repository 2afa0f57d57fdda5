"""The base models that an emulator can run.

The names, and the lengths that are published, are those of Baseten's pages; the ids of the end tokens are those of
the models' own tokenizers.
"""

from collections.abc import Iterable
from typing import Final

from attrs import field, frozen

from ._language_model import DEFAULT_END, VOCABULARY_SIZE
from ._refused import unacceptable

DEFAULT_MAX_SEQ_LEN: Final = 131_072
"""The longest sequence of a base model that is not in the catalogue, in tokens."""

_END_IDS: Final[tuple[tuple[str, int], ...]] = (
    ("Qwen/Qwen3.", 248_046),
    ("Qwen/Qwen", 151_645),
    ("moonshotai/Kimi-K2", 163_586),
    ("zai-org/GLM-5", 154_827),
    ("nvidia/NVIDIA-Nemotron-3", 11),
    ("deepseek-ai/DeepSeek-V", 1),
)
"""The id of the token that ends a turn, by the beginning of the model's name; the first that matches counts.

The token is `<|im_end|>`, or the one that the chat template of the model has in its place; real renderers stop there.
"""


def _end_id(model: "CatalogModel") -> int:
    if not isinstance(model.name, str):
        return DEFAULT_END
    return next((token for start, token in _END_IDS if model.name.startswith(start)), DEFAULT_END)


def _is_integer(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


@frozen
class CatalogModel:
    """A base model of an emulator's catalogue, for `Emulator(models=...)`.

    Attributes:
        name: Hugging Face name of the base model, such as `Qwen/Qwen3-8B`.
        max_seq_len: Longest sequence that the model takes, in tokens.
        vision: Whether the capabilities route says that the model reads images; the emulator reads none.
        enabled: Whether the workspace may run the model; if not, a create of it is refused.
        end_id: Id of the token that ends a text; by default that of the real tokenizer, or 0 if that is not known.

    Raises:
        TypeError: a setting has the wrong type.
        ValueError: the name is empty, or a number is out of range.
    """

    name: str
    max_seq_len: int = field(default=DEFAULT_MAX_SEQ_LEN, kw_only=True)
    vision: bool = field(default=False, kw_only=True)
    enabled: bool = field(default=True, kw_only=True)
    end_id: int = field(kw_only=True)

    @end_id.default
    def _default_end_id(self) -> int:
        return _end_id(self)

    def __attrs_post_init__(self) -> None:
        if not isinstance(self.name, str):
            raise TypeError(f"the name of a base model must be a string, not {self.name!r}")
        if not self.name:
            raise ValueError("the name of a base model must not be empty")
        for setting, value in (("max_seq_len", self.max_seq_len), ("end_id", self.end_id)):
            if not _is_integer(value):
                raise TypeError(f"{setting} of {self.name} must be an integer, not {value!r}")
        for setting, flag in (("vision", self.vision), ("enabled", self.enabled)):
            if not isinstance(flag, bool):
                raise TypeError(f"{setting} of {self.name} must be a bool, not {flag!r}")
        if self.max_seq_len < 1:
            raise ValueError(f"max_seq_len of {self.name} must be at least 1, not {self.max_seq_len}")
        if not 0 <= self.end_id < VOCABULARY_SIZE:
            raise ValueError(f"end_id of {self.name} must be between 0 and {VOCABULARY_SIZE - 1}, not {self.end_id}")


def _model(name: str, max_seq_len: int, *, vision: bool = False, enabled: bool = True) -> CatalogModel:
    return CatalogModel(name, max_seq_len=max_seq_len, vision=vision, enabled=enabled)


MODELS: Final[tuple[CatalogModel, ...]] = (
    _model("Qwen/Qwen3-0.6B", 8_192),
    _model("Qwen/Qwen3-4B-Instruct-2507", 40_960),
    _model("Qwen/Qwen3-8B", 40_960),
    _model("Qwen/Qwen3-30B-A3B-Instruct-2507", 40_960),
    _model("Qwen/Qwen3.5-0.8B", 65_536, vision=True),
    _model("Qwen/Qwen3.5-2B", 65_536, vision=True),
    _model("Qwen/Qwen3.5-4B", 65_536, vision=True),
    _model("Qwen/Qwen3.5-9B", 65_536, vision=True),
    _model("Qwen/Qwen3.5-27B", 65_536, vision=True),
    _model("Qwen/Qwen3.5-35B-A3B", 65_536, vision=True),
    _model("Qwen/Qwen3.5-122B-A10B", 65_536, vision=True),
    _model("Qwen/Qwen3.5-397B-A17B", 65_536, vision=True),
    _model("Qwen/Qwen3.6-27B", 65_536, vision=True),
    _model("Qwen/Qwen3.6-35B-A3B", 65_536, vision=True),
    _model("deepseek-ai/DeepSeek-V4-Flash", 131_072),
    _model("moonshotai/Kimi-K2.6", 131_072, vision=True),
    _model("moonshotai/Kimi-K2.7-Code", 131_072),
    _model("nvidia/NVIDIA-Nemotron-3-Super-120B-A12B-BF16", 262_144),
    _model("zai-org/GLM-5.3-Flash", 65_536),
    _model("zai-org/GLM-5.2-FP8", 65_536, enabled=False),
)
"""The default catalogue of an emulator; the workspace is not approved for one of its models."""


class Catalog:
    """The base models of one emulator.

    Without *models* they are those of `MODELS`, and a model of any other name can run too, so that a test may use
    any name. With *models*, no other model can run.
    """

    def __init__(self, models: Iterable[CatalogModel | str] | None = None) -> None:
        self._others_run = models is None
        self._models: dict[str, CatalogModel] = {}
        if isinstance(models, str) or (models is not None and not isinstance(models, Iterable)):
            raise TypeError(f"models must be names of base models or CatalogModels, not {models!r}")
        for each in MODELS if models is None else models:
            model = CatalogModel(each) if isinstance(each, str) else each
            if not isinstance(model, CatalogModel):
                raise TypeError(f"models must be names of base models or CatalogModels, not {each!r}")
            if model.name in self._models:
                raise ValueError(f"{model.name} is twice in the models")
            self._models[model.name] = model

    @property
    def models(self) -> tuple[CatalogModel, ...]:
        """The models that the capabilities route lists."""
        return tuple(self._models.values())

    def model(self, name: str) -> CatalogModel:
        """Return a base model; one that is not in the catalogue gets default settings."""
        return self._models.get(name) or CatalogModel(name)

    def check(self, name: str) -> None:
        """Check that a base model can run.

        Raises:
            Refused: with 400 if it is not there, or not enabled.
        """
        if name not in self._models:
            if self._others_run:
                return
            raise unacceptable(f"base_model: {name} is not a supported model.")
        if not self._models[name].enabled:
            raise unacceptable(f"base_model: {name} is not enabled. The workspace is not approved for this model.")
