"""`deepchip demo`: a ternary LeNet-5, from its ONNX export to predictions on real digits."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import as_file, files
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from .formats.errors import DeepChipError
from .formats.model_file import verify_model
from .runtime.memory import peak_resident, resident
from .runtime.model import Model, load

SHADES = " .:-=+*#%@"
RUNS = 300
DRAWN = 5


def demo(threads: int = 1) -> None:
    """Convert, verify and run the network, and print what came of it."""
    from .converter.convert import convert
    from .converter.progress import bar

    data = np.load(str(files("deepchip") / "data" / "digits.npz"))
    images = data["images"][:, None].astype(np.float32) / 255
    labels = data["labels"]
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "lenet5.dchip"
        with as_file(files("deepchip") / "data" / "lenet5.onnx") as source, _step("converted"):
            report = convert(source, target, progress=bar)
        print(f"{report}\n")
        with _step("verified"):
            _, faults = verify_model(target)
            if faults:
                raise DeepChipError(faults[0])
        before = resident()
        with _step("loaded"):
            model = load(target, threads=threads)
    with _step("compiled, or taken from the cache, and first run"):
        model(images[:1])
    logits = model(images)
    after = resident()
    found = logits.argmax(axis=1)
    right = int((found == labels).sum())
    latency = np.array([_time(model, images[i % len(images)][None]) for i in range(RUNS)])
    whole = min(_time(model, images) for _ in range(3))
    median, slow = np.percentile(latency, [50, 95])
    print(
        f"\nsize      {report.float_bytes:,} bytes as float32, {report.file_bytes:,} as a file: "
        f"{report.bits:.2f} bits a weight\n"
        f"accuracy  {right} of {len(labels)} digits, {right / len(labels):.1%}\n"
        f"FPS       {1 / median:,.0f} one image at a time (median; 95th percentile "
        f"{1 / slow:,.0f}), {len(images) / whole:,.0f} in a batch of {len(images)}\n"
        f"memory    {peak_resident() / 1e6:.0f} MB at peak, of which the model and its first runs "
        f"{(after - before) / 1e6:.0f} MB\n"
    )
    print(draw(images[:DRAWN, 0], found[:DRAWN], labels[:DRAWN]))


@contextmanager
def _step(text: str) -> Iterator[None]:
    start = time.perf_counter()
    yield
    print(f"{text} in {time.perf_counter() - start:.2f} s")


def _time(model: Model, x: NDArray[np.float32]) -> float:
    start = time.perf_counter()
    model(x)
    return time.perf_counter() - start


def draw(
    images: NDArray[np.float32], found: NDArray[np.integer], labels: NDArray[np.integer]
) -> str:
    """Return images [N, 28, 28] in 0..1 as text side by side, each over what it was taken for."""
    halves = images.reshape(len(images), 14, 2, -1).mean(axis=2)  # a character is twice as high
    shades = np.array(list(SHADES))[(halves * (len(SHADES) - 1)).round().astype(int)]
    lines = ["  ".join("".join(image[row]) for image in shades) for row in range(14)]
    said = [
        f"{f}, and it is" if f == label else f"{f}, but it is {label}"
        for f, label in zip(found, labels, strict=True)
    ]
    return "\n".join([*lines, "  ".join(f"a {text}".center(28) for text in said)])
