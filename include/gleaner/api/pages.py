"""The page itself: one HTML file and its scripts and styles, as they are in `static`. There is no build step."""

from __future__ import annotations

from importlib.resources import files
from typing import Final

from fastapi import APIRouter, HTTPException, Request, Response

router: Final = APIRouter(include_in_schema=False)

TYPES: Final = {"html": "text/html", "js": "text/javascript", "css": "text/css", "svg": "image/svg+xml"}
STATIC: Final = {
    file.name: file.read_bytes()
    for file in files(__package__).joinpath("static").iterdir()
    if file.name.rpartition(".")[2] in TYPES
}


@router.get("/")
def index() -> Response:
    return _file("index.html")


def session_over(request: Request, error: HTTPException) -> Response | None:
    """For a browser that opens the page itself without a login: the same 401 in words, instead of JSON in a frame."""
    opened = request.method == "GET" and "text/html" in request.headers.get("Accept", "")
    if error.status_code != 401 or not opened:
        return None
    answer = _file("session.html")
    answer.status_code = 401
    return answer


@router.get("/static/{name}")
def static(name: str) -> Response:
    return _file(name)


def _file(name: str) -> Response:
    if name not in STATIC:
        raise HTTPException(404, "there is no such file")
    return Response(STATIC[name], media_type=f"{TYPES[name.rpartition('.')[2]]}; charset=utf-8")
