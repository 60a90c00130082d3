"""A model over HTTP, as OpenAI's clients expect it."""

from axlearn_inference.chat import ChatError, ChatTemplate
from axlearn_inference.server.api import Api
from axlearn_inference.server.options import Options
from axlearn_inference.server.running import Server, listen, log_to_stderr, url_of
from axlearn_inference.server.scripted import Scripted
from axlearn_inference.server.serving import Constraints, Load, Served, Serving, Stats

__all__ = [
    "Api",
    "ChatError",
    "ChatTemplate",
    "Constraints",
    "Load",
    "Options",
    "Scripted",
    "Served",
    "Server",
    "Serving",
    "Stats",
    "listen",
    "log_to_stderr",
    "url_of",
]
