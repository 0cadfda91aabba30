"""Train LeNet-5 on MNIST with ternary weights and 4-bit activations, and export it to ONNX.

A float parent is trained first; the ternary network starts from its weights and learns from its
outputs too (Hinton, Vinyals, Dean, *Distilling the Knowledge in a Neural Network*, 2015). Each
stage's last epoch counts. The last 5,000 training digits are held out to follow the progress; the
test digits are looked at once, at the end.
"""

import argparse
import math
import time
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from digits import Digits, distort, load_digits
from export import build
from network import WEIGHT_LAYERS, LeNet5, connections, dense_macs
from numpy.typing import NDArray
from ternary import ternarize
from torch import Tensor, nn
from torch.nn import functional

BITS = 4
BATCH = 256
HELD_OUT = 5000
LEARNING_RATE_FLOAT = 4e-3
LEARNING_RATE_TERNARY = 2e-3
DISTILLED = 0.5  # the share of the float parent's outputs in the targets

# A share of the largest weight of a layer. The TTQ paper's 0.05 leaves 9 % zeros in fc1, 0.3 leaves
# 85 %, at the same accuracy on the held-out digits.
THRESHOLD = 0.3


def train(
    network: nn.Module,
    digits: Digits,
    held_out: Digits,
    epochs: int,
    learning_rate: float,
    parent: nn.Module | None = None,
) -> None:
    """Train `network` in place on randomly distorted digits, one line printed an epoch.

    Adam with the one-cycle (warm-up, then cosine) learning rate, whose peak is `learning_rate`.
    Where a `parent` is given, its probabilities are mixed into the targets.
    """
    batches = math.ceil(len(digits.labels) / BATCH)
    optimizer = torch.optim.Adam(network.parameters(), lr=learning_rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, learning_rate, total_steps=epochs * batches, pct_start=0.1
    )
    for epoch in range(1, epochs + 1):
        start = time.perf_counter()
        network.train()
        total = 0.0
        for chosen in torch.split(torch.randperm(len(digits.labels)), BATCH):
            images = distort(digits.images[chosen])
            targets = functional.one_hot(digits.labels[chosen], 10).float()
            if parent is not None:
                targets = torch.lerp(targets, logits_of(parent, images).softmax(1), DISTILLED)
            loss = functional.cross_entropy(network(images), targets)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
            total += loss.item()
        print(
            f"epoch {epoch}/{epochs}: loss {total / batches:.4f}, "
            f"held-out digits {accuracy(network, held_out):.2f} %, "
            f"{time.perf_counter() - start:.1f} s",
            flush=True,
        )


def logits_of(network: nn.Module, images: Tensor) -> Tensor:
    """Return the logits [N, 10] of images [N, 1, 28, 28], by the running statistics."""
    network.eval()
    with torch.no_grad():
        return torch.cat([network(batch) for batch in torch.split(images, 1000)])


def accuracy(network: nn.Module, digits: Digits) -> float:
    """Return the share of digits that the network gets right, in percent."""
    right = logits_of(network, digits.images).argmax(1) == digits.labels
    return 100 * right.float().mean().item()


def ternary_child(parent: LeNet5) -> LeNet5:
    """Return a network with the parent's weights, made ternary, and quantized activations."""
    child = LeNet5(BITS)
    child.load_state_dict(parent.state_dict())
    for layer in WEIGHT_LAYERS:
        ternarize(getattr(child, layer), THRESHOLD)
    return child


def report(network: LeNet5) -> None:
    """Print each layer's levels, its share of zero weights, and the network's size."""
    zeros, weights = 0, 0
    for layer in WEIGHT_LAYERS:
        weight = network.weight(layer)
        levels = ", ".join(f"{level:+.4f}" for level in torch.unique(weight).tolist())
        print(f"{layer}: {weight.numel()} weights, {levels}; {zero_share(weight):.1f} % zeros")
        zeros += int((weight == 0).sum())
        weights += weight.numel()
    print(f"in all: {weights} weights, {100 * zeros / weights:.1f} % zeros")
    print(f"{sum(connections().values())} connections, {sum(dense_macs().values())} dense MACs")


def zero_share(weight: Tensor) -> float:
    """Return the share of zeros in a weight, in percent."""
    return 100 * (weight == 0).float().mean().item()


def run_onnx(model: onnx.ModelProto, images: Tensor) -> NDArray[np.float32]:
    """Return the logits [N, 10] that ONNX Runtime computes for images [N, 1, 28, 28]."""
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    logits: NDArray[np.float32] = session.run(["logits"], {"image": images.numpy()})[0]
    return logits


def arguments() -> argparse.Namespace:
    """Return the command line's arguments."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="MNIST: x_train, y_train, ...")
    parser.add_argument("--epochs-float", type=int, default=20)
    parser.add_argument("--epochs-ternary", type=int, default=30)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--output", type=Path, required=True, help="folder for the files made")
    return parser.parse_args()


def main() -> None:
    """Train both networks, export the ternary one, and compare it with ONNX Runtime's."""
    options = arguments()
    options.output.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(options.seed)

    digits, test = load_digits(options.data, "train"), load_digits(options.data, "test")
    held_out = Digits(digits.images[-HELD_OUT:], digits.labels[-HELD_OUT:])
    digits = Digits(digits.images[:-HELD_OUT], digits.labels[:-HELD_OUT])

    parent = LeNet5(bits=None)
    train(parent, digits, held_out, options.epochs_float, LEARNING_RATE_FLOAT)
    network = ternary_child(parent)
    train(network, digits, held_out, options.epochs_ternary, LEARNING_RATE_TERNARY, parent)
    report(network)
    print(f"float parent: {accuracy(parent, test):.2f} % of {len(test.labels)} test digits")
    print(f"ternary, {BITS}-bit: {accuracy(network, test):.2f} %")

    model = build(network, BITS)
    onnx.save(model, str(options.output / "lenet5.onnx"))
    logits, onnx_logits = logits_of(network, test.images).numpy(), run_onnx(model, test.images)
    predictions, onnx_predictions = logits.argmax(1), onnx_logits.argmax(1)
    print(
        f"ONNX Runtime: {100 * (onnx_predictions == test.labels.numpy()).mean():.2f} %; "
        f"predictions agree on {(predictions == onnx_predictions).sum()} digits, "
        f"logits within 1e-3 on {(abs(logits - onnx_logits).max(1) < 1e-3).sum()}"
    )
    np.savez_compressed(
        options.output / "lenet5_predictions.npz",
        pytorch=predictions.astype(np.uint8),
        onnxruntime=onnx_predictions.astype(np.uint8),
        logits=logits[:100],
    )
    with np.load(options.data) as archive:
        np.savez_compressed(
            options.output / "digits.npz",
            images=archive["x_test"][:1000],
            labels=archive["y_test"][:1000],
        )


if __name__ == "__main__":
    main()
