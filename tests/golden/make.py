"""Makes the golden model files of the current format version; run by hand, never by a test.

A golden file is what a release wrote, and every later release must still read it. Make files for
a new format version, and never replace those of an old one:

    python -m tests.golden.make
"""

from __future__ import annotations

from pathlib import Path

from deepchip.formats.encodings import ENCODINGS
from deepchip.formats.model_file import VERSION, model_bytes
from tests.formats.networks import every_operator, small


def main() -> None:
    folder = Path(__file__).parent
    files = {encoding: model_bytes(small(), encoding) for encoding in ENCODINGS}
    files["operators"] = model_bytes(every_operator())
    for name, data in files.items():
        with open(folder / f"v{VERSION}-{name}.dchip", "xb") as file:
            file.write(data)


if __name__ == "__main__":
    main()
