"""Loops' own SDK on the emulator: it makes a sampler, waits for it in its own way, and samples.

PyPI `baseten-loops` needs Python 3.12, brings much along, and wants an older `baseten` than the other tests, so it is
in no extra. `.ci/run` gives it an environment of its own; by hand, install it with this package, pytest and
pytest-asyncio in a fresh one.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from loops_async.emulator import Emulator

loops: Any = pytest.importorskip("baseten.loops", reason="Loops' own SDK (PyPI baseten-loops) is not installed")

MODEL = "Qwen/Qwen3-8B"
IM_END = 151_645
"""What ends a turn in the model's tokenizer, and what its renderer stops at."""

STEP_100, STEP_200 = (f"bt://loops:k4q95w5/sampler_weights/step-{step}" for step in (100, 200))
COURSE = [("BUILDING", 0.2), ("SCALED_TO_ZERO", None), ("WAKING_UP", 0.2), ("ACTIVE", None)]
PROMPT = [9707, 11, 1879]


@pytest.fixture
def loops_emulator_options() -> dict[str, Any]:
    return {"speed": 1, "lifecycles": {"*": COURSE, "broken": [("DEPLOYING", 0.1), ("BUILD_FAILED", None)]}}


@pytest.fixture(autouse=True)
def frequent_polls(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the SDK ask every 50 ms, and not every 10 s."""
    monkeypatch.setattr("baseten.loops.sampling_client._READY_POLL_INTERVAL_SEC", 0.05)


@pytest.fixture
def service(loops_emulator: Emulator) -> Any:
    return loops.ServiceClient(base_url=loops_emulator.url)


@pytest.fixture
def client(service: Any) -> Iterator[Any]:
    client = service.create_sampling_client(base_model=MODEL, ready_timeout=10)
    yield client
    client.close()


def test_it_becomes_ready_with_a_wake(client: Any, loops_emulator: Emulator) -> None:
    (sampler,) = loops_emulator.samplers
    assert sampler.status == "ACTIVE"
    assert len(loops_emulator.requests("POST", "/models/{model_id}/deployment/{deployment_id}/wake")) == 1
    assert client.discover_base_model_name() == MODEL
    assert client.discover_adapter_name() is None


def test_it_samples_and_scores_what_it_sampled(client: Any) -> None:
    def sample(**params: Any) -> Any:
        return client.sample(
            loops.ModelInput.from_ints(PROMPT), num_samples=4, sampling_params=loops.SamplingParams(**params)
        )

    answer = sample(max_tokens=30, seed=3, temperature=0.8, top_p=0.9, top_k=50, stop=["\n"])
    assert answer.policy_version == 0
    assert answer.prompt_token_ids == PROMPT
    assert len(answer.sequences) == 4
    assert answer == sample(max_tokens=30, seed=3, temperature=0.8, top_p=0.9, top_k=50, stop=["\n"])
    assert answer != sample(max_tokens=30, seed=4, temperature=0.8, top_p=0.9, top_k=50, stop=["\n"])
    assert {each.stop_reason for each in sample(max_tokens=1000).sequences} == {"stop"}
    assert {each.stop_reason for each in sample(max_tokens=30, stop=list(range(200))).sequences} == {"stop"}
    for sequence in answer.sequences:
        assert len(sequence.tokens) == len(sequence.logprobs)
        scored = client.compute_logprobs(loops.ModelInput.from_ints(PROMPT + sequence.tokens))
        assert scored[0] is None
        assert scored[len(PROMPT) :] == sequence.logprobs


def test_turns_end_where_the_renderer_of_the_model_expects_it(client: Any) -> None:
    params = loops.SamplingParams(max_tokens=4000, seed=5, stop=[IM_END])
    sequences = client.sample(loops.ModelInput.from_ints(PROMPT), 60, params).sequences
    assert {each.stop_reason for each in sequences} == {"stop"}
    assert {each.tokens[-1] for each in sequences} == {IM_END}
    assert not any(IM_END in each.tokens[:-1] for each in sequences)


def sampled(client: Any) -> list[int]:
    """Sample one text, the same one from the same weights."""
    params = loops.SamplingParams(max_tokens=30, seed=5)
    (sequence,) = client.sample(loops.ModelInput.from_ints(PROMPT), 1, params).sequences
    return list(sequence.tokens)


# The SDK leaves the choice between dedicated and serverless samplers to the settings of the organisation.
@pytest.mark.parametrize(
    "loops_emulator_options", [{"speed": 1000}, {"serverless": True}], ids=["dedicated", "serverless"]
)
def test_checkpoints_are_told_apart_by_the_header(service: Any, loops_emulator: Emulator) -> None:
    clients = [service.create_sampling_client(base_model=MODEL, ready_timeout=10)]
    clients += [service.create_sampling_client(model_path=path, ready_timeout=10) for path in (STEP_100, STEP_200)]
    texts = [sampled(each) for each in clients]
    assert len({*map(tuple, texts)}) == 3
    assert texts == [sampled(each) for each in clients]
    samples = [each for each in loops_emulator.received if each.path.endswith("/sample")]
    assert [each.headers.get("X-Checkpoint-Path") for each in samples] == [None, STEP_100, STEP_200] * 2
    for each in clients:
        each.close()


@pytest.mark.parametrize("loops_emulator_options", [{"serverless": True}])
def test_it_samples_from_a_serverless_sampler(service: Any, loops_emulator: Emulator) -> None:
    serverless = service.create_sampling_client(base_model=MODEL, ready_timeout=10)
    assert serverless.discover_base_model_name() == MODEL
    tokens = sampled(serverless)
    scored = serverless.compute_logprobs(loops.ModelInput.from_ints(PROMPT + tokens))
    assert scored[0] is None
    assert len(scored) == len(PROMPT) + len(tokens)
    posts = loops_emulator.requests("POST", "/serverless/sample")
    assert {(each.headers["X-Sampler-Id"], each.json["model"]) for each in posts} == {
        (loops_emulator.samplers[-1].id, MODEL)
    }
    assert len(loops_emulator.requests("GET", "/serverless/operations/{operation_id}")) == len(posts) == 2
    serverless.close()


def test_it_finds_its_team_and_downloads_a_checkpoint(
    loops_emulator: Emulator, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("LOOPS_TEAM", "Research")
    service = loops.ServiceClient(base_url=loops_emulator.url)
    service.create_sampling_client(base_model=MODEL, ready_timeout=10).close()
    assert len(loops_emulator.requests("POST", "/v1/teams/{team_id}/loops/samplers")) == 1
    (checkpoint,) = [each for each in service.list_checkpoints("k4q95w5") if each.checkpoint_id == "step-200"]
    service.download_checkpoint(checkpoint.id, dest_dir=str(tmp_path))
    sizes = {path.name: path.stat().st_size for path in tmp_path.rglob("*") if path.is_file()}
    assert sizes.keys() >= {"adapter_config.json", "adapter_model.safetensors"}
    assert sum(sizes.values()) == checkpoint.size_bytes


def test_it_tells_the_alternatives_in_the_prompt(client: Any) -> None:
    answer = client.sample(loops.ModelInput.from_ints(PROMPT), 1, None, True, 5)
    assert answer.prompt_logprobs[0] is answer.topk_prompt_logprobs[0] is None
    for token, logprob, top in zip(
        PROMPT[1:], answer.prompt_logprobs[1:], answer.topk_prompt_logprobs[1:], strict=True
    ):
        assert dict(top)[token] == logprob
        assert len(top) == 6


async def test_it_samples_in_a_loop(service: Any) -> None:
    client = await service.create_sampling_client_async(base_model=MODEL, ready_timeout=10)
    answer = await client.sample_async(loops.ModelInput.from_ints(PROMPT))
    assert len(answer.sequences) == 1
    await client.aclose()
    client.close()


def test_it_is_told_what_is_wrong_for_good(client: Any, service: Any, loops_emulator: Emulator) -> None:
    httpx = pytest.importorskip("httpx")
    before = len(loops_emulator.received)
    with pytest.raises(httpx.HTTPStatusError, match="out of vocabulary"):
        client.sample(loops.ModelInput.from_ints([10**9]))
    loops_emulator.set_status(loops_emulator.samplers[0].id, "INACTIVE")
    with pytest.raises(httpx.HTTPStatusError, match="404"):
        client.sample(loops.ModelInput.from_ints(PROMPT))
    # Neither was tried again.
    assert len(loops_emulator.received) == before + 2
    with pytest.raises(loops.SamplerTerminatedError, match="BUILD_FAILED"):
        service.create_sampling_client(base_model="broken", ready_timeout=10)
