"""The shortlist of an index by Milvus, for those who run a Milvus cluster. The rows of the index stay in LanceDB.

`MilvusShortlist.mirror` copies keys and summary vectors of one version of an index to a collection. A search asks the
collection only if the index still has this version; otherwise the exact product in memory answers, so that no answer is
stale. The index type is FLAT, which is exact. A cluster may use another one: `regard index check` measures what it
finds.
"""

import hashlib
import os
from collections.abc import Callable
from functools import cached_property
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int

from regard.files import InputError, missing_extra
from regard.search.index_store import Snapshot

BATCH = 1000  # vectors per request
KEY_BYTES = 64
SECONDS = 2.0  # to answer a ping
TOKEN = "MILVUS_TOKEN"  # environment variable with the user and the password of the server
INDEX = {"index_type": "FLAT", "metric_type": "IP"}  # exact; a cluster may use another type


def collection_of(folder: Path, fingerprint: str, prefix: str) -> str:
    """Return the name of the collection of an index and its model, so that no other one writes into it."""
    return f"{prefix}_{hashlib.blake2b(f'{folder.resolve()} {fingerprint}'.encode(), digest_size=8).hexdigest()}"


class MilvusShortlist:
    """A collection of a Milvus server, by its address such as http://127.0.0.1:19530.

    Raises InputError if the server does not answer.
    """

    def __init__(self, address: str, collection: str = "regard") -> None:
        self.address, self.collection = address, collection
        try:
            from pymilvus import MilvusClient
            from pymilvus.exceptions import MilvusException
        except ImportError:
            raise missing_extra("A shortlist by Milvus requires pymilvus", "milvus") from None
        self._error = MilvusException
        try:
            self._client = MilvusClient(uri=address, token=os.environ.get(TOKEN, ""), timeout=10)
        except MilvusException as error:
            raise self._refusal(error) from None

    def ping(self) -> None:
        """Raise InputError if the server does not answer within SECONDS, or no longer has the collection."""
        try:
            if not self._client.has_collection(self.collection, timeout=SECONDS):
                raise InputError(
                    f"Milvus at {self.address} has no collection {self.collection}: `regard index mirror`."
                )
        except self._error as error:
            raise self._refusal(error) from None

    def mirror(self, snapshot: Snapshot, progress: Callable[[int, int], None] | None = None) -> int:
        """Make the collection equal to a version of an index, and return how many vectors it has sent or removed."""
        from pymilvus import DataType

        try:
            if not self._client.has_collection(self.collection):
                schema = self._client.create_schema(auto_id=False, enable_dynamic_field=False)
                schema.add_field("key", DataType.VARCHAR, is_primary=True, max_length=KEY_BYTES)
                schema.add_field("vector", DataType.FLOAT_VECTOR, dim=snapshot.summaries.shape[1])
                index = self._client.prepare_index_params()
                index.add_index("vector", **INDEX)
                self._client.create_collection(self.collection, schema=schema, index_params=index)
            self._client.load_collection(self.collection)
            known = self._keys()
            row_of = {key: row for row, key in enumerate(snapshot.keys)}
            removed = sorted(known - row_of.keys())
            added = [row for key, row in row_of.items() if key not in known]
            for first in range(0, len(removed), BATCH):
                self._client.delete(self.collection, ids=removed[first : first + BATCH])
            for first in range(0, len(added), BATCH):
                rows = added[first : first + BATCH]
                sent = [{"key": snapshot.keys[row], "vector": snapshot.summaries[row].tolist()} for row in rows]
                self._client.upsert(self.collection, sent)
                if progress:
                    progress(first + len(rows), len(added))
            self._client.flush(self.collection)
        except self._error as error:
            raise self._refusal(error) from None
        return len(added) + len(removed)

    def nearest(
        self, snapshot: Snapshot, vectors: Float[np.ndarray, "query dim"], count: int
    ) -> list[Int[np.ndarray, " best"]]:
        """Return the rows of a snapshot with the largest inner products, for each query, sorted."""
        row_of = self._rows_of(snapshot)
        try:
            found = self._client.search(self.collection, vectors.tolist(), limit=count, consistency_level="Strong")
        except self._error as error:
            raise self._refusal(error) from None
        return [
            np.sort([row_of[hit["key"]] for hit in hits if hit["key"] in row_of]).astype(np.int64) for hits in found
        ]

    def _keys(self) -> set[str]:
        rows = self._client.query_iterator(self.collection, filter="key != ''", output_fields=["key"], batch_size=BATCH)
        keys: set[str] = set()
        while batch := rows.next():
            keys.update(row["key"] for row in batch)
        rows.close()
        return keys

    def _rows_of(self, snapshot: Snapshot) -> dict[str, int]:
        version, rows = self._cached
        if version != snapshot.version:
            rows = {key: row for row, key in enumerate(snapshot.keys)}
            self._cached = snapshot.version, rows
        return rows

    @cached_property
    def _cached(self) -> tuple[int, dict[str, int]]:
        return -1, {}

    def _refusal(self, error: Exception) -> InputError:
        reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        return InputError(
            f"Milvus at {self.address} cannot be used ({reason}): start it, or end its use with `regard index mirror "
            f"INDEX none`."
        )
