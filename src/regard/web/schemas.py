"""The bodies of requests and answers, from which the OpenAPI document is made."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from regard.web.settings import MAX_FILTERS, MAX_K, MAX_QUERIES, MAX_SHORTLIST, MAX_TEXT, MAX_VALUES

Text = Annotated[str, Field(max_length=MAX_TEXT)]
Scalar = bool | int | float | str


class RequestBody(BaseModel):
    """A body without unknown keys, whose values are not converted: "10" is not a number."""

    model_config = ConfigDict(strict=True, extra="forbid")


class SearchQuery(RequestBody):
    """What the pictures should show: a sentence, or a picture of the collection."""

    sentence: Text = Field("", description="What the pictures should show.")
    minus: Text = Field("", description="What they should not show.")
    image: str = Field("", max_length=1000, description="The id of a picture that they should resemble.")


class Filter(RequestBody):
    """A condition on an exposed column."""

    column: str = Field(max_length=200)
    op: Literal["=", "!=", "<", "<=", ">", ">=", "contains", "in"]
    value: Scalar | Annotated[list[Scalar], Field(max_length=MAX_VALUES)]


class SearchRequest(RequestBody):
    """One or more queries, each of which is answered with its best pictures."""

    queries: list[SearchQuery] = Field(min_length=1, max_length=MAX_QUERIES)
    k: int = Field(12, ge=1, le=MAX_K, description="Number of pictures per query.")
    shortlist: int | None = Field(
        None, ge=0, le=MAX_SHORTLIST, description="Pictures scored exactly. null: chosen automatically. 0: all."
    )
    filters: list[Filter] = Field([], max_length=MAX_FILTERS, description="Conditions that all must hold.")
    cursor: str | None = Field(None, max_length=500, description="`next` of an answer to the same queries.")


class VersionedResponse(BaseModel):
    """What every answer about the collection has."""

    version: int = Field(description="Version of the collection.")
    fingerprint: str = Field(description="Fingerprint of the model.")
    seconds: dict[str, float] = Field(description="Time spent in each phase.")


class SearchResponse(VersionedResponse):
    """The answers, in the order of the queries."""

    answers: list[dict[str, Any]]
    next: str | None = Field(description="The cursor of the following page; null on the last page.")


class ExplainResponse(VersionedResponse):
    """How the score of one picture and one sentence came about."""

    explanation: dict[str, Any]


class ItemResponse(VersionedResponse):
    """One picture: its regions, their relations, and the exposed columns."""

    id: str
    width: int | None
    height: int | None
    boxes: list[list[float]] = Field(description="x1 y1 x2 y2 of each region, as fractions.")
    labels: list[str]
    relations: list[tuple[int, str, int]] = Field(description="Subject region, predicate, object region.")
    columns: dict[str, Any]


class ChangeResponse(VersionedResponse):
    """What a change of the collection did."""

    id: str
    changed: bool = Field(description="False if the picture was in the collection already.")


class CollectionResponse(VersionedResponse):
    """What can be searched."""

    items: int
    columns: dict[str, str] = Field(description="The exposed columns, with their types.")
    writable: bool
    image_queries: bool = Field(description="Whether a query may be a picture of the collection.")
    limits: dict[str, int]


class ShardRequest(RequestBody):
    """One step of a search over shards: make a shortlist, or score the pictures `ids` exactly."""

    fingerprint: str = Field(max_length=200, description="Fingerprint of the model.")
    snapshot: str = Field(max_length=200, description="Snapshot of the index; see `GET /v1/shards/{n}`.")
    queries: list[SearchQuery] = Field(min_length=1, max_length=MAX_QUERIES, description="Sentences.")
    k: int = Field(ge=1, le=MAX_SHORTLIST, description="Pictures of a shortlist; with `ids`, those whose parts return.")
    filters: list[Filter] = Field([], max_length=MAX_FILTERS, description="Conditions that the shortlist must hold.")
    ids: list[Annotated[list[str], Field(max_length=MAX_SHORTLIST)]] | None = Field(
        None, max_length=MAX_QUERIES, description="For each query, the pictures to score exactly. null: a shortlist."
    )


class ShardShortlist(BaseModel):
    """The best pictures of a shard for one query, in the order of its rows."""

    ids: list[str]
    keys: list[str] = Field(description="A hash of the content of each picture.")
    summaries: list[float] = Field(description="The score of each picture by summary vectors.")


class ShardScores(BaseModel):
    """The exact scores of the pictures that were given for one query."""

    scores: list[float] = Field(description="In the order of `ids`.")
    parts: dict[str, dict[str, float]] = Field(description="The addends of the scores of the `k` best, by id.")


class ShardResponse(VersionedResponse):
    """What one step of a search over shards found, in the order of the queries."""

    snapshot: str
    candidates: int = Field(description="Pictures that the filters admit; 0 if `ids` were given.")
    shortlists: list[ShardShortlist] = Field(description="Without `ids`.")
    scores: list[ShardScores] = Field(description="With `ids`.")


class ShardDescription(VersionedResponse):
    """What a shard contains, and what requests to it must agree with."""

    snapshot: str = Field(description="Names this version of this index: the pictures that it contains.")
    items: int
    columns: dict[str, str] = Field(description="The exposed columns, with their types.")
    is_exact: bool = Field(description="False if the index has no run, and ranks by summary vectors alone.")


class IdsResponse(VersionedResponse):
    """Ids of a shard, in the order of the hashes."""

    ids: list[str]


class MissingShard(BaseModel):
    """A shard whose pictures are not in an answer."""

    shard: int = Field(description="Its place in `--shards`, from 0.")
    reason: str


class MergedResponse(SearchResponse):
    """The answers of all shards as one."""

    partial: list[MissingShard] = Field(description="Shards whose pictures are not in the answers. Empty: none.")


class MergedHealth(BaseModel):
    """The server answers."""

    status: Literal["ok", "partial"]
    partial: list[MissingShard]


class SessionResponse(BaseModel):
    """The browser may read from now on."""

    status: str


class HealthResponse(BaseModel):
    """The server answers, and so does its collection."""

    status: str
