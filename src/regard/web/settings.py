"""What the server allows: the address, the token, the columns that leave it, and its limits."""

import ipaddress
from dataclasses import dataclass

from regard.files import InputError

MAX_K = 100  # pictures per answer
MAX_OFFSET = 10_000  # pictures before a page of results
MAX_SHORTLIST = 100_000
MAX_QUERIES = 16  # per request
MAX_WORDS = 100  # of a sentence
MAX_FILTERS = 16
MAX_VALUES = 100  # of a filter with the operator "in"
MAX_TEXT = 100_000  # characters of a sentence before its words are counted
MAX_IDS = 10_000  # ids of a shard per answer
MAX_SIDE = 2048  # pixels of a served picture's longer side
MIN_TOKEN = 16  # characters
LOOPBACK_NAMES = ("localhost", "127.0.0.1", "[::1]")


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The settings of one server."""

    host: str = "127.0.0.1"
    token: str = ""  # "": writing is off
    expose: tuple[str, ...] = ()  # the columns that leave the server
    queue: int = 64  # requests that wait for the worker; more are refused with 429
    batch: int = 32  # requests that are scored together
    seconds: float = 30.0  # that a request may take
    json_bytes: int = 2_000_000
    upload_bytes: int = 25_000_000
    shard_bytes: int = 25_000_000  # of a request to a shard, which may name many pictures
    shard_seconds: float = 10.0  # that a front server waits for each step of a shard
    upload_pixels: int = 50_000_000
    cache_bytes: int = 64_000_000  # of re-encoded pictures
    refresh_seconds: float = 1.0  # between two looks for a new version of the collection

    def __post_init__(self) -> None:
        if self.token and len(self.token) < MIN_TOKEN:
            raise InputError(
                f"The token has {len(self.token)} characters: expected at least {MIN_TOKEN}, such as the output of "
                "openssl rand -hex 16."
            )
        if not self.token.isascii() or not self.token.isprintable() or " " in self.token:
            raise InputError("The token must consist of printable ASCII characters without spaces.")
        if not self.is_loopback and not self.token:
            raise InputError(
                f"The host {self.host} can be reached by other machines, so that reading needs a token: set "
                "REGARD_TOKEN or --token, or use --host 127.0.0.1."
            )

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine reaches the server."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False
