"""Results that a sidecar sends elsewhere: the sidecar must be read to know where."""

from __future__ import annotations

from cachetools import LRUCache

from service.core.naming import error_name, gs_uri
from service.core.outputs import Output
from service.core.prompts import parse_sidecar
from service.errors import BadSidecar, NotFound, TooLarge
from service.gcp.storage import ObjectStore
from service.settings import Settings
from service.worker.bounded import read_within
from tools.status.states import Sources, Verdict, judge, output_taken
from tools.status.walk import Around


class Elsewhere:
    """Looks where the `output` of an image's JSON sidecar says: two calls an image, one while its sidecar is known.

    The last `remembered` sidecars are.
    """

    def __init__(self, store: ObjectStore, bucket: str, settings: Settings, remembered: int = 10_000) -> None:
        self._store = store
        self._bucket = bucket
        self._limits = settings.limits
        self._max_bytes = settings.max_sidecar_bytes
        self._known: LRUCache[tuple[str, int], Output | None] = LRUCache(remembered)

    def judge(self, around: Around, sources: Sources) -> Verdict | None:
        """How far an image is whose live sidecar names an output; None where that names none. CloudUnavailable."""
        output = self._output(around, sources)
        if output is None:
            return None
        names = (output.name, error_name(output.name))
        found = list(self._store.stat_all(output.bucket, names).values())
        around.elsewhere = [gs_uri(output.bucket, document.name) for document in found]
        return output_taken(found) or judge(around.image, found, names[1], sources)

    def _output(self, around: Around, sources: Sources) -> Output | None:
        wanted = sources.live.uri if sources.live and sources.live.kind == "sidecar" else None
        sidecar = next((each for each in around.sidecars if gs_uri(self._bucket, each.name) == wanted), None)
        if sidecar is None or not sidecar.name.endswith(".json"):
            return None
        key = sidecar.name, sidecar.generation
        if key not in self._known:
            try:
                data = read_within(self._store, self._bucket, sidecar, self._max_bytes, "MAX_SIDECAR_BYTES")
                self._known[key] = parse_sidecar(sidecar.name, data, self._limits).output
            except (BadSidecar, TooLarge, NotFound):  # the service will say so, or its newer event will
                return None
        return self._known[key]
