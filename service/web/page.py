"""GET /: the playground, one static page that asks /segment."""

from __future__ import annotations

from importlib.resources import files

from flask import Blueprint, Response

# Nothing but this service's own files and answers, no inline scripts; the picture that was chosen is a blob.
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


def blueprint() -> Blueprint:
    """The page and what it loads, under /playground."""
    door = Blueprint("playground", __name__, static_folder="playground", static_url_path="/playground")
    html = files(__package__).joinpath("playground", "index.html").read_text(encoding="utf-8")

    @door.get("/")
    def page() -> Response:
        return Response(html, content_type="text/html; charset=utf-8")

    @door.after_request
    def guarded(answer: Response) -> Response:
        answer.headers["Content-Security-Policy"] = _POLICY
        answer.headers["X-Content-Type-Options"] = "nosniff"
        answer.headers["Referrer-Policy"] = "no-referrer"
        return answer

    return door
