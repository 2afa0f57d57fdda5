"""Spec files: what they mean, and what is said of those that mean nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from loops_async import SamplerSpec, SupportedModel
from loops_async.cli._exits import Failure
from loops_async.cli._models import check
from loops_async.cli._spec_file import read


def written(folder: Path, text: str) -> Path:
    path = folder / "spec.toml"
    path.write_text(text)
    return path


def test_each_table_counts_as_often_as_it_says(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        '[[sampler]]\nbase_model = "a"\ncount = 2\nmax_seq_length = 8\n[[sampler]]\nbase_model = "b"\n',
    )
    assert read(path) == [SamplerSpec("a", max_seq_length=8)] * 2 + [SamplerSpec("b")]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", r"it needs a \[\[sampler\]\]"),
        ("[[sampler", "not TOML"),
        ('[sampler]\nbase_model = "a"', r"it needs a \[\[sampler\]\]"),
        ("[[sampler]]\ncount = 1", r"\[\[sampler\]\] 1: base_model is missing"),
        ('[[sampler]]\nbase_model = "a"\ncount = 0', "count must be a whole number from 1"),
        ('[[sampler]]\nbase_model = "a"\ncount = true', "count must be a whole number from 1"),
        ('[[sampler]]\nbase_model = "a"\n[[sampler]]\nbase_model = 3', r"\[\[sampler\]\] 2: base_model must be a str"),
        ('[[sampler]]\nbase_model = "a"\nnum_replica = 3', "did you mean 'num_replicas'"),
        ('[[samplers]]\nbase_model = "a"', "did you mean 'sampler'"),
        ('[[sampler]]\nbase_model = "a"\nmodel_path = "x"', "not a checkpoint path"),
        ('[[sampler]]\nbase_model = "a"\ncount = 9999\n[[sampler]]\nbase_model = "a"\ncount = 2', "more than 10,000"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(text: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=words) as caught:
        read(written(tmp_path, text))
    assert str(caught.value).startswith(f"{tmp_path / 'spec.toml'}: ")


def test_a_mark_of_byte_order_is_no_trouble_and_a_monstrous_number_is_told_with_its_place(tmp_path: Path) -> None:
    file = tmp_path / "spec.toml"
    file.write_bytes(b'\xef\xbb\xbf[[sampler]]\nbase_model = "m"\n')
    assert [spec.base_model for spec in read(file)] == ["m"]
    file.write_text("[[sampler]]\nbase_model = 'm'\ncount = 1" + "0" * 5000, encoding="utf-8")
    with pytest.raises(ValueError, match=r"spec\.toml: not TOML"):
        read(file)


def test_a_file_that_is_no_text_is_said_to_be_none(tmp_path: Path) -> None:
    path = tmp_path / "spec.toml"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match="no text in UTF-8"):
        read(path)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("qwen/qwen3-8b", "did you mean Qwen/Qwen3-8B?"),
        ("Qwen3-8B", "did you mean Qwen/Qwen3-8B?"),
        ("Qwen/Qwen3-80B", "did you mean Qwen/Qwen3-8B"),
        ("gpt", "see loops-async models"),
    ],
)
def test_an_unknown_model_gets_the_nearest_names(name: str, words: str) -> None:
    known = [SupportedModel("Qwen/Qwen3-8B", 10), SupportedModel("Qwen/Qwen3-0.6B", 10)]
    check(["Qwen/Qwen3-8B"], known)
    with pytest.raises(Failure) as caught:
        check(["Qwen/Qwen3-8B", name], known)
    assert caught.value.exit_code == 2
    assert words in caught.value.message
