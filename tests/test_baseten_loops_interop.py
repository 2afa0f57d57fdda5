"""Loops' own SDK on the emulator: it makes a sampler, waits for it in its own way, and samples.

PyPI `baseten-loops` needs Python 3.12 and brings much along, so that it is in no extra. To run this, install it beside
what the tests need: `pip install baseten-loops`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from loops_async.emulator import Emulator

loops: Any = pytest.importorskip("baseten.loops", reason="Loops' own SDK (PyPI baseten-loops) is not installed")

MODEL = "Qwen/Qwen3-8B"
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
