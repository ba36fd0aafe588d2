import json
import pickle

import pytest
import torch

from regard.files import InputError
from regard.words import Vocabulary, word_vectors

CAPTIONS = ["A dog runs.", "A dog sits", "The dog's bone", "A cat"]


@pytest.fixture
def vocabulary():
    return Vocabulary.build(CAPTIONS, min_count=1)


def test_build_keeps_frequent_words_whatever_the_order():
    built = Vocabulary.build(iter(CAPTIONS), min_count=2)
    assert built.entries == ("<pad>", "<start>", "<end>", "<unk>", "a", "dog")
    assert Vocabulary.build(CAPTIONS[::-1], min_count=1) == Vocabulary.build(CAPTIONS, min_count=1)
    with pytest.raises(InputError, match=r"None of the captions' 8 words occurs 5 times: .* smaller min_count"):
        Vocabulary.build(CAPTIONS, min_count=5)


def test_texts_are_padded_with_zero_under_a_mask(vocabulary):
    texts = vocabulary(["a dog", "the unheard-of dog runs"])
    assert texts.tokens.dtype == torch.int64
    assert [[vocabulary.entries[n] for n in row] for row in texts.tokens] == [
        ["<start>", "a", "dog", "<end>", "<pad>", "<pad>"],
        ["<start>", "the", "<unk>", "dog", "runs", "<end>"],
    ]
    assert texts.mask.tolist() == [[True] * 4 + [False] * 2, [True] * 6]
    assert texts.words is None


def test_words_are_the_fragments(vocabulary):
    for caption in [*CAPTIONS, "", "...", "x " * 100]:
        assert len(vocabulary.words(caption)) == int(vocabulary([caption]).mask.sum())
    assert vocabulary.words("Unheard dog") == ["<start>", "unheard", "dog", "<end>"]
    assert vocabulary.offset == 1


def test_with_punctuation(tmp_path):
    vocabulary = Vocabulary.build(CAPTIONS, min_count=1, punctuation=True)
    assert vocabulary.entries[4:] == ("a", "dog", "'s", ".", "bone", "cat", "runs", "sits", "the")
    assert vocabulary.words("The cat's bone.") == ["<start>", "the", "cat", "'s", "bone", ".", "<end>"]
    assert vocabulary.number("'s") != vocabulary.unknown_number == vocabulary.number("bone's")
    assert vocabulary.unknown(["a dog, a cat."]) == 1 / 6
    assert vocabulary.offset is None
    vocabulary.save(tmp_path)
    assert Vocabulary.load(tmp_path) == vocabulary
    saved = json.loads((tmp_path / "vocabulary.json").read_text())
    del saved["punctuation"]  # as older runs
    (tmp_path / "vocabulary.json").write_text(json.dumps(saved))
    assert not Vocabulary.load(tmp_path).punctuation


def test_without_boundaries():
    bare = Vocabulary.build(CAPTIONS, min_count=1, boundaries=False)
    assert bare.words("A dog") == ["a", "dog"]
    assert bare.offset == 0
    assert bare.words("!") == ["<unk>"]
    assert bare(["!"]).tokens.tolist() == [[bare.number_of["<unk>"]]]


def test_an_empty_caption_is_its_boundaries(vocabulary):
    assert vocabulary([""]).mask.sum() == 2
    assert len(vocabulary([])) == 0


def test_long_captions_are_cut(vocabulary):
    assert vocabulary(["dog " * 100]).tokens.shape == (1, vocabulary.max_words + 2)


def test_possessives_fall_back_on_their_stem(vocabulary):
    assert vocabulary.number("dog's") != vocabulary.number("dog")  # seen itself
    assert vocabulary.number("cat's") == vocabulary.number("cat")
    assert vocabulary.number("lion's") == vocabulary.number("<unk>")


def test_unknown_fraction(vocabulary):
    assert vocabulary.unknown(["a lion", "a dog"]) == 0.25
    assert vocabulary.unknown([""]) == 0


@pytest.mark.parametrize("boundaries", [True, False])
def test_save_and_load(tmp_path, boundaries):
    vocabulary = Vocabulary.build(["über café", "a"], 1, boundaries)
    vocabulary.save(tmp_path)
    vocabulary.save(tmp_path / "other.json")
    assert Vocabulary.load(tmp_path) == Vocabulary.load(tmp_path / "other.json") == vocabulary


@pytest.mark.parametrize(
    "specials", [("<pad>", "<start>", "<end>", "<unk>"), ("<pad>", "<unk>", "<start>", "<end>")], ids=["scan", "naaf"]
)
def test_published_orders(tmp_path, specials):
    words = [*specials, "dog", "."]
    numbers = {word: number for number, word in enumerate(words)}
    path = tmp_path / "f30k_precomp_vocab.json"
    path.write_text(json.dumps({"word2idx": numbers, "idx2word": {}, "idx": len(words)}))
    loaded = Vocabulary.load(path)
    assert loaded.entries == tuple(words)
    assert loaded.unknown_number == numbers["<unk>"]
    row = [numbers[word] for word in ("<start>", "<unk>", "dog", "<end>")]
    assert loaded(["Hot dog."]).tokens.tolist() == [row]


def test_what_is_no_vocabulary_is_refused(tmp_path):
    path = tmp_path / "v.json"
    for content, message in [
        (pickle.dumps({"word2idx": {}}), "is a pickle, and reading a pickle can run code"),
        (b"{", "v.json is not JSON"),
        (b"[1]", 'contains neither "entries" nor "word2idx"'),
        (json.dumps({"word2idx": {"<pad>": 0, "a": 2}}).encode(), "gives 'a' the number 2: expected 0, 1, 2"),
        (json.dumps({"word2idx": {"<pad>": 0, "a": 1}}).encode(), "lacks .*<start>.*expected <pad> as number 0"),
    ]:
        path.write_bytes(content)
        with pytest.raises(InputError, match=message):
            Vocabulary.load(path)
    with pytest.raises(InputError, match=r"vocabulary.json is not there"):
        Vocabulary.load(tmp_path / "absent")
    (tmp_path / "old.pkl").write_bytes(b"(dp0\n.")
    with pytest.raises(InputError, match="is a pickle"):
        Vocabulary.load(tmp_path / "old.pkl")


@pytest.mark.parametrize("header", ["", "4 3\n"], ids=["glove", "word2vec"])
def test_word_vectors(tmp_path, vocabulary, header):
    path = tmp_path / "vectors.txt"
    path.write_text(header + "dog 1 2 3\n. . . 4 5 6\nlion 7 8 9\ncat -1 0.5 2e-1 \n", encoding="utf-8")
    vectors, found = word_vectors(path, vocabulary)
    assert (vectors.shape, found) == ((len(vocabulary), 3), 2)
    assert torch.equal(vectors[vocabulary.number("dog")], torch.tensor([1.0, 2, 3]))
    assert torch.equal(vectors[vocabulary.number("cat")], torch.tensor([-1, 0.5, 0.2]))
    assert not vectors[0].any()
    rest = vectors[vocabulary.number("bone")]
    assert rest.any()
    assert (rest.abs() <= 0.1).all()
    assert torch.equal(vectors, word_vectors(path, vocabulary)[0])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("dog 1 2\ncat 1\n", r"line 2 has 1 numbers after 'cat': expected 2\."),
        ("dog 1 2\nlion 1 2 3\n", r"line 2 has 3 numbers after 'lion': expected 2\."),
        ("dog 1 x\n", r"line 1 \('dog'\) contains 'x'"),
        ("dog 1 nan\n", r"line 1 \('dog'\) contains 'nan'"),
        ("dog\n", r"line 1 has 0 numbers after 'dog': expected some"),
        ("", "is empty"),
    ],
)
def test_word_vectors_name_the_line(tmp_path, vocabulary, content, message):
    path = tmp_path / "vectors.txt"
    path.write_text(content)
    with pytest.raises(InputError, match=message):
        word_vectors(path, vocabulary)


def test_absent_word_vectors(tmp_path, vocabulary):
    with pytest.raises(InputError, match=r"glove.txt is not a file: expected a text file"):
        word_vectors(tmp_path / "glove.txt", vocabulary)
