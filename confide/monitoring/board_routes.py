"""Serves a side's page, and its style."""

from collections.abc import Callable

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from confide.monitoring.peer import for_own_user
from confide.pages.board import Board, board_style, render_board

_STOPPED = "off"


def board_routes(board_fn: Callable[[], Board]) -> list[Route]:
    """Return the routes of a page: ``/`` and ``/style.css``.

    Args:
        board_fn: returns the page as it is now; called for each request, by any thread.
    """
    css = board_style()

    # Not coroutines: Starlette calls them in threads, where reading files keeps nobody waiting
    def page(request: Request) -> Response:
        refreshes = request.query_params.get("refresh") != _STOPPED
        return HTMLResponse(render_board(board_fn(), refreshes=refreshes))

    def style(request: Request) -> Response:
        return Response(css, media_type="text/css")

    return [Route("/", for_own_user(page)), Route("/style.css", style)]


__all__ = ["board_routes"]
