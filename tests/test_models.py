from __future__ import annotations

from typing import Any

import attrs
import pytest

from loops_async import CheckpointPath, DeploymentStatus, SamplerSpec


def test_checkpoint_paths_parse_and_print() -> None:
    path = CheckpointPath.parse("bt://loops:k4q95w5/sampler_weights/step-100")
    assert (path.run_id, path.target, path.name) == ("k4q95w5", "sampler_weights", "step-100")
    assert str(path) == "bt://loops:k4q95w5/sampler_weights/step-100"
    assert CheckpointPath.parse(path) == path
    assert CheckpointPath.parse("bt://loops:k4q95w5/weights/step-100/").name == "step-100"


@pytest.mark.parametrize(
    "value",
    [
        "",
        "step-100",
        "tinker://loops:k4q95w5/weights/a",
        "bt://loops:/weights/a",
        "bt://loops:k4q95w5/weights/",
        "bt://loops:k4q95w5/weights/a/b",
        "bt://loops:k4q95w5/other/a",
        "bt://loops:k4q95w5/weights/a\n",
        "bt://loops:k4 95w5/weights/a",
    ],
)
def test_a_malformed_checkpoint_path_is_a_value_error_that_shows_the_form(value: str) -> None:
    with pytest.raises(ValueError, match=r"bt://loops:<run_id>|empty"):
        CheckpointPath.parse(value)


def test_checkpoint_paths_check_their_parts() -> None:
    with pytest.raises(ValueError, match="not a checkpoint path"):
        CheckpointPath("k4q95w5", "weights", "a/b")
    with pytest.raises(TypeError):
        CheckpointPath.parse(5)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"base_model": ""}, ValueError),
        ({"base_model": None}, TypeError),
        ({"max_seq_length": 0}, ValueError),
        ({"max_seq_length": True}, TypeError),
        ({"max_seq_length": "8192"}, TypeError),
        ({"max_seq_length": 10**30}, ValueError),
        ({"base_model": "\ud800"}, ValueError),
        ({"num_replicas": -1}, ValueError),
        ({"num_replicas": 1.5}, TypeError),
        ({"model_path": "bt://loops:k4q95w5/weights/step-100"}, ValueError),
        ({"model_path": "step-100"}, ValueError),
        ({"model_path": 7}, TypeError),
        ({"run_id": " "}, ValueError),
        ({"availability_model": 3}, TypeError),
        ({"reuse_from_session_id": ""}, ValueError),
    ],
)
def test_a_spec_refuses_what_the_api_would(arguments: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error):
        SamplerSpec(**{"base_model": "m", **arguments})


def test_a_spec_is_frozen_and_comparable() -> None:
    spec = SamplerSpec("m", model_path="bt://loops:k4q95w5/sampler_weights/step-100/")
    assert spec == SamplerSpec("m", model_path=CheckpointPath("k4q95w5", "sampler_weights", "step-100"))
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        spec.base_model = "other"  # type: ignore[misc]


def test_a_status_is_its_name() -> None:
    assert DeploymentStatus.ACTIVE == "ACTIVE"
    assert f"{DeploymentStatus.ACTIVE}" == "ACTIVE"
    assert len(DeploymentStatus) == 14
