"""Puts the app together."""

from __future__ import annotations

from typing import Any

import psycopg
from fastapi import Depends, FastAPI, HTTPException, Request
from fastapi.exception_handlers import http_exception_handler
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response

from include.gleaner.api import access, content, metrics, pages, removal, runs, searching, sources
from include.gleaner.api.guard import Headers, same_page
from include.gleaner.errors import RequestError

METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"]


def create_app() -> FastAPI:
    """The app as Airflow mounts it under /gleaner. Every route needs a login, and so does what is no route."""
    app = FastAPI(
        title="Gleaner",
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        dependencies=[access.logged_in, Depends(same_page)],
    )
    app.add_middleware(Headers)
    for part in (pages, access, sources, content, searching, runs, removal):
        app.include_router(part.router)
    app.router.routes.append(metrics.route)
    app.add_exception_handler(RequestError, _refused)
    app.add_exception_handler(psycopg.DataError, _refused)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _no_answer)

    @app.get("/openapi.json", include_in_schema=False)
    def openapi() -> dict[str, Any]:
        """What there is to ask for."""
        return app.openapi()

    @app.api_route("/{path:path}", methods=METHODS, include_in_schema=False)
    def nothing(path: str, request: Request) -> None:
        """Last of all, so that whoever is not logged in is told so, whatever they ask for."""
        raise HTTPException(404, "there is nothing of this address and method")

    return app


async def _no_answer(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return pages.session_over(request, error) or await http_exception_handler(request, error)


def _refused(request: Request, error: Exception) -> JSONResponse:
    detail = str(error) if isinstance(error, RequestError) else "a value holds characters that cannot be stored"
    return JSONResponse({"detail": detail}, 400)


def _invalid(request: Request, error: Exception) -> JSONResponse:
    """422 with what is wrong and where; the values are not repeated: NaN or half a surrogate pair cannot be written."""
    assert isinstance(error, RequestValidationError)
    said = [{name: fault[name] for name in ("type", "loc", "msg")} for fault in error.errors()]
    return JSONResponse({"detail": said}, 422)
