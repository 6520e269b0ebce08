"""Time to build every request of the leaderboard: ``python -m benchmarks.request_building --data-root DIR``."""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

from smaug_eval.leaderboard.protocol import build_documents, requests
from smaug_eval.leaderboard.v1 import SUITE


def measure(data_root: Path | None) -> dict[str, dict[str, float]]:
    """Seconds to read the rows and to build the documents of each column, with the number of requests."""
    found = {}
    for column in SUITE.columns:
        read = build = 0.0
        count = 0
        for spec in column.leaves:
            start = time.perf_counter()
            rows = SUITE.rows(spec, data_root)
            middle = time.perf_counter()
            documents = build_documents(spec, *rows)
            read, build = read + middle - start, build + time.perf_counter() - middle
            count += sum(len(requests(spec, document)) for document in documents)
        found[column.title] = {"requests": count, "read_seconds": round(read, 3), "build_seconds": round(build, 3)}
    return found


def main() -> None:
    """Print the measurement as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data-root", type=Path, help="offline mirror; the Hub if left out")
    columns = measure(parser.parse_args().data_root)
    total = {key: round(sum(column[key] for column in columns.values()), 3) for key in next(iter(columns.values()))}
    print(json.dumps({"columns": columns, "total": total}, indent=2))


if __name__ == "__main__":
    main()
