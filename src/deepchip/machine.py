"""What machine this is and the state that it is in, as Linux tells; None or "" where it does not.

`root` is the folder that holds /proc, /sys and /etc: another one than / in tests.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path("/")

ARM_PARTS = {
    "0xb76": "ARM1176", "0xc07": "Cortex-A7", "0xd03": "Cortex-A53", "0xd04": "Cortex-A35",
    "0xd05": "Cortex-A55", "0xd07": "Cortex-A57", "0xd08": "Cortex-A72", "0xd09": "Cortex-A73",
    "0xd0a": "Cortex-A75", "0xd0b": "Cortex-A76", "0xd0c": "Neoverse N1",
}  # fmt: skip
"""The part number of MIDR, by Arm's technical reference manuals (implementer 0x41)."""

SIMD = {
    "neon": "NEON", "asimd": "NEON", "asimddp": "dot product", "i8mm": "int8 matrices",
    "sve": "SVE", "sse4_1": "SSE4.1", "avx2": "AVX2", "avx512bw": "AVX-512",
    "avx512_vnni": "AVX-512 VNNI",
}  # fmt: skip
"""By the words of /proc/cpuinfo."""

THROTTLED = ("under-voltage", "Arm frequency capped", "throttled", "soft temperature limit")
"""Bits 0 to 3 of `vcgencmd get_throttled`: so now; bits 16 to 19: so since the machine started
(Raspberry Pi documentation, The Linux kernel and utilities, vcgencmd)."""
SINCE_START = 16

FOLLOWING = ("intel_pstate", "amd-pstate", "amd-pstate-epp")
"""Drivers whose governor `powersave` lets the clock follow the load; elsewhere it is the lowest."""

HOT = 80.0
"""Degrees from which on a Raspberry Pi lowers its clock (documentation, frequency management)."""


@dataclass(frozen=True)
class Machine:
    """What does not change.

    Attributes
    ----------
    board : as the device tree names it, "Raspberry Pi 4 Model B Rev 1.5"; elsewhere ""
    bits : 32 or 64, of this Python, whatever the system has
    cores : that this process may use
    memory_bytes, swap_bytes : in all
    """

    board: str
    cpu: str
    architecture: str
    bits: int
    cores: int
    simd: tuple[str, ...]
    memory_bytes: int | None
    swap_bytes: int | None
    system: str


@dataclass(frozen=True)
class State:
    """What changes.

    Attributes
    ----------
    clock_mhz, max_clock_mhz : of the core that runs fastest now, and at most
    temperature_c : of the CPU
    throttled : the number of `vcgencmd get_throttled`
    low_voltage : whether the supply of a Raspberry Pi is too weak now, by its sensor
    on_battery : whether a battery is being discharged
    """

    governor: str
    driver: str
    clock_mhz: float | None
    max_clock_mhz: float | None
    temperature_c: float | None
    throttled: int | None
    low_voltage: bool | None
    on_battery: bool
    available_bytes: int | None


def machine(root: Path = ROOT) -> Machine:
    """Look at the machine."""
    info = _fields(root / "proc/cpuinfo")
    memory = _fields(root / "proc/meminfo")
    system = _fields(root / "etc/os-release", "=").get("PRETTY_NAME", "").strip('"')
    part = info.get("CPU part", "")
    words = f"{info.get('flags', '')} {info.get('Features', '')}".split()
    return Machine(
        board=_text(root / "proc/device-tree/model").strip("\0 "),
        cpu=info.get("model name") or ARM_PARTS.get(part, part) or platform.processor(),
        architecture=platform.machine(),
        bits=64 if sys.maxsize > 2**32 else 32,
        cores=_cores(),
        simd=tuple(dict.fromkeys(name for word, name in SIMD.items() if word in words)),
        memory_bytes=_bytes(memory.get("MemTotal")),
        swap_bytes=_bytes(memory.get("SwapTotal")),
        system=system or platform.platform(terse=True),
    )


def state(root: Path = ROOT) -> State:
    """Look at the state of the machine."""
    policies = _policies(root)
    fastest = [_number(policy / "cpuinfo_max_freq") for policy in policies]
    return State(
        governor=_text(policies[0] / "scaling_governor") if policies else "",
        driver=_text(policies[0] / "scaling_driver") if policies else "",
        clock_mhz=clock_mhz(root),
        max_clock_mhz=_most(fastest, 1e-3),
        temperature_c=temperature_c(root),
        throttled=throttled(),
        low_voltage=_low_voltage(root),
        on_battery=_on_battery(root),
        available_bytes=_bytes(_fields(root / "proc/meminfo").get("MemAvailable")),
    )


def clock_mhz(root: Path = ROOT) -> float | None:
    """Return the clock of the core that runs fastest now."""
    return _most([_number(policy / "scaling_cur_freq") for policy in _policies(root)], 1e-3)


def temperature_c(root: Path = ROOT) -> float | None:
    """Return the temperature of the CPU, or of the hottest place where none is said to be it."""
    zones = sorted((root / "sys/class/thermal").glob("thermal_zone*"))
    found = {zone: _text(zone / "type").lower() for zone in zones}
    of_cpu = [zone for zone, kind in found.items() if any(w in kind for w in ("cpu", "soc", "pkg"))]
    return _most([_number(zone / "temp") for zone in of_cpu or zones], 1e-3)


def throttled() -> int | None:
    """Ask a Raspberry Pi's firmware; None where that cannot be done."""
    tool = shutil.which("vcgencmd")
    if tool is None:
        return None
    try:
        said = subprocess.run([tool, "get_throttled"], capture_output=True, text=True, timeout=5)
        return int(said.stdout.strip().removeprefix("throttled="), 16)
    except (OSError, ValueError, subprocess.TimeoutExpired):
        return None


def throttling(bits: int) -> list[str]:
    """Return the words for a number of `vcgencmd get_throttled`.

    >>> throttling(0x50001)
    ['under-voltage', 'since the start: under-voltage, throttled']
    """
    now = [word for bit, word in enumerate(THROTTLED) if bits >> bit & 1]
    since = [word for bit, word in enumerate(THROTTLED, SINCE_START) if bits >> bit & 1]
    return now + ([f"since the start: {', '.join(since)}"] if since else [])


def busy_seconds(root: Path = ROOT) -> float | None:
    """Return the seconds that all cores have worked since the start, for whomever."""
    words = _text(root / "proc/stat").partition("\n")[0].split()
    try:
        user, nice, system, _, _, *more = (int(word) for word in words[1:9])
    except ValueError:
        return None
    return (user + nice + system + sum(more)) / float(os.sysconf("SC_CLK_TCK"))


def process_seconds(pid: int, root: Path = ROOT) -> float | None:
    """Return the seconds that cores have worked for a process."""
    words = _text(root / f"proc/{pid}/stat").rpartition(")")[2].split()
    try:
        return (int(words[11]) + int(words[12])) / float(os.sysconf("SC_CLK_TCK"))
    except (IndexError, ValueError):
        return None


def process_bytes(pid: int, root: Path = ROOT) -> int | None:
    """Return the bytes of a process that are in memory now."""
    try:
        pages = int(_text(root / f"proc/{pid}/statm").split()[1])
    except (IndexError, ValueError):
        return None
    return pages * int(os.sysconf("SC_PAGE_SIZE"))


def _policies(root: Path) -> list[Path]:
    return sorted((root / "sys/devices/system/cpu/cpufreq").glob("policy*"))


def _low_voltage(root: Path) -> bool | None:
    """Read the alarm of the driver raspberrypi-hwmon (Linux, Documentation/hwmon)."""
    for sensor in (root / "sys/class/hwmon").glob("hwmon*"):
        if _text(sensor / "name") == "rpi_volt":
            alarm = _number(sensor / "in0_lcrit_alarm")
            return None if alarm is None else alarm != 0
    return None


def _on_battery(root: Path) -> bool:
    supplies = (root / "sys/class/power_supply").glob("*")
    return any(_text(supply / "status") == "Discharging" for supply in supplies)


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _most(numbers: Sequence[float | None], factor: float) -> float | None:
    known = [number for number in numbers if number is not None]
    return max(known) * factor if known else None


def _bytes(text: str | None) -> int | None:
    """Return what a line such as "MemTotal: 3884420 kB" says."""
    words = (text or "").split()
    return int(words[0]) * 1024 if words and words[0].isdecimal() else None


def _fields(path: Path, separator: str = ":") -> dict[str, str]:
    """Return the lines "name: value" of a file; of names that come again, the first."""
    found: dict[str, str] = {}
    for line in _text(path).splitlines():
        name, _, value = line.partition(separator)
        found.setdefault(name.strip(), value.strip())
    return found


def _number(path: Path) -> float | None:
    try:
        return float(_text(path))
    except ValueError:
        return None


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""
