"""Kills programs at random, as machines do."""

from __future__ import annotations

import random
import threading
from collections.abc import Sequence
from typing import Self

from tests.kubernetes.cluster import Cluster
from tests.kubernetes.shell import Failed


class Kills:
    """Until its block ends, kills one program after the other, and starts each again at once."""

    def __init__(
        self, cluster: Cluster, targets: Sequence[tuple[str, str]], *, pause: float, seed: int
    ) -> None:
        """`targets`: hosts and programs; `pause`: seconds between two, on the average."""
        self.count = 0
        self._cluster = cluster
        self._targets = targets
        self._pause = pause
        self._random = random.Random(seed)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._problem: Failed | None = None

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        for host, program in self._targets:
            self._cluster.start(host, program)
        if self._problem is not None:
            raise self._problem

    def _run(self) -> None:
        while not self._over.wait(self._random.uniform(0, 2 * self._pause)):
            host, program = self._random.choice(self._targets)
            try:
                self._cluster.restart(host, program)
            except Failed as error:
                self._problem = error
                return
            self.count += 1
