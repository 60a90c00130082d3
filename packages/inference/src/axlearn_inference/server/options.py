"""How a server behaves, whatever model it has."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Options:
    """What an operator chooses.

    Attributes:
        api_key: that clients must give; None asks for none.
        timeout: seconds that a request may take, and the most that it may ask for.
        grace: seconds that running requests get to end when the server is told to stop.
        max_body: bytes of a request.
        hosts: names by which clients may call the server; empty allows all. Guards a server on the
            loopback interface against pages whose name is made to lead there (DNS rebinding).
        origins: of pages on other servers that may use this one (CORS).
    """

    api_key: str | None = None
    timeout: float = 600.0
    grace: float = 30.0
    max_body: int = 4 << 20
    hosts: tuple[str, ...] = ()
    origins: tuple[str, ...] = ()
