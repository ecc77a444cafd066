"""`sam3 deployed`: what Terraform has made, as commands to try it with."""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from service.core.naming import gs_uri, output_name

_DEMO = Path("service/models/demo/scene.png")


class NotDeployed(Exception):
    """There is no service to try yet; the text says what is missing, in one line."""


@dataclass(frozen=True)
class Deployed:
    """The outputs of `terraform/` that a caller needs; places are `gs://bucket/prefix`."""

    service_url: str
    uploads: str
    results: str

    @classmethod
    def read(cls, outputs: TextIO) -> Deployed:
        """From what `terraform output -json` prints, which leaves out outputs without a value; else NotDeployed."""
        try:
            values = {name: each["value"] for name, each in json.load(outputs).items()}
            found = cls(values.get("service_url", ""), values["input_buckets"][0], values["output_bucket"])
        except (ValueError, KeyError, TypeError, AttributeError, IndexError):
            raise NotDeployed(
                "these are no outputs of terraform/; give what `terraform -chdir=terraform output -json` prints"
            ) from None
        if not found.service_url:
            raise NotDeployed("there is no service yet; apply with an image")
        return found

    def result_of(self, upload: str) -> str:
        """Where the result of an upload appears: docs/events.md#output."""
        bucket, _, name = upload.removeprefix("gs://").partition("/")
        output_bucket, _, prefix = self.results.removeprefix("gs://").partition("/")
        return gs_uri(output_bucket, output_name(prefix, bucket, name))


def register(subparsers: Any, purpose: str) -> None:
    """Add `sam3 deployed`."""
    parser = subparsers.add_parser(
        "deployed",
        help=purpose,
        description=f"{purpose}; give it what `terraform -chdir=terraform output -json` prints",
    )
    parser.add_argument("--image", type=Path, default=_DEMO, metavar="FILE", help=f"image to send ({_DEMO})")
    parser.add_argument("--prompt", default="strawberry", metavar="TEXT", help="what to look for (strawberry)")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Print the commands: 0; 1 when standard input names no service."""
    try:
        print("\n".join(commands(Deployed.read(sys.stdin), arguments.image, arguments.prompt)))
    except NotDeployed as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def commands(deployed: Deployed, image: Path, prompt: str) -> list[str]:
    """Lines for a shell: a request to /segment, then an upload with its prompts, and its result."""
    upload, sidecar = deployed.uploads + image.name, f"{deployed.uploads}{image.stem}.prompts.json"
    words = {
        "image": f"image=@{image}",
        "prompts": f"prompts={prompt}",
        "url": f"{deployed.service_url}/segment",
        "file": str(image),
        "list": json.dumps([prompt]),
        "upload": upload,
        "sidecar": sidecar,
        "result": deployed.result_of(upload),
    }
    return _lines({name: shlex.quote(word) for name, word in words.items()})


def _lines(word: Mapping[str, str]) -> list[str]:
    return [
        "# Ask directly, as one of the invokers. An instance may have to start first.",
        'curl --fail-with-body --retry 8 --header "Authorization: Bearer $(gcloud auth print-identity-token)"'
        f" --form {word['image']} --form-string {word['prompts']} {word['url']}",
        "",
        "# Or drop a file, its prompts first.",
        f"printf %s {word['list']} | gcloud storage cp - {word['sidecar']}",
        f"gcloud storage cp {word['file']} {word['upload']}",
        f"until gcloud storage cat {word['result']}; do sleep 5; done",
    ]
