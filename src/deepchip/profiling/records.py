"""What a profile holds. As JSON these are objects of the same fields: see docs/profile.md.

Milliseconds are of a call unless a field says otherwise; memory is what is resident, in bytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ..machine import Machine, State

SCHEMA = 1
"""Rises when a field changes its meaning or goes; fields may be added without."""


def in_threads(count: int) -> str:
    """Return a number of threads in words."""
    return f"{count} thread{'s' if count > 1 else ''}"


@dataclass(frozen=True)
class ModelFile:
    """The model: `file` is its name without the folder, `network` what the file calls it."""

    file: str
    network: str
    bytes: int


@dataclass(frozen=True)
class Settings:
    """What was measured.

    Attributes
    ----------
    input : where the inputs came from; "random" in the shape of the model's
    warmup, runs : calls before, and calls that were timed, for each number of threads
    pause_s : of cooling before each number of threads
    """

    backend: str
    batch: int
    warmup: int
    runs: int
    pause_s: float
    input: str


@dataclass(frozen=True)
class Start:
    """How long a process takes from nothing to the first result, in seconds.

    Attributes
    ----------
    python_s : until Python, NumPy and DeepChip are imported
    numba_s : for Numba's import
    read_s : to open the file and read its index
    plan_s : to check and decode the weights, and lay the network out
    kernels_s : to start the compiler, and to compile kernels or take them from the cache
    first_run_s : the first call, for one batch
    compiled : kernels that had to be compiled
    kept : whether compiled kernels are kept for the next process
    """

    python_s: float
    numba_s: float
    read_s: float
    plan_s: float
    kernels_s: float
    first_run_s: float
    compiled: int
    kept: bool

    @property
    def total_s(self) -> float:
        """All of it."""
        return (
            self.python_s + self.numba_s + self.read_s + self.plan_s + self.kernels_s
            + self.first_run_s
        )  # fmt: skip


@dataclass(frozen=True)
class Latency:
    """The calls for one number of threads.

    Attributes
    ----------
    p95_ms, p99_ms : percentiles, interpolated linearly between calls
    fps : items a second at the median
    runs_ms : of each call, in order
    clock_mhz : the lowest that was seen meanwhile, of the core that ran fastest
    temperature_c : the highest
    """

    threads: int
    min_ms: float
    median_ms: float
    p95_ms: float
    p99_ms: float
    fps: float
    runs_ms: tuple[float, ...]
    clock_mhz: float | None
    temperature_c: float | None


@dataclass(frozen=True)
class Layer:
    """One node of the network, run by one thread with nothing in between.

    Attributes
    ----------
    kernels : that run it; none where it takes nothing, such as a change of shape
    ms : the median
    share : of the sum over all layers
    additions, macs : for one item: what reduce-and-scale does, and what a dense layer would do
    macs_per_s : macs over the time for one item; None without weights
    weight_bytes : of weights and other constants as they are executed
    """

    name: str
    op: str
    kernels: tuple[str, ...]
    ms: float
    share: float
    additions: int
    macs: int
    macs_per_s: float | None
    weight_bytes: int


@dataclass(frozen=True)
class Memory:
    """What of the process was resident.

    Attributes
    ----------
    imported_bytes : after Python, NumPy and DeepChip were imported
    numba_bytes : after Numba was, too, and its compiler was started
    loaded_bytes, first_run_bytes : after the model was loaded, and after its first call
    peak_bytes : at most, until all numbers of threads were measured
    swapped_bytes : that were not in memory any more then
    weights_bytes : of weights and other constants as they are executed
    arena_bytes : of values between layers, for one call
    scratch_bytes : that all threads of a call need for themselves
    """

    imported_bytes: int
    numba_bytes: int
    loaded_bytes: int
    first_run_bytes: int
    peak_bytes: int
    swapped_bytes: int
    weights_bytes: int
    arena_bytes: int
    scratch_bytes: int

    @property
    def model_bytes(self) -> int:
        """What the process holds at most on top of its imports."""
        return self.peak_bytes - self.numba_bytes


@dataclass(frozen=True)
class Sample:
    """One look at the process and the machine, `s` seconds after the process was started."""

    s: float
    resident_bytes: int
    clock_mhz: float | None
    temperature_c: float | None


@dataclass(frozen=True)
class Phase:
    """What was begun `s` seconds after the process was started."""

    s: float
    name: str


@dataclass(frozen=True)
class Versus:
    """Another runtime, on one thread, call by call in turns with ours.

    Attributes
    ----------
    runtime : its name and version
    file, bytes : that it ran
    start_s : from nothing to its first result
    peak_bytes : of its process
    theirs, ours : what was measured in turns
    """

    runtime: str
    file: str
    bytes: int
    start_s: float
    peak_bytes: int
    theirs: Latency
    ours: Latency


@dataclass(frozen=True)
class Profile:
    """Everything that was measured.

    Attributes
    ----------
    first_start : the start that had to compile kernels, where one did; `start` is that of later
        processes
    overhead_ms : of a call on one thread, besides the layers: Python, and copies of results
    before, after : the state of the machine
    others_cores : how many cores other programs kept at work meanwhile
    warnings : why figures may not be what this machine does at its best
    """

    schema: int
    deepchip: str
    libraries: Mapping[str, str]
    machine: Machine
    model: ModelFile
    settings: Settings
    start: Start
    first_start: Start | None
    latency: tuple[Latency, ...]
    layers: tuple[Layer, ...]
    overhead_ms: float
    memory: Memory
    samples: tuple[Sample, ...]
    phases: tuple[Phase, ...]
    before: State
    after: State
    others_cores: float | None
    warnings: tuple[str, ...]
    versus: Versus | None
