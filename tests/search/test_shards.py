"""Parts of a collection choose and score as the whole does."""

from dataclasses import replace

import numpy as np
import pytest

from regard.files import InputError
from regard.search.index import Index, Query
from regard.search.query import best_rows
from regard.search.shards import (
    IdTable,
    ScoredPart,
    ShortlistPart,
    hash_of_id,
    hashes_of,
    ids_from,
    merge_scores,
    merge_shortlists,
    score,
    shortlist,
)


def test_of_equal_products_the_first_rows_are_chosen(index):
    snapshot = index.opened.snapshot
    zero = np.zeros(snapshot.summaries.shape[1], np.float32)
    assert best_rows(snapshot, zero, np.arange(len(snapshot)), 5).tolist() == [0, 1, 2, 3, 4]
    assert best_rows(snapshot, zero, np.arange(3, len(snapshot)), 4).tolist() == [3, 4, 5, 6]


@pytest.mark.parametrize("split", [7, 12, 20])
def test_merged_parts_are_the_answer_of_the_whole(index, split):
    """Parts of one index, by a condition on its rows, are merged to its own answer."""
    opened, names = index.opened, [f"'{id_}'" for id_ in index.opened.snapshot.ids]
    queries = [Query("w3 near w5, w1 w2"), Query("w7", minus="w2 near w4")]
    conditions = [f"id IN ({', '.join(own)})" for own in (names[:split], names[split:])]
    found = [shortlist(opened, queries, 9, where) for where in conditions]
    assert [count for count, _ in found] == [split, len(index) - split]
    expected = index.search(queries, k=5, shortlist=9, offset=2)
    for place, query in enumerate(queries):
        chosen = merge_shortlists({shard: parts[place] for shard, (_, parts) in enumerate(found)}, 9)
        assert sum(map(len, chosen.values())) == 9
        scored = {shard: score(opened, [query], [ids], 7)[0] for shard, ids in chosen.items()}
        hits = merge_scores(chosen, scored, 5, 2)
        assert [(hit.rank, hit.id, hit.gap) for hit in hits] == [
            (hit.rank, hit.id, hit.gap) for hit in expected[place].hits
        ]
        for hit, other in zip(hits, expected[place].hits, strict=True):
            assert replace(hit, score=0.0, parts={}) == replace(other, score=0.0, parts={})
            assert hit.score == pytest.approx(other.score, abs=1e-5)
            assert hit.parts == pytest.approx(other.parts, abs=1e-5)


def test_ties_are_merged_in_the_order_of_shards_and_rows():
    found = {
        1: ShortlistPart(["d", "e"], ["D", "E"], [1.0, 2.0]),
        0: ShortlistPart(["a", "b", "c"], ["A", "B", "C"], [1.0, 0.5, 1.0]),
    }
    assert merge_shortlists(found, 3) == {0: ["a", "c"], 1: ["e"]}
    scored = {0: ScoredPart([0.5, 0.7], {"a": {}, "c": {}}), 1: ScoredPart([0.7], {"e": {}})}
    hits = merge_scores({1: ["e"], 0: ["a", "c"]}, scored, 2)
    assert [(hit.rank, hit.id, hit.gap) for hit in hits] == [(1, "c", False), (2, "e", False)]
    assert merge_scores({}, {}, 10) == ()
    # The same content in two shards is one picture, so that it takes one place of the shortlist.
    again = {0: ShortlistPart(["a", "b"], ["A", "B"], [3.0, 1.0]), 1: ShortlistPart(["x"], ["A"], [3.0])}
    assert merge_shortlists(again, 2) == {0: ["a", "b"]}


def test_shards_are_compared_by_hashes_of_their_ids(index):
    opened = index.opened
    table = IdTable(hashes_of(opened))
    assert len(table) == len(opened.snapshot.row_of)
    for id_ in ("train3", "dev11"):
        place = table.place(hash_of_id(id_))
        assert ids_from(opened, place, 1) == [id_]
    assert table.place(hash_of_id("none")) is None
    other = IdTable(np.array([7, hash_of_id("dev4")], "<u8").tobytes())
    assert table.common(other) == [hash_of_id("dev4")]
    assert IdTable(b"").place(7) is None


def test_a_snapshot_has_a_name_of_its_own(index, tmp_path):
    before, same = index.opened.snapshot_id, Index(index.folder).opened.snapshot_id
    assert before == same
    index.remove(["train3"])
    assert index.opened.snapshot_id != before


def test_an_unknown_id_and_nan_are_refused(index):
    with pytest.raises(InputError, match=r"no picture 'trian3'\. Did you mean 'train3'"):
        score(index.opened, [Query("w1")], [["trian3"]], 1)
    index.opened.snapshot.summaries[4] = np.nan
    with pytest.raises(InputError, match="NaN"):
        shortlist(index.opened, [Query("w1")], 3)
