"""The files by which a Raspberry Pi 4 shows itself, below another root."""

from __future__ import annotations

CPUINFO = """processor\t: 0
BogoMIPS\t: 108.00
Features\t: fp asimd evtstrm crc32 cpuid
CPU implementer\t: 0x41
CPU architecture: 8
CPU variant\t: 0x0
CPU part\t: 0xd08
CPU revision\t: 3

Revision\t: b03115
Model\t\t: Raspberry Pi 4 Model B Rev 1.5
"""
MEMINFO = """MemTotal:        1884420 kB
MemFree:          584420 kB
MemAvailable:    1500000 kB
SwapTotal:        102396 kB
SwapFree:         102396 kB
"""
FILES = {
    "proc/cpuinfo": CPUINFO,
    "proc/meminfo": MEMINFO,
    "proc/stat": "cpu  1000 20 300 90000 50 6 7 8 9 10\ncpu0 1 2 3 4 5 6 7 8 9 10\n",
    "proc/device-tree/model": "Raspberry Pi 4 Model B Rev 1.5\0",
    "etc/os-release": 'PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\nID=debian\n',
    "sys/devices/system/cpu/cpufreq/policy0/scaling_governor": "ondemand\n",
    "sys/devices/system/cpu/cpufreq/policy0/scaling_driver": "cpufreq-dt\n",
    "sys/devices/system/cpu/cpufreq/policy0/scaling_cur_freq": "600000\n",
    "sys/devices/system/cpu/cpufreq/policy0/cpuinfo_max_freq": "1800000\n",
    "sys/class/thermal/thermal_zone0/type": "cpu-thermal\n",
    "sys/class/thermal/thermal_zone0/temp": "48692\n",
    "sys/class/hwmon/hwmon1/name": "rpi_volt\n",
    "sys/class/hwmon/hwmon1/in0_lcrit_alarm": "0\n",
}


def pi(folder, **changed):
    """Write the files, some by the last part of their path with another text; return the root."""
    root = folder / "root"
    for path, text in FILES.items():
        place = root / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(changed.pop(place.name, text))
    assert not changed
    return root


def vcgencmd(folder, says):
    """Write a program of this name that prints `says`, and return the folder to search it in."""
    tool = folder / "bin" / "vcgencmd"
    tool.parent.mkdir(exist_ok=True)
    tool.write_text(f'#!/bin/sh\n[ "$1" = get_throttled ] && echo "{says}"\n')
    tool.chmod(0o755)
    return str(tool.parent)
