"""Optimizers and learning rate schedules, by the names that the configuration uses."""

from __future__ import annotations

from typing import Any

import keras

from stn_bench.subjects.stn.config import Config, OptimizerConfig

# Keras takes the weight decay of each of them beside the gradient, and of every weight, biases and norms included.


def adam(rate: Any, config: OptimizerConfig) -> keras.optimizers.Optimizer:
    """Adam (Kingma and Ba 2015); with weight decay AdamW (Loshchilov and Hutter 2019)."""
    return keras.optimizers.Adam(rate, **shared(config))


def amsgrad(rate: Any, config: OptimizerConfig) -> keras.optimizers.Optimizer:
    """Adam with the maximum of past second moments (Reddi et al. 2018)."""
    return keras.optimizers.Adam(rate, amsgrad=True, **shared(config))


def sgd(rate: Any, config: OptimizerConfig) -> keras.optimizers.Optimizer:
    """Stochastic gradient descent, with momentum and Nesterov's form of it if asked for."""
    return keras.optimizers.SGD(rate, momentum=config.momentum, nesterov=config.nesterov, **shared(config))


def shared(config: OptimizerConfig) -> dict[str, Any]:
    """Return what every optimizer takes: weight decay, and a running average (Polyak and Juditsky 1992)."""
    average = {"use_ema": True, "ema_momentum": config.averaging} if config.averaging else {}
    return {"weight_decay": config.weight_decay or None, **average}


OPTIMIZERS = {"adam": adam, "amsgrad": amsgrad, "sgd": sgd}


def constant(rate: float, steps: int, warmup: int) -> Any:
    """Return the rate itself, behind a linear warm-up if there is one."""
    if not warmup:
        return rate
    return keras.optimizers.schedules.PolynomialDecay(0.0, warmup, end_learning_rate=rate)


def cosine(rate: float, steps: int, warmup: int) -> Any:
    """Return half a cosine from the rate to 0 at the last step (Loshchilov and Hutter 2017)."""
    if not warmup:
        return keras.optimizers.schedules.CosineDecay(rate, steps)
    return keras.optimizers.schedules.CosineDecay(0.0, max(1, steps - warmup), warmup_target=rate, warmup_steps=warmup)


SCHEDULES = {"constant": constant, "cosine": cosine}


def build_optimizer(config: Config, steps_per_epoch: int) -> keras.optimizers.Optimizer:
    """Return the optimizer with its schedule, counted in steps over the whole training."""
    settings = config.optimizer
    steps = steps_per_epoch * config.train.epochs
    warmup = round(steps_per_epoch * settings.warmup_epochs)
    rate = SCHEDULES[settings.schedule](settings.learning_rate, steps, warmup)
    return OPTIMIZERS[settings.name](rate, settings)
