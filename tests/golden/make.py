"""Makes the golden model files of the current format version; run by hand, never by a test.

A golden file is what a release wrote, and every later release must still read it. So files are
added, for a new format version or new operators, and those that are there stay as they are:

    python -m tests.golden.make
"""

from __future__ import annotations

from pathlib import Path

from deepchip.formats.container import VERSION
from deepchip.formats.encodings import ENCODINGS
from deepchip.formats.model_file import model_bytes
from tests.formats.networks import more_operators, operators, small


def main() -> None:
    folder = Path(__file__).parent
    files = {encoding: model_bytes(small(), encoding) for encoding in ENCODINGS}
    files["operators"] = model_bytes(operators())
    files["more-operators"] = model_bytes(more_operators())
    for name, data in files.items():
        path = folder / f"v{VERSION}-{name}.dchip"
        if not path.exists():
            path.write_bytes(data)


if __name__ == "__main__":
    main()
