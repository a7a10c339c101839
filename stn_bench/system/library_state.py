"""The settings of libraries that a training may load: read and put back, but never loaded, from here.

A subject's own libraries keep their settings beside it; `isolation` knows where.
"""

from __future__ import annotations

import contextlib
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from stn_bench.system.global_state import Aspect, Library, void


def loaded(address: str) -> Any:
    """Return an attribute of a loaded library by its dotted path, such as `torch.get_num_threads`.

    Raises:
        AttributeError: if the library is not loaded, or has no such attribute in this version.
    """
    top, *rest = address.split(".")
    found: Any = sys.modules.get(top)
    for name in rest:
        found = getattr(found, name)
    return found


def setting(name: str, getter: str, setter: str) -> Aspect:
    """Return the aspect that one function of a library returns and another sets."""
    return Aspect(name, lambda: loaded(getter)(), lambda value: void(loaded(setter)(value)))


def _attribute(name: str) -> Aspect:
    home, _, attribute = name.rpartition(".")
    return Aspect(name, lambda: loaded(name), lambda value: setattr(loaded(home), attribute, value))


# matplotlib ----------------------------------------------------------------------------------------------------------


def _read_style() -> dict[str, Any]:
    return dict(dict.items(loaded("matplotlib.rcParams")))  # a look at `backend` itself would choose one


def _write_style(before: Mapping[str, Any]) -> None:
    style = loaded("matplotlib.rcParams")
    dict.clear(style)
    dict.update(style, before)


def _read_figures() -> tuple[int, ...]:
    return tuple(loaded("matplotlib.pyplot.get_fignums")()) if "matplotlib.pyplot" in sys.modules else ()


def _write_figures(before: tuple[int, ...]) -> None:
    for number in set(_read_figures()) - set(before):
        loaded("matplotlib.pyplot.close")(number)


# MLflow, of a training that uses it by itself ------------------------------------------------------------------------


def _read_address() -> str | None:
    return loaded("mlflow.get_tracking_uri")() if loaded("mlflow.is_tracking_uri_set")() else None


def _read_open_run() -> str | None:
    run = loaded("mlflow.active_run")()
    return run and str(run.info.run_id)


def _write_open_run(run_id: str | None) -> None:
    while _read_open_run() not in (None, run_id):
        loaded("mlflow.end_run")()


def _read_autologging() -> frozenset[str]:
    found: Mapping[str, Mapping[str, Any]] = loaded("mlflow.utils.autologging_utils.AUTOLOGGING_INTEGRATIONS")
    return frozenset(name for name, options in found.items() if not options.get("disable", False))


def _stays(value: Any) -> None:
    """Leave it: what was patched stays patched, and another process goes on."""


# Pillow --------------------------------------------------------------------------------------------------------------

PILLOW = {"PIL.ImageFile.LOAD_TRUNCATED_IMAGES": False, "PIL.Image.MAX_IMAGE_PIXELS": 1024 * 1024 * 1024 // 4 // 3}
"""Attributes of modules that Pillow loads late, and their values until then."""


def _of_pillow(name: str) -> Aspect:
    module, _, attribute = name.rpartition(".")
    return Aspect(
        f"Pillow's {attribute}",
        lambda: getattr(sys.modules.get(module), attribute, PILLOW[name]),
        lambda value: setattr(sys.modules[module], attribute, value),
    )


# pandas, scikit-learn, threadpoolctl ---------------------------------------------------------------------------------


def _read_options() -> dict[str, Any]:
    return dict(_flat(loaded("pandas.options.d"), ""))


def _flat(tree: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for name, value in tree.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


def _write_options(before: Mapping[str, Any]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of options that will go
        for name, value in _read_options().items():
            if name in before and before[name] != value:
                loaded("pandas.set_option")(name, before[name])


def _pools() -> list[Any]:
    return list(loaded("threadpoolctl.ThreadpoolController")().lib_controllers)


class _Threads(dict[str, int]):
    """File of a pool -> its threads; pools that came with a library since are no change of the others."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, dict) and all(self[name] == other[name] for name in self.keys() & other.keys())

    __hash__ = None


def _read_pools() -> dict[str, int]:
    return _Threads({one.filepath: one.num_threads for one in _pools()})


def _write_pools(before: Mapping[str, int]) -> None:
    for one in _pools():
        if one.filepath in before and one.num_threads != before[one.filepath]:
            one.set_num_threads(before[one.filepath])


# The libraries -------------------------------------------------------------------------------------------------------


def _seeding(address: str) -> Callable[[int], None]:
    def seed(number: int) -> None:
        with contextlib.suppress(AttributeError):
            loaded(address)(number % 2**31)

    return seed


LIBRARIES = (
    Library(
        "cv2",
        (
            setting("OpenCV's threads", "cv2.getNumThreads", "cv2.setNumThreads"),
            setting("OpenCV's optimised code", "cv2.useOptimized", "cv2.setUseOptimized"),
            setting("OpenCV's OpenCL", "cv2.ocl.useOpenCL", "cv2.ocl.setUseOpenCL"),
        ),
        seed=_seeding("cv2.setRNGSeed"),
    ),
    Library(
        "matplotlib",
        (
            Aspect("matplotlib's style", _read_style, _write_style),
            Aspect("matplotlib's figures", _read_figures, _write_figures),
        ),
    ),
    Library(
        "mlflow",
        (
            Aspect("MLflow's open run", _read_open_run, _write_open_run),
            Aspect("MLflow's autologging", _read_autologging, _stays),
            Aspect("MLflow's address", _read_address, lambda found: void(loaded("mlflow.set_tracking_uri")(found))),
        ),
    ),
    Library("PIL", tuple(map(_of_pillow, PILLOW))),
    Library("pandas", (Aspect("pandas' options", _read_options, _write_options),)),
    Library(
        "sklearn",
        (
            Aspect(
                "scikit-learn's settings",
                lambda: loaded("sklearn.get_config")(),
                lambda found: void(loaded("sklearn.set_config")(**found)),
            ),
        ),
    ),
    Library("threadpoolctl", (Aspect("thread pools", _read_pools, _write_pools),)),
    Library(
        "torch",
        (
            setting("torch's type of numbers", "torch.get_default_dtype", "torch.set_default_dtype"),
            setting("torch's threads", "torch.get_num_threads", "torch.set_num_threads"),
            setting("torch's gradients", "torch.is_grad_enabled", "torch.set_grad_enabled"),
            setting("torch's precision", "torch.get_float32_matmul_precision", "torch.set_float32_matmul_precision"),
            setting(
                "torch's determinism",
                "torch.are_deterministic_algorithms_enabled",
                "torch.use_deterministic_algorithms",
            ),
            setting("torch's device", "torch.get_default_device", "torch.set_default_device"),
            _attribute("torch.backends.cuda.matmul.allow_tf32"),
            _attribute("torch.backends.cudnn.allow_tf32"),
            _attribute("torch.backends.cudnn.benchmark"),
            _attribute("torch.backends.cudnn.deterministic"),
        ),
        seed=_seeding("torch.manual_seed"),
    ),
    Library(
        "jax",
        (
            Aspect(
                "jax's 64 bits",
                lambda: bool(loaded("jax.config.jax_enable_x64")),
                lambda is_on: void(loaded("jax.config.update")("jax_enable_x64", is_on)),
            ),
            Aspect(
                "jax's precision",
                lambda: loaded("jax.config.jax_default_matmul_precision"),
                lambda found: void(loaded("jax.config.update")("jax_default_matmul_precision", found)),
            ),
        ),
    ),
)
"""Libraries that any subject may use."""
