"""Arguments are checked and taken by value before any I/O."""

from __future__ import annotations

import math
from collections.abc import Callable
from enum import Enum, IntEnum, StrEnum

import pytest

from loops_async import CheckpointPath, DeploymentStatus, LoopsClient, PollPolicy, SamplerSpec, launch, to_dict
from loops_async import _validate as validate
from loops_async._api import codec


class Plain(str):
    """As numpy.str_, which is a str that not every JSON writer takes."""

    __slots__ = ()


class Loud(str):
    """A str that prints, compares and hashes as something else."""

    __slots__ = ()

    def __str__(self) -> str:
        return "something else"

    def __eq__(self, other: object) -> bool:
        return False

    def __hash__(self) -> int:
        return 0

    def strip(self, chars: str | None = None, /) -> str:
        return ""


class Member(StrEnum):
    NAME = "m/a"


class MixedIn(str, Enum):  # noqa: UP042 -- the older way, which prints as MixedIn.NAME
    NAME = "m/a"


class Count(IntEnum):
    TWO = 2


class MixedInCount(int, Enum):
    TWO = 2


class LoudInt(int):
    def __int__(self) -> int:
        return -7

    def __lt__(self, other: int) -> bool:
        return True

    def __str__(self) -> str:
        return "something else"


class LoudFloat(float):
    def __float__(self) -> float:
        return -7.0


STRINGS = [Plain("m/a"), Loud("m/a"), Member.NAME, MixedIn.NAME]
INTS = [Count.TWO, MixedInCount.TWO, LoudInt(2)]


def of_numpy(*names: str) -> list[str]:
    numpy = pytest.importorskip("numpy")
    return list(numpy.array(names))


@pytest.mark.parametrize("value", STRINGS, ids=lambda value: type(value).__name__)
@pytest.mark.parametrize("check", [validate.require_str, validate.optional_str, validate.require_path_segment])
def test_a_subclass_of_str_is_taken_by_value(check: Callable[[str, object], str], value: str) -> None:
    taken = check("name", value)
    assert type(taken) is str
    assert taken == "m/a"


@pytest.mark.parametrize("value", INTS, ids=lambda value: type(value).__name__)
def test_a_subclass_of_int_is_taken_by_value(value: int) -> None:
    taken = validate.optional_positive_int("name", value)
    assert type(taken) is int
    assert taken == 2
    number = validate.require_number("name", value)
    assert type(number) is float
    assert number == 2.0


def test_a_subclass_of_float_is_taken_by_value() -> None:
    taken = validate.require_number("name", LoudFloat(2.5))
    assert type(taken) is float
    assert taken == 2.5


@pytest.mark.parametrize("value", [True, False, "2", None, 2j])
def test_what_is_no_number_is_a_type_error(value: object) -> None:
    with pytest.raises(TypeError):
        validate.require_number("name", value)
    if value is not None:
        with pytest.raises(TypeError):
            validate.optional_positive_int("name", value)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, -0.5, 10**400, -(10**5000)], ids=lambda _: "")
def test_a_number_out_of_bounds_is_a_value_error_that_names_the_argument(value: float) -> None:
    with pytest.raises(ValueError, match="^name must be at least 0"):
        validate.require_number("name", value)


@pytest.mark.parametrize("value", [0, -1, 2**63, 10**5000, -(10**5000)], ids=lambda _: "")
def test_an_integer_out_of_bounds_is_a_value_error_that_names_the_argument(value: int) -> None:
    with pytest.raises(ValueError, match="^name must"):
        validate.optional_positive_int("name", value)


@pytest.mark.parametrize("value", [Plain(""), Plain(" "), Plain("\ud800")])
def test_a_subclass_of_str_is_checked_like_a_str(value: str) -> None:
    with pytest.raises(ValueError, match="name"):
        validate.require_str("name", value)


@pytest.mark.parametrize("value", STRINGS, ids=lambda value: type(value).__name__)
def test_a_spec_stores_plain_values(value: str) -> None:
    spec = SamplerSpec(
        value,
        run_id=value,
        reuse_from_session_id=value,
        availability_model=value,
        model_path=Plain("bt://loops:run/sampler_weights/a"),
        num_replicas=Count.TWO,
        max_seq_length=LoudInt(2),
    )
    sent = to_dict(spec)
    assert {type(each) for each in sent.values()} == {str, int}
    assert sent == {
        **dict.fromkeys(("base_model", "run_id", "reuse_from_session_id", "availability_model"), "m/a"),
        "model_path": "bt://loops:run/sampler_weights/a",
        "num_replicas": 2,
        "max_seq_length": 2,
    }
    assert codec.encode(sent)
    assert spec == SamplerSpec(**{**sent, "base_model": "m/a"})


def test_a_checkpoint_path_stores_plain_values() -> None:
    path = CheckpointPath(Plain("run"), MixedTarget.WEIGHTS, Loud("a"))
    assert {type(each) for each in (path.run_id, path.target, path.name)} == {str}
    assert str(path) == "bt://loops:run/weights/a"
    assert CheckpointPath.parse(Loud("bt://loops:run/weights/a")) == path


class MixedTarget(str, Enum):  # noqa: UP042 -- as above
    WEIGHTS = "weights"


def test_a_policy_stores_plain_statuses() -> None:
    policy = PollPolicy(
        ready={DeploymentStatus.ACTIVE, Plain("WARM")}, failed=[Loud("LOST")], multiples={Loud("COLD"): Count.TWO}
    )
    for name in [*policy.ready, *policy.failed, *policy.multiples]:
        assert type(name) is str
    assert policy.ready == {"ACTIVE", "WARM"}
    assert policy.failed == {"LOST"}
    assert policy.multiples == {"COLD": 2.0}


@pytest.mark.parametrize("names", [[Plain("Qwen/Qwen3-8B"), Plain("Qwen/Qwen3-0.6B")], None], ids=["subclass", "numpy"])
async def test_base_models_of_an_array_are_launched_as_plain_strings(
    client: LoopsClient, names: list[str] | None
) -> None:
    names = names or of_numpy("Qwen/Qwen3-8B", "Qwen/Qwen3-0.6B")
    specs = [SamplerSpec(name) for name in names]
    async with launch(client, specs, policy=PollPolicy(initial=0.01, multiples={})) as fleet:
        samplers = await fleet.active()
    assert [sampler.base_model for sampler in samplers] == ["Qwen/Qwen3-8B", "Qwen/Qwen3-0.6B"]
