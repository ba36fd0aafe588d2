"""Check the queries of a request."""

from collections.abc import Sequence

from regard.search import index as collections
from regard.web import schemas
from regard.web.problem import Problem
from regard.web.settings import MAX_WORDS


def check_words(sentence: str, place: str) -> None:
    """Raise Problem if a sentence has too many words."""
    count = len(sentence.split())
    if count > MAX_WORDS:
        raise Problem(422, f"{place} has {count:,} words: expected at most {MAX_WORDS}.")


def check_query(query: schemas.SearchQuery, place: str) -> collections.Query:
    """Return a query of the index. Raises Problem if it asks for nothing, or for too much."""
    sentence, minus = query.sentence.strip(), query.minus.strip()
    if not sentence and not query.image:
        raise Problem(422, f"{place}: the sentence is empty. Expected a sentence, or the id of a picture as image.")
    check_words(sentence, f"{place}.sentence")
    check_words(minus, f"{place}.minus")
    return collections.Query(sentence, minus, query.image)


def check_sentence_queries(queries: Sequence[schemas.SearchQuery], who: str) -> list[collections.Query]:
    """Return queries of the index that are sentences. Raises Problem as `check_query` does, and for one by a picture.

    `who` names what takes sentences only.
    """
    checked = [check_query(query, f"queries.{place}") for place, query in enumerate(queries)]
    for place, query in enumerate(checked):
        if query.image:
            raise Problem(422, f"queries.{place}.image: {who} has no queries by a picture. Expected a sentence.")
    return checked
