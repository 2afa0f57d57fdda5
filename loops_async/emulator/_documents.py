"""Writes the documents of the control plane, in the newest shapes of the OpenAPI document."""

import json
from datetime import datetime
from typing import Final

import msgspec

from . import _shapes as shapes
from ._catalog import INSTANCE_TYPE, LORA_CONFIG, LORA_RANK, TEAMS_SINCE, Checkpoint
from ._lifecycle import ACTIVE
from ._models import CatalogModel
from ._records import Run, Sampler

SERVERLESS_PREFIX: Final = "/serverless"
"""The path of the gateway of all serverless samplers."""


def json_text(document: msgspec.Struct) -> str:
    """Write a document as JSON."""
    return json.dumps(msgspec.to_builtins(document))


def timestamp(moment: datetime) -> str:
    """Write an aware UTC time as ISO 8601 with a `Z`."""
    return moment.isoformat(timespec="microseconds").removesuffix("+00:00") + "Z"


def sampler(record: Sampler, origin: str, email: str | None, status: str | None = None) -> shapes.Sampler:
    """Write a sampler, by default in its present status; *origin* is the origin of its `base_url`."""
    return shapes.Sampler(
        id=record.id,
        base_url=f"{origin}{_place(record)}",
        base_model=record.base_model,
        created_at=timestamp(record.created_at),
        model_id=None if record.serverless else record.model_id,
        deployment_id=None if record.serverless else record.deployment_id,
        status=shapes.SamplerStatus(name=record.progress.status if status is None else status),
        user=shapes.User(email=email),
        instance_type=None if record.serverless else INSTANCE_TYPE,
        node_count=1,
    )


def _place(record: Sampler) -> str:
    if record.serverless:
        return SERVERLESS_PREFIX
    return f"/models/{record.model_id}/deployment/{record.deployment_id}/sync"


def base_url(origin: str) -> str:
    """Write the beginning of a sampler's address in JSON; its bare quotes cannot occur inside a caller's string."""
    return f'"base_url": {json.dumps(origin)[:-1]}/'


def sampler_text(record: Sampler, origin: str, email: str | None, status: str | None = None) -> str:
    """Return a sampler as JSON text, which is written again only after its status has changed."""
    if status is None:
        progress = record.timeline.progress
        # The usual case, thousands of times in one list: nothing has happened to the sampler.
        if record.shown is progress and record.rendered is not None:
            return record.rendered[1]
        record.shown, status = progress, progress.status
    else:
        record.shown = None
    if record.rendered is None or record.rendered[0] != status:
        record.rendered = status, json_text(sampler(record, origin, email, status))
    return record.rendered[1]


def run(record: Run, origin: str, email: str | None, *, active: bool, paired: shapes.Sampler | None) -> shapes.Run:
    """Write a run with its sampler; nothing listens at the run's `base_url`, since nothing is trained here."""
    return shapes.Run(
        id=record.id,
        session_id=record.session_id,
        deployment_id=record.deployment_id,
        name=record.name,
        base_model=record.base_model,
        lora_config_version=LORA_CONFIG.config_version,
        base_url=_trainer_url(record, origin),
        created_at=timestamp(record.created_at),
        status=shapes.RunStatus(name="ACTIVE" if active else "INACTIVE"),
        user=shapes.User(email=email),
        sampler=paired,
    )


def trainer_deployment(
    record: Run, origin: str, email: str | None, *, status: str, active: bool, paired: shapes.Sampler | None
) -> shapes.TrainerDeployment:
    """Write the deployment of a run's trainer."""
    return shapes.TrainerDeployment(
        id=record.deployment_id,
        active_run_id=record.id if active else None,
        latest_run_id=record.id,
        base_model=record.base_model,
        base_url=_trainer_url(record, origin),
        status=shapes.TrainerStatus(name=status),
        user=shapes.User(email=email),
        created_at=timestamp(record.created_at),
        availability_model=record.availability_model,
        instance_type=INSTANCE_TYPE,
        node_count=1,
        sampler=paired,
    )


def model_deployment(record: Sampler) -> shapes.ModelDeployment:
    """Write the deployment of a sampler's model, whose status is a plain string."""
    status = record.progress.status
    replicas = record.num_replicas
    return shapes.ModelDeployment(
        id=record.deployment_id,
        created_at=timestamp(record.created_at),
        name=f"sampler-{record.id}",
        model_id=record.model_id,
        is_production=True,
        is_development=False,
        status=status,
        active_replica_count=(replicas or 1) if status == ACTIVE else 0,
        autoscaling_settings=shapes.Autoscaling(
            min_replica=replicas or 0,
            max_replica=replicas or 1,
            autoscaling_window=60,
            scale_down_delay=900,
            concurrency_target=1,
            target_utilization_percentage=70,
        ),
        instance_type_name=INSTANCE_TYPE.name,
        environment=None,
        request_backpressure_settings=shapes.Backpressure(policy=None),
    )


def _trainer_url(record: Run, origin: str) -> str:
    return f"{origin}/models/{record.model_id}/deployment/{record.deployment_id}/sync"


def supported_model(model: CatalogModel, max_seq_len: int | None) -> shapes.SupportedModel:
    """Write what a base model can do, for a caller who needs *max_seq_len* tokens."""
    reason = None
    if not model.enabled:
        reason = shapes.EnablementDetails(
            reason="needs_approval",
            reason_detail="The workspace is not approved for this model.",
            remediation="Ask for access.",
        )
    elif max_seq_len is not None and max_seq_len > model.max_seq_len:
        reason = shapes.EnablementDetails(
            reason="sequence_length_unsupported",
            reason_detail=f"The model is served with at most {model.max_seq_len} tokens.",
            remediation="Ask for a shorter sequence.",
        )
    return shapes.SupportedModel(
        model_name=model.name,
        max_seq_len=model.max_seq_len,
        max_enabled_seq_len=model.max_seq_len if model.enabled else 0,
        max_context_length=model.max_seq_len,
        supports_vision_language=model.vision,
        enabled=reason is None,
        serverless=None,
        enablement_details=reason,
    )


def checkpoint(record: Checkpoint) -> shapes.Checkpoint:
    """Write a checkpoint."""
    return shapes.Checkpoint(
        id=record.id,
        checkpoint_id=record.name,
        run_id=record.run_id,
        target=record.target,
        checkpoint_type="lora",
        base_model=record.base_model,
        created_at=record.created_at,
        size_bytes=record.size_bytes,
        sync_status="COMPLETE",
        lora_config=LORA_CONFIG,
        lora_adapter_config={"r": LORA_RANK},
    )


def checkpoint_files(record: Checkpoint, origin: str, *, offset: int, limit: int) -> shapes.CheckpointFiles:
    """Write one page of the files of a checkpoint, with the address of each."""
    page = list(record.files.items())[offset : offset + limit]
    return shapes.CheckpointFiles(
        presigned_urls=[
            shapes.CheckpointFile(
                url=f"{origin}/checkpoint-files/{record.id}/{name}",
                relative_file_name=name,
                node_rank=0,
                size_bytes=len(content),
                last_modified=record.created_at,
            )
            for name, content in page
        ],
        next_page_token=offset + limit if offset + limit < len(record.files) else None,
        total_count=len(record.files),
    )


def team(team_id: str, name: str) -> shapes.Team:
    """Write a team; no team is the default one, since a request that names no team creates for none."""
    return shapes.Team(id=team_id, name=name, default=False, created_at=TEAMS_SINCE)
