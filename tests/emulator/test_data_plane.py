"""Sampling under a sampler's `base_url`, over real sockets."""

import asyncio
import io
import json
from collections.abc import AsyncIterator
from math import exp
from typing import Any

import aiohttp
import pytest
from yarl import URL

from loops_async.emulator import Emulator, Fault, Stage

IM_END = 151_645
"""What ends a turn in the tokenizer of `sampler`'s model."""

PROMPT = [9707, 11, 151_644, 7]
STEP_100 = "bt://loops:k4q95w5/sampler_weights/step-100"


class Sampler:
    """One sampler of an emulator, and the socket that leads to it."""

    def __init__(self, emulator: Emulator, http: aiohttp.ClientSession, document: dict[str, Any]) -> None:
        self.emulator = emulator
        self.http = http
        self.id = document["id"]
        self.base_url = document["base_url"]

    async def send(
        self, method: str, path: str, *, headers: dict[str, str] | None = None, **options: Any
    ) -> tuple[int, Any, aiohttp.ClientResponse]:
        url = URL(self.base_url + path, encoded=True)
        async with self.http.request(method, url, headers=headers, **options) as response:
            return response.status, await response.json(), response

    async def sample(self, **body: Any) -> dict[str, Any]:
        """Sample with a seed, unless told otherwise; the answer has to be 200."""
        status, document, response = await self.send("POST", "/sample", json={"prompt": PROMPT, "seed": 1} | body)
        assert status == 200, document
        assert response.headers["X-Trainers-Policy-Version"] == "0"
        assert isinstance(document, dict)
        return document

    async def choice(self, **body: Any) -> dict[str, Any]:
        (choice,) = (await self.sample(**body))["choices"]
        assert isinstance(choice, dict)
        return choice

    async def refused(self, headers: dict[str, str] | None = None, **options: Any) -> tuple[int, dict[str, Any]]:
        status, document, _ = await self.send("POST", "/sample", headers=headers, **options)
        assert status >= 400, document
        return status, document


async def sampler_of(emulator: Emulator, http: aiohttp.ClientSession, base_model: str) -> Sampler:
    async with http.post(f"{emulator.url}/v1/loops/sessions") as answer:
        session_id = (await answer.json())["session"]["id"]
    body = {"session_id": session_id, "base_model": base_model}
    async with http.post(f"{emulator.url}/v1/loops/samplers", json=body) as answer:
        return Sampler(emulator, http, (await answer.json())["sampler"])


@pytest.fixture
async def emulator() -> AsyncIterator[Emulator]:
    lifecycles = {
        "*": [Stage("ACTIVE")],
        "sleeper": [Stage("SCALED_TO_ZERO"), Stage("WAKING_UP", 3600), Stage("ACTIVE")],
    }
    async with Emulator(api_key="key", lifecycles=lifecycles) as running:
        yield running


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(headers={"Authorization": "Api-Key key"}) as session:
        yield session


@pytest.fixture
async def sampler(emulator: Emulator, http: aiohttp.ClientSession) -> Sampler:
    return await sampler_of(emulator, http, "Qwen/Qwen3-8B")


async def test_an_answer_is_complete(sampler: Sampler) -> None:
    answer = await sampler.sample(n=3, max_tokens=50, logprobs=0, return_token_ids=True)
    assert answer["object"] == "text_completion"
    assert answer["model"] == "Qwen/Qwen3-8B"
    assert [choice["index"] for choice in answer["choices"]] == [0, 1, 2]
    drawn = 0
    for choice in answer["choices"]:
        ids, logprobs = choice["token_ids"], choice["logprobs"]
        drawn += len(ids)
        assert 1 <= len(ids) <= 50
        assert len(ids) == len(logprobs["tokens"]) == len(logprobs["token_logprobs"]) == len(logprobs["text_offset"])
        assert all(logprob < 0 for logprob in logprobs["token_logprobs"])
        for offset, token in zip(logprobs["text_offset"], logprobs["tokens"], strict=True):
            assert choice["text"].startswith(token, offset)
        assert logprobs["text_offset"][-1] == len(choice["text"]) - len(logprobs["tokens"][-1])
        assert choice["text"] == "".join(logprobs["tokens"])
        assert choice["finish_reason"] == ("stop" if ids[-1] == IM_END else "length")
        assert (choice["stop_reason"], choice["prompt_logprobs"]) == (None, None)
        assert choice["prompt_token_ids"] == PROMPT
    assert answer["usage"] == {"prompt_tokens": 4, "completion_tokens": drawn, "total_tokens": 4 + drawn}


async def test_only_what_was_asked_for_is_told(sampler: Sampler) -> None:
    choice = await sampler.choice(return_tokens_as_token_ids=True)
    assert choice["logprobs"] is choice["token_ids"] is choice["prompt_token_ids"] is None
    choice = await sampler.choice(logprobs=2, return_tokens_as_token_ids=True, return_token_ids=True)
    names = [f"token_id:{token}" for token in choice["token_ids"]]
    assert choice["logprobs"]["tokens"] == names
    for name, logprob, top in zip(
        names, choice["logprobs"]["token_logprobs"], choice["logprobs"]["top_logprobs"], strict=True
    ):
        assert top[name] == logprob
        others = sorted(value for other, value in top.items() if other != name)
        assert len(top) == 2 or (len(top) == 3 and others[0] >= logprob)


async def test_samples_are_scored_by_what_they_were_drawn_from(sampler: Sampler) -> None:
    for temperature in (0.3, 1.0, 2.0):
        sampled = await sampler.choice(logprobs=0, max_tokens=40, temperature=temperature, return_token_ids=True)
        whole = PROMPT + sampled["token_ids"]
        scored = await sampler.choice(prompt=whole, prompt_logprobs=3, max_tokens=1, temperature=0)
        assert len(scored["prompt_logprobs"]) == len(whole)
        assert scored["prompt_logprobs"][0] is None
        found = [
            entry[str(token)]
            for token, entry in zip(sampled["token_ids"], scored["prompt_logprobs"][len(PROMPT) :], strict=True)
        ]
        assert [entry["logprob"] for entry in found] == sampled["logprobs"]["token_logprobs"]
        for entry, alternatives in zip(found, scored["prompt_logprobs"][len(PROMPT) :], strict=True):
            assert len(alternatives) == (3 if entry["rank"] <= 3 else 4) or len(alternatives) == 4
            assert sum(exp(each["logprob"]) for each in alternatives.values()) <= 1
    (rare,) = (await sampler.choice(prompt=[1, 151_644], prompt_logprobs=0))["prompt_logprobs"][1:]
    assert set(rare) == {"151644"}
    assert rare["151644"]["logprob"] < -20


async def test_temperature_0_takes_the_likeliest_whatever_the_seed(sampler: Sampler) -> None:
    first = await sampler.choice(temperature=0, logprobs=1, max_tokens=30, seed=1)
    assert first == await sampler.choice(temperature=0, logprobs=1, max_tokens=30, seed=2)
    for logprob, top in zip(first["logprobs"]["token_logprobs"], first["logprobs"]["top_logprobs"], strict=True):
        assert [logprob] == list(top.values())


async def test_a_seed_repeats_its_samples_and_no_seed_does_not(sampler: Sampler) -> None:
    async def texts(**body: Any) -> list[str]:
        return [choice["text"] for choice in (await sampler.sample(max_tokens=30, **body))["choices"]]

    four = await texts(n=4, seed=5)
    assert four == await texts(n=4, seed=5)
    assert len(set(four)) == 4
    assert await texts(n=1, seed=5) == four[:1]
    assert await texts(n=4, seed=6) != four
    assert await texts(n=4, seed=None) != await texts(n=4, seed=None)


async def test_another_model_or_checkpoint_samples_otherwise(
    sampler: Sampler, emulator: Emulator, http: aiohttp.ClientSession
) -> None:
    other = await sampler_of(emulator, http, "other")
    assert (await sampler.choice(max_tokens=20))["text"] != (await other.choice(max_tokens=20))["text"]
    body = {"prompt": PROMPT, "seed": 1, "max_tokens": 20}
    status, answer, _ = await sampler.send("POST", "/sample", json=body, headers={"X-Checkpoint-Path": STEP_100})
    assert status == 200
    assert answer["choices"][0]["text"] != (await sampler.choice(max_tokens=20))["text"]


async def test_stops_end_a_text(sampler: Sampler) -> None:
    plain = await sampler.choice(max_tokens=40, return_token_ids=True, ignore_eos=True)
    assert (len(plain["token_ids"]), plain["finish_reason"]) == (40, "length")
    string = plain["text"][4:6]
    stopped = await sampler.choice(max_tokens=40, return_token_ids=True, ignore_eos=True, stop=[string, "\n\n\n"])
    assert (stopped["finish_reason"], stopped["stop_reason"]) == ("stop", string)
    assert stopped["text"] == plain["text"].partition(string)[0]
    assert stopped["token_ids"] == plain["token_ids"][: len(stopped["token_ids"])]
    assert (await sampler.choice(max_tokens=40, ignore_eos=True, stop=string))["text"] == stopped["text"]
    token = plain["token_ids"][3]
    stopped = await sampler.choice(max_tokens=40, return_token_ids=True, ignore_eos=True, stop_token_ids=[token])
    assert (stopped["finish_reason"], stopped["stop_reason"]) == ("stop", token)
    assert stopped["token_ids"] == plain["token_ids"][: plain["token_ids"].index(token) + 1]


@pytest.mark.parametrize(
    ("base_model", "end"),
    [
        ("Qwen/Qwen3-8B", IM_END),
        ("Qwen/Qwen3-4B-Instruct-2507", IM_END),
        ("Qwen/Qwen3.5-9B", 248_046),
        ("moonshotai/Kimi-K2.6", 163_586),
        ("nvidia/NVIDIA-Nemotron-3-Super-120B-A12B-BF16", 11),
        ("some/model", 0),
    ],
)
@pytest.mark.parametrize("named", [False, True])
async def test_a_text_ends_with_the_end_id_of_its_model(
    emulator: Emulator, http: aiohttp.ClientSession, base_model: str, end: int, named: bool
) -> None:
    sampler = await sampler_of(emulator, http, base_model)
    stops = {"stop_token_ids": [end]} if named else {}
    answer = await sampler.sample(n=60, max_tokens=2000, logprobs=0, return_token_ids=True, **stops)
    assert {choice["finish_reason"] for choice in answer["choices"]} == {"stop"}
    assert {choice["token_ids"][-1] for choice in answer["choices"]} == {end}
    assert not any(end in choice["token_ids"][:-1] for choice in answer["choices"])
    for choice in answer["choices"][:3]:
        whole = PROMPT + choice["token_ids"]
        scored = (await sampler.choice(prompt=whole, prompt_logprobs=0, max_tokens=1))["prompt_logprobs"]
        told = [entry[str(token)]["logprob"] for token, entry in zip(whole[1:], scored[1:], strict=True)]
        assert told[len(PROMPT) - 1 :] == choice["logprobs"]["token_logprobs"]


async def test_the_stop_ids_of_any_tokenizer_end_a_text(emulator: Emulator, http: aiohttp.ClientSession) -> None:
    sampler = await sampler_of(emulator, http, "some/model")
    for ids in ([IM_END], [200_002, 200_012]):
        answer = await sampler.sample(n=60, max_tokens=2000, stop_token_ids=ids, logprobs=1, return_token_ids=True)
        assert {choice["stop_reason"] for choice in answer["choices"]} == set(ids)
        assert {choice["token_ids"][-1] for choice in answer["choices"]} == set(ids)
        choice = answer["choices"][0]
        scored = await sampler.choice(prompt=PROMPT + choice["token_ids"], prompt_logprobs=0, max_tokens=1)
        last = scored["prompt_logprobs"][-1]
        assert last[str(choice["token_ids"][-1])]["logprob"] == choice["logprobs"]["token_logprobs"][-1]


async def test_there_are_16_tokens_unless_told_otherwise(sampler: Sampler) -> None:
    assert len((await sampler.choice(return_token_ids=True, ignore_eos=True))["token_ids"]) == 16


@pytest.mark.parametrize(
    ("param", "body"),
    [
        ("prompt", {"prompt": None}),
        ("prompt", {"prompt": []}),
        ("prompt", {"prompt": "text"}),
        ("prompt", {"prompt": [[1, 2]]}),
        ("prompt", {"prompt": [1, True]}),
        ("prompt", {"prompt": [1, -1]}),
        ("prompt", {"prompt": [262_144]}),
        ("n", {"n": 0}),
        ("n", {"n": 1025}),
        ("n", {"n": "2"}),
        ("n", {"n": 2, "temperature": 0}),
        ("max_tokens", {"max_tokens": 0}),
        ("max_tokens", {"max_tokens": 40_960}),
        ("max_tokens", {"max_tokens": 1.5}),
        ("max_tokens", {"prompt": [1] * 40_960}),
        ("temperature", {"temperature": -0.1}),
        ("temperature", {"temperature": float("nan")}),
        ("temperature", {"temperature": 10**400}),
        ("temperature", {"temperature": True}),
        ("top_p", {"top_p": 0}),
        ("top_p", {"top_p": 1.1}),
        ("top_k", {"top_k": -2}),
        ("seed", {"seed": 2**63}),
        ("seed", {"seed": 1.0}),
        ("stop", {"stop": ""}),
        ("stop", {"stop": [1]}),
        ("stop", {"stop": 0}),
        ("stop_token_ids", {"stop_token_ids": ["1"]}),
        ("stop_token_ids", {"stop_token_ids": 0}),
        ("logprobs", {"logprobs": 21}),
        ("logprobs", {"logprobs": True}),
        ("prompt_logprobs", {"prompt_logprobs": -1}),
        ("return_token_ids", {"return_token_ids": "yes"}),
        ("model", {"model": 1}),
        ("echo", {"echo": True}),
        ("structured_outputs", {"structured_outputs": {"regex": "a"}}),
        ("model_input_chunks", {"model_input_chunks": [{"type": "image"}]}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_a_malformed_request_is_refused_for_good(sampler: Sampler, param: str, body: dict[str, Any]) -> None:
    status, document = await sampler.refused(data=json.dumps({"prompt": PROMPT} | body))
    assert status == 400
    # This type is what tells a client that it is no use to try again while the sampler comes up.
    assert (document["error"]["type"], document["error"]["param"]) == ("BadRequestError", param)
    assert param in document["error"]["message"]


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b"\xff", b"[" * 100_000])
async def test_a_body_that_is_no_object_is_refused(sampler: Sampler, body: bytes) -> None:
    status, document = await sampler.refused(data=body)
    assert (status, document["error"]["param"]) == (400, "body")


async def test_what_asks_for_nothing_is_no_reason_to_refuse(sampler: Sampler) -> None:
    await sampler.sample(echo=False, stream=None, min_p=0.0, logit_bias={}, include_routed_experts=False, top_k=-1)
    await sampler.sample(model="Qwen/Qwen3-8B", stop=[], stop_token_ids=[], max_tokens=None, temperature=None, top_k=0)


async def test_the_longest_prompt_leaves_room_for_one_token(sampler: Sampler) -> None:
    choice = await sampler.choice(prompt=[7] * 40_959, ignore_eos=True, return_token_ids=True)
    assert len(choice["token_ids"]) == 1


async def test_a_model_takes_the_longest_prompt_that_it_says(emulator: Emulator, http: aiohttp.ClientSession) -> None:
    async with http.get(f"{emulator.url}/v1/loops/capabilities") as answer:
        models = {each["model_name"]: each["max_seq_len"] for each in (await answer.json())["supported_models"]}
    name = max(models, key=models.__getitem__)
    sampler = await sampler_of(emulator, http, name)
    # As json.dumps() writes it, with ids of six digits.
    body = json.dumps({"prompt": [150_000] * (models[name] - 1), "max_tokens": 1, "return_token_ids": False})
    assert len(body) > 1_800_000
    status, answer, _ = await sampler.send("POST", "/sample", data=io.BytesIO(body.encode()))
    assert (status, answer["usage"]["prompt_tokens"]) == (200, 262_143)
    assert (await sampler.refused(data=io.BytesIO(b" " * 8_000_000)))[0] == 413


async def test_headers_and_names_that_do_not_fit_are_refused(sampler: Sampler) -> None:
    body = {"prompt": PROMPT}
    assert (await sampler.refused(json=body, headers={"X-Min-Policy-Version": "1"}))[0] == 408
    assert (await sampler.refused(json=body, headers={"X-Min-Policy-Version": "one"}))[0] == 400
    for path in ("nonsense", STEP_100 + "0", STEP_100.replace("sampler_", "")):
        assert (await sampler.refused(json=body, headers={"X-Checkpoint-Path": path}))[0] == 400
    assert (await sampler.refused(json=body | {"model": "other"}))[0] == 404
    assert (await sampler.refused(json=body, headers={"Authorization": "Api-Key other"}))[0] == 401


async def test_only_an_active_sampler_samples(sampler: Sampler) -> None:
    for name in ("BUILDING", "UNHEALTHY", "DEACTIVATING"):
        sampler.emulator.set_status(sampler.id, name)
        status, document = await sampler.refused(json={"prompt": PROMPT})
        assert status == 503
        assert name in document["message"]
        assert (await sampler.send("GET", "/v1/models"))[0] == 503
    sampler.emulator.set_status(sampler.id, "ACTIVE")
    await sampler.sample()
    status, document, _ = await sampler.send("GET", "/v1/models")
    assert (status, [each["id"] for each in document["data"]]) == (200, ["Qwen/Qwen3-8B"])
    assert document["data"][0]["parent"] is None
    sampler.emulator.set_status(sampler.id, "INACTIVE")
    for path, method in (("/sample", "POST"), ("/v1/models", "GET")):
        status, _, answer = await sampler.send(method, path)
        assert status == 404
        assert "X-Baseten-Error-Code" not in answer.headers
        status, _, marked = await sampler.send(method, path, headers={"X-Baseten-Accept-Error": "1"})
        assert status == 404
        assert [marked.headers[f"X-Baseten-Error-{each}"] for each in ("Source", "Code")] == ["01", "631"]


async def test_a_request_wakes_a_sampler_that_is_scaled_to_zero(
    emulator: Emulator, http: aiohttp.ClientSession
) -> None:
    sampler = await sampler_of(emulator, http, "sleeper")
    for status in ("SCALED_TO_ZERO", "WAKING_UP"):
        code, document = await sampler.refused(json={"prompt": PROMPT})
        assert (code, status in document["message"]) == (503, True)
    emulator.set_status(sampler.id, "ACTIVE")
    await sampler.sample()


async def test_faults_and_records_cover_the_data_plane(sampler: Sampler) -> None:
    route = "/models/{model_id}/deployment/{deployment_id}/sync/sample"
    sampler.emulator.clear_received()
    sampler.emulator.add_fault(Fault(method="POST", route=route, status=502))
    assert (await sampler.refused(json={"prompt": PROMPT}))[0] == 502
    await sampler.sample()
    assert [each.json["prompt"] for each in sampler.emulator.requests("POST", route)] == [PROMPT, PROMPT]


async def test_a_long_request_lets_others_through(sampler: Sampler) -> None:
    long = asyncio.create_task(sampler.sample(n=1024, max_tokens=200, prompt=[5] * 20_000, prompt_logprobs=None))
    while not sampler.emulator.requests("POST", "/models/{model_id}/deployment/{deployment_id}/sync/sample"):
        await asyncio.sleep(0.001)
    for _ in range(3):
        assert (await sampler.send("GET", "/v1/models"))[0] == 200
    assert not long.done()
    assert len((await long)["choices"]) == 1024
