"""Define the judge of an ``mt_bench`` entry: an endpoint, or a function of this process."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

from smaug_eval.common.served.endpoint import Endpoint, check_address, check_endpoint
from smaug_eval.mt_bench.config import JudgeConfig
from smaug_eval.mt_bench.demo import JUDGE_NAME
from smaug_eval.mt_bench.demo_server import demo_judge, local_judge


class Judge:
    """Hold the model that judges.

    Args:
        config: Names the model and its endpoint.
        function: Judges in the place of an endpoint: takes the system message and the user's, returns the judgment.

    Attributes:
        name: The judge's, in files.
        base_url: Of the endpoint; None where a function of this process judges.

    Raises:
        SmaugError: the address is none.
    """

    def __init__(self, config: JudgeConfig, function: Callable[[str, str], str] | None = None) -> None:
        self._config, self._function = config, function
        self.name = config.model or JUDGE_NAME
        self.base_url = None if config.demo or function is not None else config.base_url
        if self.base_url is not None:
            check_address(config.base_url, config.key_env)

    def check(self) -> None:
        """Look at the judge's address and key, without asking it.

        Raises:
            SmaugError: one of them cannot be right.
        """
        if self.base_url is not None:
            check_endpoint(self._endpoint(self.base_url))

    @contextlib.contextmanager
    def running(self) -> Iterator[Endpoint]:
        """Give the judge's endpoint; a function's, as the demo's rule, is served meanwhile."""
        if self.base_url is not None:
            yield self._endpoint(self.base_url)
            return
        with demo_judge() if self._function is None else local_judge(self._function, self.name) as url:
            yield self._endpoint(url)

    def _endpoint(self, base_url: str) -> Endpoint:
        config = self._config
        return Endpoint(
            model=self.name,
            base_url=base_url,
            key_env=config.key_env,
            concurrency=config.concurrency,
            requests_per_minute=config.requests_per_minute,
            timeout=config.timeout,
            attempts=config.attempts,
            backoff=config.backoff,
            max_tokens=config.max_tokens,
            longest_wait=config.longest_wait,
            reasoning_effort=config.reasoning_effort,
            extra_body=config.extra_body,
            headers=config.headers,
            api_version=config.api_version,
            stream=config.stream,
        )
