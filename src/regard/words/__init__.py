"""Captions to the tokens that models encode: words by number, or a pretrained model's word pieces."""

from regard.words.tokens import tokenize
from regard.words.vocabulary import Vocabulary, word_vectors

__all__ = ["Vocabulary", "tokenize", "word_vectors"]
