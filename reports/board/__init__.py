"""Build the leaderboard page: archived rows and one's own runs in one table, or the index of a folder of runs."""

from smaug_eval.reports.board.page import build_board

__all__ = ["build_board"]
