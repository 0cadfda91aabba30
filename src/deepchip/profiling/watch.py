"""Looks at a process and the machine from outside, at intervals, in a thread."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from types import TracebackType

from .. import machine
from .records import Sample

INTERVAL = 0.05
"""Seconds between two looks, which take about 0.1 ms on a core of a Raspberry Pi's speed."""
KEPT = 400
"""Samples of a report."""


class Watch:
    """Samples of a process since it was started.

    Parameters
    ----------
    started : when, by time.perf_counter
    """

    def __init__(self, pid: int, started: float) -> None:
        self.samples: list[Sample] = []
        self._pid = pid
        self._started = started
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, name="deepchip-watch", daemon=True)

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._over.set()
        self._thread.join()

    def now(self) -> float:
        """Return the seconds since the process was started."""
        return time.perf_counter() - self._started

    def _look(self) -> None:
        while (resident := machine.process_bytes(self._pid)) is not None:
            self.samples.append(
                Sample(self.now(), resident, machine.clock_mhz(), machine.temperature_c())
            )
            if self._over.wait(INTERVAL):
                break


def thinned(samples: Sequence[Sample], kept: int = KEPT) -> tuple[Sample, ...]:
    """Return at most `kept` samples, of each stretch the one with the most memory."""
    step = -(-len(samples) // kept) or 1
    stretches = (samples[start : start + step] for start in range(0, len(samples), step))
    return tuple(max(stretch, key=lambda sample: sample.resident_bytes) for stretch in stretches)
