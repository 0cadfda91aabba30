"""The config of a Keras model: which layers it has, and which of them reads what."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from deepchip.formats.errors import InvalidModelError, UnsupportedError
from deepchip.formats.once import once

from .calls import Call, Key, Reference, calls_of, references_of
from .layers import OPERATIONS, refusal
from .settings import Settings, are_integers

_MODELS = ("Functional", "Model", "Sequential")
_DEPTH = 16
"""How deep models may be nested: networks of the field nest one or two deep."""


@dataclass(frozen=True)
class Layer:
    """A layer of a model.

    Attributes
    ----------
    settings : its class and its config
    path : the names of the models that it is nested in, and its own
    model : the nested model that it is, if it is one
    """

    settings: Settings
    path: tuple[str, ...]
    model: Model | None = None


@dataclass(frozen=True)
class Model:
    """A model as Keras describes it.

    Attributes
    ----------
    class_name : Sequential, or Functional in one of its names
    layers : by name, in the order in which Keras lists them
    calls : for every call of a layer, what it reads
    inputs, outputs : what the model reads and gives; its inputs are layers of class InputLayer
    """

    class_name: str
    layers: Mapping[str, Layer]
    calls: Mapping[Key, Call] = field(default_factory=dict)
    inputs: Sequence[Key] = ()
    outputs: Sequence[Reference] = ()

    @once
    def leaves(self) -> list[Layer]:
        """All layers that are no models, also those of nested models."""
        found = []
        for layer in self.layers.values():
            found += [layer] if layer.model is None else layer.model.leaves
        return found

    @once
    def is_supported(self) -> bool:
        """Whether there is nothing among them that is unsupported whatever it reads."""
        return all(refusal(leaf.settings) is None for leaf in self.leaves)


def parse(config: Any, keras: int) -> Model:
    """Return the model that a config describes, `json.loads(model.to_json())`.

    Parameters
    ----------
    keras : 2 or 3, the version of Keras that wrote it
    """
    class_name, settings = _entry(config, "model_config")
    if class_name not in _MODELS:
        raise UnsupportedError(
            f"a model of class {class_name!r:.80}, expected Sequential or Functional"
        )
    return _model(class_name, settings, (), keras)


def _model(class_name: str, config: Mapping[str, Any], path: tuple[str, ...], keras: int) -> Model:
    if len(path) >= _DEPTH:
        raise InvalidModelError(f"models are nested more than {_DEPTH} deep")
    entries = _list(config.get("layers"), "layers")
    layers: dict[str, Layer] = {}
    for entry in entries:
        layer = _layer(entry, path, keras)
        name = layer.path[-1]
        if name in layers:
            raise InvalidModelError(f"a layer is named {name[:40]!r}, expected a name of its own")
        layers[name] = layer
    if not layers:
        raise InvalidModelError("the model has no layers")
    if class_name == "Sequential":
        return _sequential(layers, config, path, keras)
    return _functional(class_name, layers, entries, config)


def _layer(entry: Any, path: tuple[str, ...], keras: int) -> Layer:
    class_name, config = _entry(entry, "a layer")
    name = entry.get("name", config.get("name"))
    if not isinstance(name, str) or not name:
        raise InvalidModelError(f"a layer is named {str(name)[:40]!r}, expected a name of its own")
    path = (*path, name)
    model = _model(class_name, config, path, keras) if class_name in _MODELS else None
    if class_name == "TFOpLambda":  # a call of a function, as Keras 2 writes it
        class_name = f"tf.{str(config.get('function'))[:60]}"
    elif ".ops." in str(entry.get("module")) or class_name in OPERATIONS:
        class_name = f"ops.{class_name}"
    return Layer(Settings("/".join(path), class_name, config, keras), path, model)


def _entry(value: Any, what: str) -> tuple[str, dict[str, Any]]:
    """Return the class and the config of a model or layer."""
    if isinstance(value, dict):
        class_name, config = value.get("class_name"), value.get("config")
        if isinstance(class_name, str) and class_name.isprintable() and isinstance(config, dict):
            return class_name.rpartition(">")[2], config
    raise InvalidModelError(f"{what} has no class_name or config")


def _list(value: Any, what: str) -> list[Any]:
    """Return a value that has to be a list."""
    if not isinstance(value, list):
        raise InvalidModelError(f"{what} is {str(value)[:40]!r}, expected a list")
    return value


def input_shape(layer: Layer) -> tuple[int | None, ...] | None:
    """Return the shape of an item that an input states, None where it is open; or None."""
    config = layer.settings.config
    shape = config.get("batch_input_shape", config.get("batch_shape"))
    if not isinstance(shape, list | tuple) or not shape:
        return None
    if not are_integers([n for n in shape[1:] if n is not None], 1):
        raise layer.settings.invalid(
            f"input of shape {str(shape)[:60]}, expected integers of 1 or more"
        )
    return tuple(shape[1:])


def _sequential(
    layers: dict[str, Layer], config: Mapping[str, Any], path: tuple[str, ...], keras: int
) -> Model:
    first = next(iter(layers.values()))
    if first.settings.class_name != "InputLayer":
        shape = first.settings.config.get("batch_input_shape", config.get("build_input_shape"))
        if shape is None and first.model is not None and len(first.model.inputs) == 1:
            inner = first.model.layers[first.model.inputs[0][0]].settings.config
            shape = inner.get("batch_input_shape", inner.get("batch_shape"))
        given = (*path, f"{first.path[-1]}_input")  # as Keras names it
        settings = Settings("/".join(given), "InputLayer", {"batch_input_shape": shape}, keras)
        layers = {given[-1]: Layer(settings, given), **layers}
    names = list(layers)
    calls = {(name, 0): Call() for name in names[:1]}
    for before, name in pairwise(names):
        calls[name, 0] = Call((Reference(before, 0, 0),))
    return Model("Sequential", layers, calls, [(names[0], 0)], [Reference(names[-1], 0, 0)])


def _functional(
    class_name: str,
    layers: Mapping[str, Layer],
    entries: Sequence[Mapping[str, Any]],
    config: Mapping[str, Any],
) -> Model:
    calls: dict[Key, Call] = {}
    for layer, entry in zip(layers.values(), entries, strict=True):
        nodes = entry.get("inbound_nodes")
        known = layer.model is not None or refusal(layer.settings) is None
        for index, call in enumerate(calls_of(layer.settings, nodes) if known else [Call()]):
            calls[layer.path[-1], index] = call
    inputs = references_of(config.get("input_layers"))
    outputs = references_of(config.get("output_layers"))
    if not inputs or not outputs:
        raise InvalidModelError("the model states no inputs or no outputs")
    inner = [reference for call in calls.values() for reference in call.references]
    for name, _, _ in (*inputs, *outputs, *inner):
        if name not in layers:
            raise InvalidModelError(f"layer {name[:40]!r} is read, but there is none")
    for name, _, _ in inputs:
        if layers[name].settings.class_name != "InputLayer":
            raise layers[name].settings.invalid("is an input, but no InputLayer")
    outputs = [_counted(layers, reference) for reference in outputs]
    read = (*inputs, *outputs, *inner)
    calls = _counted_as_read(layers, calls, read)
    for name, index, _ in read:
        if (name, index) not in calls:
            if layers[name].model is not None or refusal(layers[name].settings) is None:
                raise InvalidModelError(
                    f"call {index} of layer {name!r} is read, but there is none"
                )
            calls[name, index] = Call()
    return Model(class_name, layers, calls, [reference.key for reference in inputs], outputs)


def _counted(layers: Mapping[str, Layer], reference: Reference) -> Reference:
    """Return what an output refers to, its call counted as layers count what they read.

    Keras 3 counts the calls of nested models from 1 here and from 0 there, except for Sequential.
    """
    layer = layers[reference.layer]
    if layer.model is None or layer.settings.keras == 2 or layer.model.class_name == "Sequential":
        return reference
    return reference._replace(call=max(0, reference.call - 1))


def _counted_as_read(
    layers: Mapping[str, Layer], calls: dict[Key, Call], read: Sequence[Reference]
) -> dict[Key, Call]:
    """Return the calls as references count them: those of nested models from 1 on, in Keras 2.

    There the call that made the model comes first, if any did, and the config leaves it out.
    """
    last: dict[str, int] = {}
    for name, index, _ in read:
        last[name] = max(index, last.get(name, 0))
    counted = {}
    for (name, index), call in calls.items():
        from_1 = layers[name].model is not None and (name, last.get(name, 0)) not in calls
        counted[name, index + from_1] = call
    return counted
