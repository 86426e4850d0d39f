"""The settings of a training run: one dataclass, from which flags, checks and the docs are made."""

from __future__ import annotations

import inspect
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal, get_type_hints

from genfast.data import DATASETS, ImageOptions
from genfast.models import MODELS
from genfast.models.adversarial import TranslationModel
from genfast.training.optimisers import OPTIMISERS
from genfast.training.settings import ConfigError, Setting, declare, model_settings, unknown


def _setting(default: Any, help: str, **limits: float) -> Any:
    return field(default=default, metadata={"help": help, "limits": limits})


def _image_option(name: str, **limits: float) -> Any:
    """The setting that is one of `ImageOptions`, with its default and its help."""
    option = next(option for option in fields(ImageOptions) if option.name == name)
    return _setting(option.default, option.metadata["help"], **limits)


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Every setting of a run; each field's `metadata["help"]` says what it is.

    `model_settings` are those of the model; what is not given gets the model's default.
    Raises `ConfigError` naming the field.

    >>> config = TrainConfig(data="digits", epochs=3, model_settings={"layers": 4})
    >>> config.lr, config.model_settings["layers"], config.model_settings["channels"]
    (0.001, 4, 64)
    >>> TrainConfig(lr=-1.0)
    Traceback (most recent call last):
    ...
    genfast.training.settings.ConfigError: lr: must be greater than 0, got -1.0
    """

    model: str = _setting("gated-pixelcnn", "which model to train")
    model_settings: dict[str, Any] = field(
        default_factory=dict, metadata={"help": "the model's own settings", "limits": {}}
    )

    data: str = _setting("digits", f"data set ({', '.join(DATASETS)}), .npz file or folder of pictures")
    data_dir: str | None = _setting(
        None, "folder with the files of named data sets (default: the variable GENFAST_DATA)"
    )
    levels: int | None = _image_option("levels", at_least=2, at_most=256)
    image_size: int | None = _image_option("image_size", above=0)
    crop: int | None = _image_option("crop", above=0)
    colour: Literal["grey", "rgb"] | None = _image_option("colour")
    binarise: Literal["threshold", "fixed", "dynamic"] | None = _image_option("binarise")
    flip: bool = _image_option("flip")
    conditional: bool = _setting(False, "condition the model on the class labels")
    domains: Literal["folders", "side-by-side", "edges", "negative"] | None = _setting(
        None,
        "two domains of a translation model: in folders A and B (the default) or side-by-side pictures, "
        "or made of single images: edges (A has the outlines) or negative (B has the negatives)",
    )

    seed: int = _setting(
        0,
        "seed of the initial weights, the data order, noise and the sample grids",
        at_least=0,
        below=2**63,
    )
    epochs: int = _setting(20, "passes over the training images", above=0)
    max_minutes: float | None = _setting(None, "stop training this long after the start", above=0)
    max_steps: int | None = _setting(None, "stop after this many optimiser steps in all", above=0)
    early_stopping: int = _setting(
        0,
        "stop after this many epochs without a better validation loss, and keep the best weights in "
        "best.safetensors; 0 does neither",
        at_least=0,
    )

    batch_size: int = _setting(
        64,
        "most images in a step, over all processes; an epoch is cut in steps of equal size",
        above=0,
    )
    accumulate: int = _setting(
        1, "parts that a process computes its share of a step in, to save memory", above=0
    )
    optimizer: Literal["adam", "adamw", "adamax", "adam-norm-grad", "rmsprop", "sgd", "adagrad"] = (
        _setting("adam", "how gradients become steps; adam-norm-grad takes each tensor's by its norm")
    )
    lr: float = _setting(1e-3, "learning rate", above=0)
    beta1: float | None = _setting(None, "decay of the mean gradient (Adam's kind)", at_least=0, below=1)
    beta2: float | None = _setting(
        None, "decay of the mean squared gradient (Adam's kind)", at_least=0, below=1
    )
    alpha: float | None = _setting(
        None, "decay of the mean squared gradient (rmsprop)", at_least=0, below=1
    )
    momentum: float | None = _setting(None, "momentum (sgd, rmsprop)", at_least=0)
    weight_decay: float | None = _setting(
        None, "decoupled from the gradient in adamw, a part of it (L2) in the others", at_least=0
    )
    eps: float | None = _setting(None, "what the optimiser adds to its denominator", at_least=0)
    clip_norm: float | None = _setting(None, "most norm of the gradient of all weights", above=0)

    schedule: Literal["constant", "cosine", "linear", "late-linear", "exponential"] = _setting(
        "constant",
        "course of the learning rate; cosine, linear and late-linear (constant for the first half) "
        "reach 0 at the end of the last epoch",
    )
    lr_decay: float = _setting(0.999995, "factor a step of the exponential schedule", above=0, at_most=1)
    warmup_steps: int = _setting(
        0, "steps in which the learning rate rises in proportion to its value", at_least=0
    )
    kl_weight: float = _setting(
        1.0,
        "weight of the KL term in training (variational autoencoders); 1 is the ELBO's",
        above=0,
    )
    kl_warmup: int = _setting(
        0,
        "epochs over which the weight of the KL term rises to its value; early stopping does not count "
        "them",
        at_least=0,
    )
    ema: float = _setting(
        0.0,
        "decay of a moving average of the weights, with which the model is evaluated and sampled; "
        "0 keeps none",
        at_least=0,
        below=1,
    )

    device: Literal["auto", "cpu", "cuda"] = _setting(
        "auto", "where to train; auto takes CUDA if there is any"
    )
    precision: Literal["fp32", "bf16"] = _setting(
        "fp32", "bf16 computes under torch.autocast; weights and the loss itself stay in fp32"
    )
    compile: bool = _setting(
        False, "compile the loss (of adversarial models: the networks) by torch.compile"
    )
    threads: int | None = _setting(
        None,
        "CPU threads of a process (default: torch's number at the start of the run)",
        above=0,
        at_most=4096,
    )

    sample_every: int = _setting(1, "epochs between sample grids; 0 draws none", at_least=0)
    samples: int = _setting(16, "images in a sample grid", above=0)
    log_every: int = _setting(50, "steps between rows of metrics.csv", above=0)
    tensorboard: bool = _setting(False, "also log for TensorBoard, in the run's folder tensorboard/")
    checkpoint_minutes: float = _setting(2.0, "time between checkpoints within an epoch", at_least=0)

    def __post_init__(self) -> None:
        for name, setting in run_settings().items():
            setting.check(getattr(self, name))
        if self.binarise is not None and self.levels not in (None, 2):
            raise ConfigError(f"levels: must be 2 or left out with binarise, got {self.levels}")
        if self.model not in MODELS:
            raise unknown(self.model, MODELS, f"model: unknown {self.model!r}")
        own = model_settings(MODELS[self.model])
        for name, value in self.model_settings.items():
            if name not in own:
                raise unknown(name, own, f"model.{name}: unknown setting of {self.model}")
            own[name].check(value, "model.")
        if not issubclass(MODELS[self.model], TranslationModel):
            if self.domains is not None:
                raise ConfigError(f"domains: must be left out, {self.model} takes single images")
        elif self.binarise is not None:
            raise ConfigError(f"binarise: must be left out for {self.model}; see levels")
        complete = {name: setting.default for name, setting in own.items()} | self.model_settings
        object.__setattr__(self, "model_settings", complete)
        if (self.kl_weight != 1.0 or self.kl_warmup) and not _has_kl(MODELS[self.model]):
            name = "kl_warmup" if self.kl_warmup else "kl_weight"
            raise ConfigError(f"{name}: the model {self.model} has no KL term")
        for name in _OF_OPTIMISERS:
            if getattr(self, name) is not None and name not in OPTIMISERS[self.optimizer].settings:
                raise ConfigError(f"{name}: the optimizer {self.optimizer} has no such setting")

    def to_dict(self) -> dict[str, Any]:
        """The settings as JSON values, those of the model in a table: {"name": ..., ...}."""
        settings = asdict(self)
        own = settings.pop("model_settings")
        return {**settings, "model": {"name": self.model, **own}}

    @classmethod
    def from_dict(cls, settings: dict[str, Any]) -> TrainConfig:
        """What `to_dict` gave; settings that are left out keep their defaults.

        Those of the model's `RUN_DEFAULTS`, if it has any, come before those of this class.

        >>> TrainConfig.from_dict({"lr": 1, "model": {"name": "gated-pixelcnn"}}).lr
        1
        >>> TrainConfig.from_dict({"model": {"name": "dcgan"}}).lr
        0.0002
        """
        known = {*run_settings(), "model"}
        for name in settings:
            if name not in known:
                raise unknown(name, known, f"{name}: unknown setting")
        settings = dict(settings)
        own = settings.pop("model", {"name": cls.model})
        if not isinstance(own, dict) or "name" not in own:
            raise ConfigError(f"model: must be a table with a name, got {own!r}")
        if not isinstance(own["name"], str):
            raise ConfigError(f"model.name: must be str, got {own['name']!r}")
        own = dict(own)
        name = own.pop("name")
        settings = {**_model_defaults(name, settings.get("optimizer")), **settings}
        return cls(**settings, model=name, model_settings=own)

    def continued(self, changes: dict[str, Any]) -> TrainConfig:
        """The settings for resuming a run: only how long, where and how to report may change.

        `changes` is a part of what `to_dict` gives.
        """
        before = self.to_dict()
        own = changes.get("model", {})
        if own.get("name", self.model) != self.model:
            raise _fixed("model", self.model, own["name"])
        merged = {**before, **changes, "model": {**before["model"], **own}}
        after = TrainConfig.from_dict(merged)
        for name, value in after.model_settings.items():
            if value != self.model_settings[name]:
                raise _fixed(f"model.{name}", self.model_settings[name], value)
        for name in run_settings():
            if name not in _RESUMABLE and getattr(after, name) != getattr(self, name):
                raise _fixed(name, getattr(self, name), getattr(after, name))
        if after.epochs != self.epochs and self.schedule in ("cosine", "linear", "late-linear"):
            raise ConfigError(
                f"epochs: the {self.schedule} schedule was laid out for {self.epochs}, "
                f"got {after.epochs}"
            )
        return after


def _model_defaults(model: str, optimizer: str | None) -> dict[str, Any]:
    """The settings of a run that a model prefers; not those of another optimiser than is asked for."""
    defaults: dict[str, Any] = getattr(MODELS.get(model), "RUN_DEFAULTS", {})
    if optimizer in (None, defaults.get("optimizer", TrainConfig.optimizer)):
        return defaults
    return {name: value for name, value in defaults.items() if name not in ("lr", *_OF_OPTIMISERS)}


def run_settings() -> dict[str, Setting]:
    """The settings of a run, by name: every field but those of the model."""
    hints = get_type_hints(TrainConfig)
    return {
        item.name: declare(
            item.name, hints[item.name], item.default, item.metadata["help"], item.metadata["limits"]
        )
        for item in fields(TrainConfig)
        if item.name not in ("model", "model_settings")
    }


def _has_kl(model_class: Any) -> bool:
    return "kl_weight" in inspect.signature(model_class.loss).parameters


def _fixed(name: str, before: Any, after: Any) -> ConfigError:
    return ConfigError(
        f"{name}: a run cannot be resumed with another value: it has {before!r}, got {after!r}"
    )


_OF_OPTIMISERS = ("beta1", "beta2", "alpha", "momentum", "weight_decay", "eps")

#: What may differ when a run is resumed: the steps already planned stay the same, up to the float
#: rounding that another device, compiler or number of threads brings.
_RESUMABLE = {
    *("data_dir", "epochs", "max_minutes", "max_steps", "early_stopping", "device", "compile"),
    *("threads", "sample_every", "samples", "log_every", "tensorboard", "checkpoint_minutes"),
}
