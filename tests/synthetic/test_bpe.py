from __future__ import annotations

from pathlib import Path

import open_clip
import pytest

from ovsr_gpu.synthetic.bpe import learn_merges, vocabulary_size, write_merges


def test_most_frequent_pair_first_ties_alphabetical() -> None:
    assert learn_merges(["abab", "ab"]) == [("a", "b</w>"), ("a", "b"), ("ab", "ab</w>")]
    assert learn_merges(["cd", "ab"]) == [("a", "b</w>"), ("c", "d</w>")]
    assert learn_merges(["a", ""]) == []


def test_open_clip_reads_known_words_as_one_token(tmp_path: Path) -> None:
    merges = learn_merges(["a photo of a red star.", "something else", "the star's ring"])
    write_merges(merges, tmp_path / "merges.gz")
    tokenizer = open_clip.SimpleTokenizer(str(tmp_path / "merges.gz"), context_length=16)
    assert tokenizer.vocab_size == vocabulary_size(merges)
    assert len(tokenizer.encode("a photo of a red star")) == 6
    assert tokenizer.decode(tokenizer.encode("star zebra")).strip() == "star zebra"
    assert len(tokenizer.encode("zebra")) > 1
    tokens = tokenizer("red star")[0].tolist()
    assert tokens[0] == tokenizer.sot_token_id and tokens[3] == tokenizer.eot_token_id and not any(tokens[4:])


def test_file_depends_on_the_merges_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    merges = learn_merges(["red star", "blue ring"])
    write_merges(merges, tmp_path / "a.gz")
    monkeypatch.setattr("time.time", lambda: 1e9)
    write_merges(merges, tmp_path / "b.gz")
    assert (tmp_path / "a.gz").read_bytes() == (tmp_path / "b.gz").read_bytes()
