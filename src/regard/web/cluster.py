"""The shards of a front server: which of them answer, what they contain, and requests to them."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import httpx
from pydantic import BaseModel, ValidationError

from regard.files import InputError
from regard.search.shards import IdTable, hash_of_id
from regard.web import schemas
from regard.web.problem import MEDIA_TYPE, Problem
from regard.web.settings import Settings

log = logging.getLogger(__name__)
Body = TypeVar("Body", bound=BaseModel)

RETRY = {"Retry-After": "5"}  # of answers about a shard that is missing
CONNECT_SECONDS = 2.0  # to open a connection to a shard
PASSED_ON = (408, 413, 422, 429)  # answers of a shard about the request, which the front server gives as its own


class ShardFault(Exception):
    """A shard cannot be used; the text says why."""


class ShardSilent(ShardFault):
    """A shard does not answer at all."""


class ShardChanged(Exception):
    """A shard has another snapshot or model than it had when it was described."""


class Shard:
    """One shard. It is used while `fault` is empty."""

    def __init__(self, number: int, url: str) -> None:
        self.number, self.url = number, url.rstrip("/")
        self.fault, self.is_silent = "it has not been asked yet", True
        self.about: schemas.ShardDescription | None = None  # as it was last seen
        self.ids: IdTable | None = None

    @property
    def known(self) -> schemas.ShardDescription:
        """What the shard contains, which is known once it has been used."""
        assert self.about is not None
        return self.about


class Cluster:
    """The shards of a collection. Raises InputError if an address is none."""

    def __init__(self, urls: Iterable[str], settings: Settings) -> None:
        self.settings, self.shards = settings, [Shard(number, url) for number, url in enumerate(urls)]
        for shard in self.shards:
            try:
                is_address = httpx.URL(shard.url).scheme in ("http", "https") and bool(httpx.URL(shard.url).host)
            except httpx.InvalidURL:
                is_address = False
            if not is_address:
                raise InputError(f"{shard.url!r} is no address of a shard: expected one such as http://10.0.0.7:8000.")
        self._client: httpx.AsyncClient | None = None
        self._deciding: asyncio.Lock | None = None

    @property
    def used(self) -> list[Shard]:
        """The shards that answer."""
        return [shard for shard in self.shards if not shard.fault]

    @property
    def faults(self) -> dict[int, str]:
        """Why the other shards are not used, by their number."""
        return {shard.number: shard.fault for shard in self.shards if shard.fault}

    @asynccontextmanager
    async def connected(self) -> AsyncIterator[None]:
        """Keep connections to the shards during the block."""
        # The token is that of the front server: one collection, one token.
        headers = {"Authorization": f"Bearer {self.settings.token}"} if self.settings.token else {}
        timeout = httpx.Timeout(self.settings.seconds, connect=CONNECT_SECONDS)
        self._deciding = asyncio.Lock()
        async with httpx.AsyncClient(headers=headers, timeout=timeout) as self._client:
            yield

    async def check(self, allow_silent: bool = False) -> None:
        """Look at all shards. Raises InputError if one cannot be used.

        With `allow_silent`, shards may be missing that do not answer, but not all of them.
        """
        async with self.connected():
            for shard in self.shards:  # one after the other, so that of two that disagree the later one is named
                await self.look(shard)
        for shard in self.shards:
            if shard.fault and not (allow_silent and shard.is_silent and self.used):
                raise InputError(f"Shard {shard.number} at {shard.url} cannot be used: {shard.fault}.")

    async def watch(self) -> None:
        """Look at each shard again and again: whether it is back, and whether it has a new snapshot."""

        async def watch_one(shard: Shard) -> None:
            while True:
                await asyncio.sleep(self.settings.refresh_seconds)
                await self.look(shard)

        await asyncio.gather(*map(watch_one, self.shards))

    # Looking at a shard -----------------------------------------------------------------------------------------------

    async def look(self, shard: Shard) -> None:
        """Read what a shard contains now, and decide whether it is used."""
        assert self._deciding is not None
        try:
            about = await self.ask(shard, "", schemas.ShardDescription)
            ids = shard.ids
            if ids is None or about.snapshot != shard.known.snapshot:
                ids = IdTable((await self.fetch(shard, f"/hashes?snapshot={about.snapshot}")).content)
            async with self._deciding:
                if shard.fault or ids is not shard.ids or about.fingerprint != shard.known.fingerprint:
                    await self._compare(shard, about, ids)
                    fields = {"shard": shard.number, "url": shard.url, "items": about.items}
                    log.info("shard used", extra={**fields, "snapshot": about.snapshot})
                shard.about, shard.ids, shard.fault = about, ids, ""
        except ShardFault as fault:
            self._leave(shard, str(fault), isinstance(fault, ShardSilent))
        except ShardChanged:
            self._leave(shard, "its index is changing")  # it is looked at again
        except Problem as problem:
            self._leave(shard, problem.detail)

    def _leave(self, shard: Shard, fault: str, is_silent: bool = False) -> None:
        if not shard.fault:  # it was used until now
            log.warning("shard missing", extra={"shard": shard.number, "url": shard.url, "reason": fault})
        shard.fault, shard.is_silent = fault, is_silent

    async def _compare(self, shard: Shard, about: schemas.ShardDescription, ids: IdTable) -> None:
        """Raise ShardFault if a shard does not fit those that are used: another model, or an id that both have."""
        for other in self.used:
            if other is shard:
                continue
            if about.fingerprint != other.known.fingerprint:
                raise ShardFault(
                    f"its model has the fingerprint {about.fingerprint}, and that of shard {other.number} has "
                    f"{other.known.fingerprint}"
                )
            assert other.ids is not None
            for hash_ in ids.common(other.ids):
                place, place_there = ids.place(hash_), other.ids.place(hash_)
                id_ = await self._id_at(shard, about, place)
                if id_ == await self._id_at(other, other.known, place_there):  # and not only of the same hash
                    raise ShardFault(f"the picture {id_!r} is also in shard {other.number}: an id may be in one only")

    async def _id_at(self, shard: Shard, about: schemas.ShardDescription, place: int | None) -> str:
        rest = f"/ids?snapshot={about.snapshot}&first={place}&count=1"
        return (await self.ask(shard, rest, schemas.IdsResponse)).ids[0]

    # Requests ---------------------------------------------------------------------------------------------------------

    async def send(
        self,
        shard: Shard,
        method: str,
        path: str,
        body: dict[str, Any] | None = None,
        headers: dict[str, str] | None = None,
    ) -> httpx.Response:
        """Send a request to a shard, and return whatever it answers. Raises ShardFault if it does not answer."""
        assert self._client is not None
        seconds = self.settings.shard_seconds
        try:
            async with asyncio.timeout(seconds):
                return await self._client.request(method, shard.url + path, json=body, headers=headers)
        except (TimeoutError, httpx.TimeoutException):
            raise ShardSilent(f"it did not answer within {seconds:g} s") from None
        except httpx.HTTPError as error:
            raise ShardSilent(f"it does not answer ({type(error).__name__})") from None

    async def fetch(self, shard: Shard, rest: str, body: dict[str, Any] | None = None) -> httpx.Response:
        """Send a request to an endpoint of a shard; with a body, by POST.

        Raises ShardFault if it does not answer or has failed, ShardChanged if it is not what it was (409), and Problem
        if it refuses the request.
        """
        path = f"/v1/shards/{shard.number}{rest}"
        response = await self.send(shard, "POST" if body else "GET", path, body)
        if response.is_success:
            return response
        detail = _detail(response)
        if response.status_code in PASSED_ON:
            after = response.headers.get("Retry-After")
            headers = {"Retry-After": after} if after else None
            raise Problem(response.status_code, f"Shard {shard.number}: {detail}", headers)
        if response.status_code == 409:
            raise ShardChanged(detail)
        raise ShardFault(f"it answers {response.status_code}: {detail.rstrip('.')}")

    async def ask(self, shard: Shard, rest: str, kind: type[Body], body: dict[str, Any] | None = None) -> Body:
        """Send a request to an endpoint of a shard, and return the answer; see `fetch`."""
        response = await self.fetch(shard, rest, body)
        try:
            return kind.model_validate_json(response.content)
        except ValidationError:
            raise ShardFault("its answer is not that of `regard serve` of this version") from None

    async def search(
        self, shards: Iterable[Shard], body_of: Callable[[Shard], dict[str, Any]]
    ) -> tuple[dict[int, schemas.ShardResponse], dict[int, str]]:
        """Send a step of a search to shards at once, and return the answers, and the faults of the others, by number.

        The request is about the present snapshot, unless `body_of` gives another one. Raises ShardChanged, after having
        looked at the shards again, and Problem if a shard refuses the request.
        """

        async def step(shard: Shard) -> schemas.ShardResponse:
            about = shard.known
            body = {"fingerprint": about.fingerprint, "snapshot": about.snapshot, **body_of(shard)}
            return await self.ask(shard, "/search", schemas.ShardResponse, body)

        shards = list(shards)
        results = await asyncio.gather(*map(step, shards), return_exceptions=True)
        answered, faults, changed = dict[int, schemas.ShardResponse](), dict[int, str](), []
        for shard, result in zip(shards, results, strict=True):
            if isinstance(result, schemas.ShardResponse):
                answered[shard.number] = result
            elif isinstance(result, ShardFault):
                self._leave(shard, str(result))
                faults[shard.number] = str(result)
            elif isinstance(result, ShardChanged):
                changed.append(shard)
            elif isinstance(result, BaseException):
                raise result
        if changed:
            await asyncio.gather(*map(self.look, changed))
            raise ShardChanged
        return answered, faults

    def owner(self, id_: str) -> Shard:
        """Return the shard that contains a picture. Raises Problem if none does (404), or if it is missing (503)."""
        hash_ = hash_of_id(id_)
        owners = [shard for shard in self.shards if shard.ids is not None and shard.ids.place(hash_) is not None]
        if owners:
            shard = min(owners, key=lambda shard: bool(shard.fault))
            if shard.fault:
                raise Problem(503, f"Shard {shard.number} has {id_!r}, and is missing: {shard.fault}.", RETRY)
            return shard
        if never_seen := [shard for shard in self.shards if shard.ids is None]:
            raise Problem(503, f"No shard has {id_!r}, but shard {never_seen[0].number} is missing.")
        raise Problem(404, f"No shard has a picture {id_!r}.")


def _detail(response: httpx.Response) -> str:
    """The line of a problem document, or else what the status means."""
    if response.headers.get("content-type", "").startswith(MEDIA_TYPE):
        try:
            return str(response.json()["detail"])
        except (ValueError, KeyError, TypeError):
            pass
    return response.reason_phrase or "an error"
