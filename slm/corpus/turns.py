"""A conversation: requests, and the answer to each."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple


class Turn(NamedTuple):
    """A request, and how it should be answered."""

    request: str
    answer: str
    wishes: Mapping[str, str] = MappingProxyType({})  # what can be checked of an answer: kind → value


Conversation = list[Turn]
