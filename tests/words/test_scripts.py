"""Sentences that are not read as expected are recognized, and what to do works."""

import pytest

from regard.files import InputError
from regard.words import Vocabulary
from regard.words.scripts import describe_sentences, is_english

ENGLISH = ["a man rides a horse .", "two dogs: one red, one brown", "the boy is at 10:30 o'clock"] * 10
GERMAN = ["Ein kleiner Junge fährt Fahrrad .", "Zwei Männer grüßen einen Hund ."] * 10
ARABIC = ["رجل يركب حصانا", "كلب يجري في الثلج"] * 10
CHINESE = ["一个小男孩正在玩呼啦圈", "一条狗追着一个男人跑"] * 10
THAI = ["ผู้ชายกำลังขี่ม้า", "สุนัขวิ่งในหิมะ"] * 10
SPACED = ["一个 小男孩 正在 玩 呼啦圈", "一条 狗 追着 一个 男人 跑"] * 10


@pytest.mark.parametrize("sentences", [ENGLISH, GERMAN, ARABIC, SPACED, [], ["", ""]])
def test_sentences_of_words_are_not_suspected(sentences):
    assert describe_sentences(sentences) == ""


@pytest.mark.parametrize(
    ("sentences", "what"),
    [
        (CHINESE, "script without spaces"),
        (THAI, "script without spaces"),
        ([f"b'{sentence}'" for sentence in ENGLISH], "as Python 3 prints bytes"),
        ([f"a.jpg#{number}\t{sentence}" for number, sentence in enumerate(ENGLISH)], "begin with the name of an image"),
        (["一个:m 小男孩:n 在:p 玩:v", "dogs:n run:v"], "contain parts of speech"),
    ],
)
def test_spoilt_sentences_are_described(sentences, what):
    assert what in describe_sentences(sentences)


def test_a_vocabulary_needs_separate_words():
    with pytest.raises(InputError, match=r"script without spaces.* separate the words by spaces"):
        Vocabulary.build(CHINESE, min_count=1)
    assert Vocabulary.build(iter(SPACED), min_count=10).number("男人") > 3


def test_english_is_told_from_other_languages():
    assert is_english(ENGLISH)
    assert is_english(["zwei Hunde"])  # too few words
    for sentences in (GERMAN, ARABIC, CHINESE * 10, SPACED):
        assert not is_english(sentences)
