"""Baseten's own client on the emulator: its strict models have to accept every answer."""

from collections.abc import AsyncIterator
from datetime import timedelta

import pytest

from loops_async.emulator import Emulator

baseten = pytest.importorskip("baseten.client", reason="Baseten's own client is not installed")

from baseten.client import AsyncManagementClient  # noqa: E402
from baseten.client import managementapi as api  # noqa: E402

PATH = "bt://loops:k4q95w5/sampler_weights/step-100"


@pytest.fixture
async def emulator() -> AsyncIterator[Emulator]:
    # Slow enough that no status changes between two answers that are compared.
    async with Emulator(api_key="key", speed=0.01) as running:
        yield running


@pytest.fixture
async def theirs(emulator: Emulator) -> AsyncIterator[api.AsyncApiClient]:
    async with AsyncManagementClient(api_key="key", base_url_override=emulator.url) as client:
        yield client.api


async def create(theirs: api.AsyncApiClient, base_model: str = "Qwen/Qwen3-8B") -> api.LoopsSampler:
    session = (await theirs.post_loops_sessions()).session
    request = api.CreateLoopsSamplerRequest(
        session_id=session.id, base_model=base_model, model_path=PATH, max_seq_length=None
    )
    return (await theirs.post_loops_samplers(request=request)).sampler


async def test_sessions(theirs: api.AsyncApiClient) -> None:
    session = (await theirs.post_loops_sessions()).session
    assert (await theirs.get_loops_sessions(session_id=session.id)).session == session
    assert (await theirs.post_teams_loops_sessions(team_id="t1")).session.id != session.id


async def test_samplers_are_created_read_and_listed(theirs: api.AsyncApiClient, emulator: Emulator) -> None:
    first, second = await create(theirs), await create(theirs)
    assert (first.base_model, first.user.email) == ("Qwen/Qwen3-8B", "developer@example.com")
    assert first.created_at.utcoffset() == timedelta(0)
    assert first.instance_type is not None
    for status in ("ACTIVE", "A_STATUS_OF_TOMORROW"):
        emulator.set_status(first.id, status)
        read = (await theirs.get_loops_samplers_sampler_id(sampler_id=first.id)).sampler
        assert read.status.name == status
    listed = (await theirs.get_loops_samplers()).samplers
    assert [sampler.id for sampler in listed] == [second.id, first.id]
    assert listed[1] == read


async def test_teams_and_scopes(theirs: api.AsyncApiClient) -> None:
    session = (await theirs.post_teams_loops_sessions(team_id="t1")).session
    request = api.CreateLoopsSamplerRequest(session_id=session.id, base_model="m")
    sampler = (await theirs.post_teams_loops_samplers(team_id="t1", request=request)).sampler
    assert (await theirs.get_teams_loops_samplers(team_id="t1")).samplers == [sampler]
    assert (await theirs.get_loops_samplers()).samplers == []
    everyone = await theirs.get_loops_samplers(params=api.GetLoopsSamplersParams(scope="org"))
    assert everyone.samplers == [sampler]


async def test_deactivation_is_repeatable(theirs: api.AsyncApiClient, emulator: Emulator) -> None:
    sampler = await create(theirs)
    for _ in range(2):
        gone = await theirs.post_loops_samplers_deactivate(sampler_id=sampler.id)
        assert (gone.id, gone.base_model, gone.user) == (sampler.id, sampler.base_model, sampler.user)
    assert emulator.billed == frozenset()


async def test_capabilities(theirs: api.AsyncApiClient) -> None:
    models = (await theirs.get_loops_capabilities()).supported_models
    assert all(model.enabled == (model.enablement_details is None) for model in models)
    params = api.GetLoopsCapabilitiesParams(model="Qwen/Qwen3-8B", use_case="sft")
    (model,) = (await theirs.get_loops_capabilities(params=params)).supported_models
    assert model.enabled


async def test_checkpoints(theirs: api.AsyncApiClient) -> None:
    (found,) = (
        await theirs.get_loops_checkpoints(params=api.GetLoopsCheckpointsParams(checkpoint_path=PATH))
    ).checkpoints
    assert found.lora_config is not None
    await theirs.post_loops_checkpoints_validate(request=api.ValidateLoopsCheckpointRequest(checkpoint_path=PATH))
    files = await theirs.get_loops_checkpoints_files(checkpoint_id=found.id)
    assert sum(file.size_bytes for file in files.presigned_urls) == found.size_bytes
    source = (await theirs.get_loops_checkpoints_source(checkpoint_id=found.id)).source
    assert isinstance(source, api.LoopsCheckpointS3Source)


async def test_refusals_come_as_their_error(theirs: api.AsyncApiClient, emulator: Emulator) -> None:
    with pytest.raises(api.ResponseError) as caught:
        await theirs.get_loops_samplers_sampler_id(sampler_id="no/body")
    assert caught.value.status_code == 404
    assert emulator.received[-1].path == "/v1/loops/samplers/no%2Fbody"
    async with AsyncManagementClient(api_key="other", base_url_override=emulator.url) as stranger:
        with pytest.raises(api.ResponseError) as caught:
            await stranger.api.get_loops_samplers()
    assert caught.value.status_code == 401
