from __future__ import annotations

import inspect
import json
import pydoc
import re
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import attrs
import pytest

import loops_async
from loops_async import (
    Checkpoint,
    CheckpointPath,
    DeploymentStatus,
    EnablementDetails,
    InstanceType,
    LoRAConfig,
    PollPolicy,
    Sampler,
    SamplerSpec,
    Session,
    StatusChange,
    SupportedModel,
    models,
    to_dict,
)


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


MODELS = [value for name in loops_async.__all__ if attrs.has(value := getattr(loops_async, name))]
MODELS = [model for model in MODELS if model.__module__ == "loops_async.models"]


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.__name__)
def test_help_explains_every_field(model: type[attrs.AttrsInstance]) -> None:
    """The class's docstring has a section with a whole phrase for each field, in their order."""
    section = re.search(r"\nAttributes:\n(.*?)(?:\n\n|\Z)", inspect.cleandoc(model.__doc__ or ""), re.DOTALL)
    assert section is not None
    entries = re.findall(r"^    (\w+): (.+(?:\n {8}.+)*)", section[1], re.MULTILINE)
    assert [name for name, _ in entries] == [field.name for field in attrs.fields(model)]
    for name, phrase in entries:
        assert phrase.endswith("."), name
        assert len(phrase.split()) > 2, name
    assert section[1].strip().splitlines()[0] in pydoc.plain(pydoc.render_doc(model))


def test_models_were_found() -> None:
    assert {model.__name__ for model in MODELS} >= {"InstanceType", "EnablementDetails", "LoRAConfig", "Sampler"}


def test_the_statuses_mean_what_the_design_says() -> None:
    for status in DeploymentStatus:
        waits = status not in models.READY | models.FAILED
        assert waits == (
            status in {"BUILDING", "DEPLOYING", "LOADING_MODEL", "UPDATING", "WAKING_UP", "SCALED_TO_ZERO"}
        )
        # What is down for a teardown is failed for a wait, and UNHEALTHY is failed and still billed.
        down = status in models.TEARDOWN_IN_PROGRESS | models.TEARDOWN_DONE
        assert down == (status in models.FAILED and status != "UNHEALTHY")
    assert set(models.READY) == {"ACTIVE"}
    assert set(models.PERMANENT) == {"BUILD_FAILED", "DEPLOY_FAILED", "BUILD_STOPPED"}
    assert not models.TEARDOWN_IN_PROGRESS & models.TEARDOWN_DONE
    assert PollPolicy().ready == models.READY
    assert PollPolicy().failed == models.FAILED


SAMPLER = Sampler(
    "smp1",
    "https://model-1.api.baseten.co/deployment/d/sync",
    "m",
    datetime(2026, 11, 1, 14, 0, 0, 500, tzinfo=timezone(timedelta(hours=2))),
    DeploymentStatus.ACTIVE,
    "m1",
    "d1",
    "dev@example.com",
    InstanceType("h100x8", "H100:8", gpu_count=8),
    2,
)
SAMPLER_DOCUMENT = {
    "id": "smp1",
    "base_url": "https://model-1.api.baseten.co/deployment/d/sync",
    "base_model": "m",
    "created_at": "2026-11-01T12:00:00.000500Z",
    "status": {"name": "ACTIVE"},
    "model_id": "m1",
    "deployment_id": "d1",
    "user": {"email": "dev@example.com"},
    "instance_type": {
        "id": "h100x8",
        "name": "H100:8",
        "memory_limit_mib": None,
        "millicpu_limit": None,
        "gpu_count": 8,
        "gpu_type": None,
        "gpu_memory_limit_mib": None,
    },
    "node_count": 2,
}


@pytest.mark.parametrize(
    ("model", "document"),
    [
        (Session("ses1"), {"id": "ses1"}),
        (SAMPLER, SAMPLER_DOCUMENT),
        (
            StatusChange(SAMPLER, None, "PREEMPTED", 1.5),
            {"sampler": SAMPLER_DOCUMENT, "previous": None, "status": "PREEMPTED", "elapsed": 1.5},
        ),
        (SamplerSpec("m", num_replicas=2), {"base_model": "m", "num_replicas": 2}),
        (CheckpointPath("r", "weights", "a"), "bt://loops:r/weights/a"),
        (
            SupportedModel("m", 8192, enablement_details=EnablementDetails("needs_approval")),
            {
                "model_name": "m",
                "max_seq_len": 8192,
                "max_enabled_seq_len": 0,
                "supports_vision_language": False,
                "enabled": True,
                "serverless": None,
                "enablement_details": {"reason": "needs_approval", "reason_detail": "", "remediation": ""},
            },
        ),
        (
            Checkpoint(
                "chk1", "a", "r", "sampler", datetime(2026, 11, 1, tzinfo=UTC), lora_config=LoRAConfig("1", ("q",))
            ),
            {
                "id": "chk1",
                "checkpoint_id": "a",
                "run_id": "r",
                "target": "sampler",
                "created_at": "2026-11-01T00:00:00Z",
                "checkpoint_type": None,
                "base_model": None,
                "size_bytes": 0,
                "sync_status": None,
                "lora_config": {"config_version": "1", "targets": ["q"], "expert_layout": None},
            },
        ),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_model_becomes_a_document_in_the_spelling_of_the_api(model: Any, document: object) -> None:
    made = to_dict(model)
    assert made == document
    assert json.loads(json.dumps(made)) == document
    # A member of an enumeration is a str, but not what a caller expects to find in plain data.
    assert '"DeploymentStatus' not in repr(made)
    assert "<" not in repr(made)


def test_a_time_without_zone_is_taken_as_utc() -> None:
    naive = attrs.evolve(SAMPLER, created_at=datetime(2026, 11, 1, 12))  # noqa: DTZ001 -- that is the point
    assert to_dict(naive)["created_at"] == "2026-11-01T12:00:00Z"


@pytest.mark.parametrize("value", [None, "smp1", {"id": "smp1"}, Sampler, PollPolicy()])
def test_only_a_model_becomes_a_document(value: Any) -> None:
    with pytest.raises(TypeError, match="to_dict needs a model"):
        to_dict(value)


@pytest.mark.parametrize(("model_id", "deployment_id"), [(None, None), (None, "d"), ("m", None), ("m", "d")])
def test_a_sampler_without_model_and_deployment_is_serverless(model_id: str | None, deployment_id: str | None) -> None:
    sampler = attrs.evolve(SAMPLER, model_id=model_id, deployment_id=deployment_id)
    assert sampler.serverless == (model_id is None and deployment_id is None)
