"""Runs the attacks on model files and prints what came of them: `python -m tests.attacks`."""

from __future__ import annotations

import sys

from .harness import Worker
from .model_files import TABLES, TARGETS, WARM, check_attack


def main() -> int:
    """Print a line for each attack and target; return how many were not as their table says."""
    workers = {target: Worker(f"tests.attacks.targets:{target}", WARM) for target in TARGETS}
    wrong = 0
    for table, targets in TABLES.values():
        for attack in table.attacks:
            data = attack.make()
            for target in targets:
                outcome = workers[target].run(data)
                said = outcome.error or outcome.kind
                try:
                    check_attack(attack, outcome, len(data))
                    mark = "as expected"
                except AssertionError:
                    mark = f"WRONG: {outcome.text[-300:]}"
                    wrong += 1
                cost = f"{outcome.seconds:6.2f} s {outcome.megabytes:6.1f} MB"
                print(f"{attack.name:42} {target:17} {said:18} {cost}  {mark}", flush=True)
    return wrong


if __name__ == "__main__":
    sys.exit(main())
