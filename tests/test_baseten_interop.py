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


async def test_the_life_of_a_run_with_its_sampler(theirs: api.AsyncApiClient, emulator: Emulator) -> None:
    session = (await theirs.post_loops_sessions()).session
    wanted = {"session_id": session.id, "base_model": "Qwen/Qwen3-8B", "name": "grpo", "sampler_num_replicas": 2}
    request = api.CreateLoopsRunRequest.model_validate(wanted)
    run = (await theirs.post_loops_runs(request=request)).run
    assert (run.name, run.session_id, run.status.name) == ("grpo", session.id, "ACTIVE")
    assert run.sampler is not None
    assert emulator.billed == {run.sampler.id}
    assert (await theirs.get_loops_runs_run_id(run_id=run.id)).run == run
    listed = await theirs.get_loops_runs(params=api.GetLoopsRunsParams(run_id=run.id, base_model=run.base_model))
    assert listed.runs == [run]
    follower = api.CreateLoopsSamplerRequest(session_id=session.id, run_id=run.id)
    assert (await theirs.post_loops_samplers(request=follower)).sampler == run.sampler
    with pytest.raises(api.ResponseError, match=run.id) as caught:
        await theirs.post_loops_samplers_deactivate(sampler_id=run.sampler.id)
    assert caught.value.status_code == 409
    for _ in range(2):
        gone = await theirs.post_loops_runs_deactivate(run_id=run.id)
        assert (gone.id, gone.base_model, gone.user) == (run.id, run.base_model, run.user)
    after = (await theirs.get_loops_runs_run_id(run_id=run.id)).run
    assert after.sampler is not None
    assert (after.status.name, after.sampler.status.name) == ("INACTIVE", "DEACTIVATING")
    assert emulator.billed == frozenset()


async def test_runs_of_a_team(theirs: api.AsyncApiClient) -> None:
    session = (await theirs.post_teams_loops_sessions(team_id="t1")).session
    request = api.CreateLoopsRunRequest(session_id=session.id, base_model="m")
    run = (await theirs.post_teams_loops_runs(team_id="t1", request=request)).run
    assert (await theirs.get_teams_loops_runs(team_id="t1")).runs == [run]
    assert run not in (await theirs.get_loops_runs()).runs
    assert (await theirs.get_loops_runs(params=api.GetLoopsRunsParams(scope="org"))).runs[0] == run
    (team,) = (await theirs.get_teams()).teams
    assert team.id == "t1"


async def test_the_deployments_of_a_run(theirs: api.AsyncApiClient, emulator: Emulator) -> None:
    session = (await theirs.post_loops_sessions()).session
    request = api.CreateLoopsRunRequest(session_id=session.id, base_model="m", availability_model="spot")
    run = (await theirs.post_loops_runs(request=request)).run
    assert run.deployment_id is not None
    trainer = (await theirs.get_loops_deployments_deployment_id(deployment_id=run.deployment_id)).deployment
    assert (trainer.active_run_id, trainer.status.name, trainer.sampler) == (run.id, "CREATED", run.sampler)
    assert trainer.availability_model == "spot"
    assert (await theirs.get_loops_deployments()).deployments[0] == trainer
    await theirs.post_loops_deployments_deactivate(deployment_id=trainer.id)
    stopped = (await theirs.get_loops_deployments_deployment_id(deployment_id=trainer.id)).deployment
    assert (stopped.active_run_id, stopped.latest_run_id, stopped.status.name) == (None, run.id, "STOPPED")
    assert emulator.billed == frozenset()


async def test_the_deployment_of_a_model_has_a_plain_status(theirs: api.AsyncApiClient, emulator: Emulator) -> None:
    sampler = await create(theirs)
    assert sampler.model_id is not None
    assert sampler.deployment_id is not None
    for status in ("LOADING_MODEL", "ACTIVE", "INACTIVE"):
        emulator.set_status(sampler.id, status)
        deployment = await theirs.get_models_deployments_deployment_id(
            model_id=sampler.model_id, deployment_id=sampler.deployment_id
        )
        assert (deployment.id, deployment.model_id, deployment.status) == (
            sampler.deployment_id,
            sampler.model_id,
            status,
        )


async def test_a_sampler_from_its_create_to_its_end(theirs: api.AsyncApiClient, emulator: Emulator) -> None:
    sampler = await create(theirs)
    seen = [sampler.status.name]
    for status in ("SCALED_TO_ZERO", "WAKING_UP", "LOADING_MODEL", "ACTIVE"):
        emulator.set_status(sampler.id, status)
        seen.append((await theirs.get_loops_samplers_sampler_id(sampler_id=sampler.id)).sampler.status.name)
    assert seen == ["BUILDING", "SCALED_TO_ZERO", "WAKING_UP", "LOADING_MODEL", "ACTIVE"]
    await theirs.post_loops_samplers_deactivate(sampler_id=sampler.id)
    (listed,) = (await theirs.get_loops_samplers()).samplers
    assert (listed.id, listed.status.name) == (sampler.id, "DEACTIVATING")


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
