"""The page itself: one HTML file and its scripts and styles, as they are in `static`. There is no build step."""

from __future__ import annotations

from importlib.resources import files
from typing import Final

from fastapi import APIRouter, HTTPException, Response

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


@router.get("/static/{name}")
def static(name: str) -> Response:
    return _file(name)


def _file(name: str) -> Response:
    if name not in STATIC:
        raise HTTPException(404, "there is no such file")
    return Response(STATIC[name], media_type=f"{TYPES[name.rpartition('.')[2]]}; charset=utf-8")
