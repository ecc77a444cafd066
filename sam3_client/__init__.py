"""A client of sam3-service that needs numpy and urllib3 alone."""

from sam3_client.client import Options, Prompt, Sam3Client
from sam3_client.errors import (
    BadRequest,
    Forbidden,
    NotFound,
    Problem,
    Sam3Error,
    ServerFault,
    TooLarge,
    Unavailable,
    Unreachable,
)
from sam3_client.identity import IdentityTokens
from sam3_client.results import Image, Model, PromptResult, Segmentation
from sam3_client.transport import Backoff

__all__ = [
    "Backoff",
    "BadRequest",
    "Forbidden",
    "IdentityTokens",
    "Image",
    "Model",
    "NotFound",
    "Options",
    "Problem",
    "Prompt",
    "PromptResult",
    "Sam3Client",
    "Sam3Error",
    "Segmentation",
    "ServerFault",
    "TooLarge",
    "Unavailable",
    "Unreachable",
]
