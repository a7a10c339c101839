"""Run keys and the user's own code: every edit that may change a training changes the key, others do not."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from makers import write

from stn_bench.subject import Subject, find_subject
from stn_bench.system.errors import ConfigError
from stn_bench.tracking import code
from stn_bench.tracking.identity import identify

Files = Mapping[str, str]
Key = Callable[..., str]

TRAIN = "def train(*, seed, name='small'):\n    return {'test.error': "
"""The beginning of a function that is a subject."""

REGISTRY = """
REG = {}
def register(name):
    def keep(function):
        REG[name] = function
        return function
    return keep
"""
MODELS = f"{REGISTRY}@register('small')\ndef build():\n    return 64\n"
COIN = """
import functools
from typing import ClassVar
from stn_bench.settings import Group, Settings
from stn_bench.subject import Metric, Subject
class Coin(Settings):
    bias: float = 0.5
"""
PLAIN = """
def train(settings, seed, run):
    return {"test.x": settings.bias}
subject = Subject("coin", Coin, train, (Metric("test.x", "what it is"),))
"""

CHANGES: dict[str, Files] = {
    # names with several origins
    "imported in two branches": {
        "m.py": "def train(*, seed, name='small'):\n    if name == 'small':\n        from small import build\n"
        "    else:\n        from large import build\n    return {'test.error': build()}\n",
        "small.py": "def build():\n    return 64\n",
        "large.py": "def build():\n    return 2\n",
    },
    "imported by two functions": {
        "m.py": "def one():\n    from small import build\n    return build()\ndef two():\n"
        f"    from large import build\n    return build()\n{TRAIN}one() + two()}}\n",
        "small.py": "def build():\n    return 64\n",
        "large.py": "def build():\n    return 2\n",
    },
    "imported, or else from elsewhere": {
        "m.py": f"try:\n    from fast import f\nexcept ImportError:\n    from slow import f\n{TRAIN}f()}}\n",
        "fast.py": "def f():\n    return 64\n",
        "slow.py": "def f():\n    return 2\n",
    },
    "constant over an imported one": {
        "m.py": f"from cfg import WIDTH\nWIDTH = 64\n{TRAIN}WIDTH}}\n",
        "cfg.py": "WIDTH = 8\n",
    },
    "function over an imported one": {
        "m.py": f"from cfg import loss\n_base = loss\ndef loss():\n    return _base() + 64\n{TRAIN}loss()}}\n",
        "cfg.py": "def loss():\n    return 1\n",
    },
    "imported elsewhere by its name": {
        "m.py": "def helper():\n    return 64\ndef other():\n    from x import helper\n    return helper()\n"
        f"{TRAIN}helper()}}\n",
        "x.py": "def helper():\n    return 1\n",
    },
    "attribute of an imported module": {
        "m.py": f"import cfg\ncfg.WIDTH = 64\n{TRAIN}cfg.WIDTH}}\n",
        "cfg.py": "WIDTH = 8\n",
    },
    "attribute that another module reads": {
        "m.py": f"import cfg, parts\ncfg.WIDTH = 64\n{TRAIN}parts.width()}}\n",
        "parts.py": "import cfg\ndef width():\n    return cfg.WIDTH\n",
        "cfg.py": "WIDTH = 8\n",
    },
    "attribute of a module, by the package": {
        "m.py": f"from pkg import cfg\n{TRAIN}cfg.WIDTH}}\n",
        "pkg/__init__.py": "import pkg.cfg\npkg.cfg.WIDTH = 64\n",
        "pkg/cfg.py": "WIDTH = 8\n",
    },
    "method that changes a name and is kept": {"m.py": f"D = {{}}\nold = D.update(a=64)\n{TRAIN}D['a']}}\n"},
    "global that a call sets": {
        "m.py": f"K = 1\ndef fill():\n    global K\n    K = 64\n    return K\nold = fill()\n{TRAIN}K}}\n"
    },
    "module beside a package that has one of its name": {
        "pkg/m.py": f"import cfg\nfrom pkg import cfg as own\n{TRAIN}cfg.K + own.K}}\n",
        "pkg/cfg.py": "K = 1\n",
        "cfg.py": "K = 64\n",
    },
    "module of a package that has one beside it of its name": {
        "pkg/m.py": f"import cfg\nfrom pkg import cfg as own\n{TRAIN}cfg.K + own.K}}\n",
        "pkg/cfg.py": "K = 64\n",
        "cfg.py": "K = 1\n",
    },
    "package of a module": {
        "m.py": f"import pkg.a\n{TRAIN}pkg.f()}}\n",
        "pkg/__init__.py": "def f():\n    return 64\n",
        "pkg/a.py": "",
    },
    # registries
    "decorator": {"m.py": f"{MODELS}{TRAIN}REG[name]()}}\n"},
    "decorator in another module": {
        "m.py": f"import nets\nfrom reg import REG\n{TRAIN}REG[name]()}}\n",
        "nets.py": "from reg import register\n@register('small')\ndef build():\n    return 64\n",
        "reg.py": REGISTRY,
    },
    "decorator in a module of a package": {
        "m.py": f"from nets import REG\n{TRAIN}REG[name]()}}\n",
        "nets/__init__.py": f"{REGISTRY}from . import small\n",
        "nets/small.py": "from nets import register\n@register('small')\ndef build():\n    return 64\n",
    },
    "method as a decorator": {
        "m.py": "class Registry:\n    def __init__(self):\n        self.all = {}\n    def add(self, function):\n"
        "        self.all[function.__name__] = function\n        return function\nREG = Registry()\n"
        f"@REG.add\ndef small():\n    return 64\n{TRAIN}REG.all[name]()}}\n",
    },
    "dict of a class": {
        "m.py": "class Registry:\n    all = {}\n    @classmethod\n    def add(cls, function):\n"
        "        cls.all[function.__name__] = function\n        return function\n"
        f"@Registry.add\ndef small():\n    return 64\n{TRAIN}Registry.all[name]()}}\n",
    },
    "call that keeps": {"m.py": f"{REGISTRY}small = register('small')(lambda: 64)\n{TRAIN}REG[name]()}}\n"},
    "entry that another module sets": {
        "m.py": f"import nets\nfrom reg import REG\n{TRAIN}REG[name]()}}\n",
        "nets.py": "from reg import REG\ndef build():\n    return 64\nREG['small'] = build\n",
        "reg.py": "REG = {}\n",
    },
    "dispatch": {
        "m.py": "import functools\n@functools.singledispatch\ndef f(x):\n    return 1\n"
        f"@f.register\ndef _(x: str):\n    return 64\n{TRAIN}f(name)}}\n",
    },
    "subclasses that are counted": {
        "m.py": f"class Net: pass\nclass Small(Net):\n    x = 64\n{TRAIN}Net.__subclasses__()[0].x}}\n"
    },
    "subclasses that are kept": {
        "m.py": f"import nets\nfrom base import Net\n{TRAIN}Net.all[name].x}}\n",
        "nets.py": "from base import Net\nclass Small(Net):\n    x = 64\n",
        "base.py": "class Net:\n    all = {}\n    def __init_subclass__(cls):\n        Net.all[cls.__name__] = cls\n",
    },
    # whole modules
    "attribute by its name": {
        "m.py": f"import nets\n{TRAIN}getattr(nets, name)()}}\n",
        "nets.py": "def small():\n    return 64\n",
    },
    "attribute of a module of a package": {
        "m.py": f"from pkg import nets\n{TRAIN}getattr(nets, name)()}}\n",
        "pkg/__init__.py": "",
        "pkg/nets.py": "def small():\n    return 64\n",
    },
    "dict of a module": {
        "m.py": f"import nets\n{TRAIN}nets.__dict__[name]()}}\n",
        "nets.py": "from parts import small\n",
        "parts.py": "def small():\n    return 64\n",
    },
    "globals": {"m.py": f"def small():\n    return 64\n{TRAIN}globals()[name]()}}\n"},
    "the module itself": {"m.py": f"import sys\nsmall = 64\n{TRAIN}getattr(sys.modules[__name__], name)}}\n"},
    "eval": {"m.py": f"def small():\n    return 64\n{TRAIN}eval(name + '()')}}\n"},
    "module by its name": {
        "m.py": f"import importlib\n{TRAIN}importlib.import_module(name).f()}}\n",
        "small.py": "def f():\n    return 64\n",
    },
    "module of a package by its name": {
        "m.py": f"from importlib import import_module\n{TRAIN}import_module(f'models.{{name}}').f()}}\n",
        "models/small.py": "def f():\n    return 64\n",
    },
    "modules that a package imports, each": {
        "m.py": f"import nets\n{TRAIN}nets.REG[name]()}}\n",
        "nets/__init__.py": "import importlib, pkgutil\nREG = {}\nfor one in pkgutil.iter_modules(__path__):\n"
        "    importlib.import_module(f'{__name__}.{one.name}')\n",
        "nets/small.py": "from nets import REG\ndef f():\n    return 64\nREG['small'] = f\n",
    },
    "module beside by its name": {
        "pkg/m.py": f"from importlib import import_module\n{TRAIN}import_module('.' + name, __package__).f()}}\n",
        "pkg/small.py": "def f():\n    return 64\n",
    },
    "module that is given": {
        "m.py": f"import nets\ndef use(module):\n    return module.f()\n{TRAIN}use(nets)}}\n",
        "nets.py": "def f():\n    return 64\n",
    },
    "module by another name": {
        "m.py": f"import nets\nN = nets\n{TRAIN}N.f()}}\n",
        "nets.py": "def f():\n    return 64\n",
    },
    "attribute that a module makes": {
        "m.py": f"import nets\n{TRAIN}nets.f}}\n",
        "nets.py": "def __getattr__(name):\n    return 64\n",
    },
    "module that nothing names": {
        "m.py": f"import library, nets\n{TRAIN}library.value()}}\n",
        "nets.py": "def hook():\n    return 64\n",
        "library.py": "def value():\n    return 1\n",
    },
    "what a module does as it is imported": {
        "m.py": f"from first import unused\n{TRAIN}1}}\n",
        "first.py": "import second\nunused = second.x\n",
        "second.py": "import random\nrandom.seed(64)\nx = 1\n",
    },
    "module behind a function of its name, by its name": {
        "m.py": f"import importlib\n{TRAIN}importlib.import_module('pkg.f').other()}}\n",
        "pkg/__init__.py": "from .f import f\n",
        "pkg/f.py": "def f():\n    return 1\ndef other():\n    return 64\n",
    },
    # what runs as a module is imported
    "module behind a function of its name": {
        "m.py": f"from pkg import f\nused = f\n{TRAIN}1}}\n",
        "pkg/__init__.py": "from .f import f\n",
        "pkg/f.py": "import random\nrandom.seed(64)\ndef f():\n    return 1\n",
    },
    "other side of a script": {"m.py": f"if __name__ == '__main__':\n    K = 1\nelse:\n    K = 64\n{TRAIN}K}}\n"},
    "no script": {"m.py": f"if __name__ != '__main__':\n    K = 64\n{TRAIN}K}}\n"},
    "other side of a type checker": {
        "m.py": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    K = 1\nelse:\n"
        f"    def f():\n        return 64\n{TRAIN}f()}}\n",
    },
    # settings
    "class variable of settings": {"m.py": f"{COIN}    SCALE: ClassVar[float] = 64\n{PLAIN}"},
    "class variable of settings, as text": {"m.py": f"{COIN}    SCALE: 'ClassVar[float]' = 64\n{PLAIN}"},
    "field that is in no key": {
        "m.py": f"from pydantic import Field\n{COIN}    hidden: float = Field(64.0, exclude=True)\n{PLAIN}"
    },
    "method of settings": {"m.py": f"{COIN}    def scale(self):\n        return 64\n{PLAIN}"},
    "property of settings": {"m.py": f"{COIN}    @property\n    def scale(self):\n        return 64\n{PLAIN}"},
    "mixin of settings": {
        "m.py": f"class Mix:\n    def scale(self):\n        return 64\n{COIN}{PLAIN}".replace(
            "(Settings)", "(Settings, Mix)"
        )
    },
    "settings of another module": {
        "m.py": f"from s import Coin, Subject, Metric\n{PLAIN}",
        "s.py": f"{COIN}    def scale(self):\n        return 64\n",
    },
    "group of settings": {
        "m.py": f"{COIN}    part: 'Part' = None\n{PLAIN}".replace(
            "class Coin", "class Part(Group):\n    def scale(self):\n        return 64\nclass Coin"
        ).replace("'Part' = None", "Part = Part()"),
    },
    # subjects
    "lambda": {"m.py": f"{COIN}subject = Subject('coin', Coin, lambda settings, seed, run: {{'test.x': 64}})\n"},
    "closure": {
        "m.py": f"{COIN}def make(k):\n    def train(settings, seed, run):\n        return {{'test.x': k}}\n"
        "    return train\nsubject = Subject('coin', Coin, make(64))\n"
    },
    "partial": {
        "m.py": f"{COIN}def train(k, settings, seed, run):\n    return {{'test.x': k}}\n"
        "subject = Subject('coin', Coin, functools.partial(train, 64))\n"
    },
    "method": {
        "m.py": f"{COIN}class Trainer:\n    def __init__(self, k):\n        self.k = k\n"
        "    def train(self, settings, seed, run):\n        return {'test.x': self.k}\n"
        "T = Trainer(64)\nsubject = Subject('coin', Coin, T.train)\n"
    },
    "object": {
        "m.py": f"{COIN}class Trainer:\n    def __init__(self, k):\n        self.k = k\n"
        "    def __call__(self, settings, seed, run):\n        return {'test.x': self.k}\n"
        "subject = Subject('coin', Coin, Trainer(64))\n"
    },
    "wrapped function": {
        "m.py": f"{COIN}def train(settings, seed, run):\n    return {{'test.x': 1}}\ndef times(k):\n"
        "    @functools.wraps(train)\n    def inner(*given):\n        return k\n    return inner\n"
        "subject = Subject('coin', Coin, times(64))\n"
    },
}
"""Files that hold one 64, which a training may come to know."""

UNRELATED: dict[str, Files] = {
    "unused function": {"m.py": f"K = 1\ndef unused():\n    return 64\n{TRAIN}K}}\n"},
    "comment": {"m.py": f"K = 1  # 64\n{TRAIN}K}}\n"},
    "docstring": {"m.py": f'"""64"""\nK = 1\n{TRAIN}K}}\n'},
    "docstring of a function": {"m.py": "def train(*, seed):\n    'Return 64.'\n    return {'test.error': 1}\n"},
    "script": {"m.py": f"K = 1\nif __name__ == '__main__':\n    print(64)\n{TRAIN}K}}\n"},
    "script that is started so or so": {
        "m.py": f"if __name__ in ('__main__', '__mp_main__'):\n    print(64)\n{TRAIN}1}}\n"
    },
    "type checker": {"m.py": f"import typing\nif typing.TYPE_CHECKING:\n    K = 64\n{TRAIN}1}}\n"},
    "unused function of a module": {
        "m.py": f"import nets\n{TRAIN}nets.f()}}\n",
        "nets.py": "def f():\n    return 1\ndef unused():\n    return 64\n",
    },
    "unused function of the module of an unused name": {
        "m.py": f"from nets import f\n{TRAIN}1}}\n",
        "nets.py": "def f():\n    return 64\n",
    },
    "module that no package named imports": {
        "m.py": f"from importlib import import_module\n{TRAIN}import_module(f'models.{{name}}').f()}}\n",
        "models/small.py": "def f():\n    return 1\n",
        "other.py": "K = 64\n",
    },
    "module that nothing imports": {"m.py": f"{TRAIN}1}}\n", "other.py": "K = 64\n"},
    "class beside the one that is used": {
        "m.py": f"class Net: pass\nclass Small(Net): pass\nclass Large(Net):\n    x = 64\n{TRAIN}Small()}}\n"
    },
    "wrapped function": {
        "m.py": "def timed(function):\n    def inner():\n        return function()\n    return inner\n"
        f"@timed\ndef used():\n    return 1\n@timed\ndef unused():\n    return 64\n{TRAIN}used()}}\n",
    },
    "registry that the training does not reach": {"m.py": f"{MODELS}{TRAIN}1}}\n"},
    "function of the name of its module": {
        "m.py": f"from pkg import f\ndef use(it):\n    return it()\n{TRAIN}use(f)}}\n",
        "pkg/__init__.py": "from .f import f\n",
        "pkg/f.py": "def f():\n    return 1\ndef unused():\n    return 64\n",
    },
    "which settings are keyed": {"m.py": f"{COIN}    later: ClassVar = {{'x.y': 64}}\n{PLAIN}"},
    "docstring of settings": {"m.py": f"{COIN}    '64'\n{PLAIN}"},
    "what a metric means": {"m.py": f"{COIN}{PLAIN}".replace("what it is", "64")},
}
"""Files that hold one 64, which no training comes to know."""


@pytest.fixture
def key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Key]:
    """Write files and return the run key of the subject in them."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)

    def of(files: Files) -> str:
        for name, content in files.items():
            write(tmp_path / name, content)
        forget()
        return identity_of(found(files)).run_key

    yield of
    forget()


def forget() -> None:
    """Let nothing be known of the code in files."""
    code.forget()
    tops = {
        name.partition("/")[0].removesuffix(".py")
        for files in (*CHANGES.values(), *UNRELATED.values())
        for name in files
    }
    for name in [one for one in sys.modules if one.partition(".")[0] in tops]:
        del sys.modules[name]


def found(files: Files) -> Subject:
    first = next(iter(files))
    module = first.removesuffix(".py").replace("/", ".")
    return find_subject(f"{module}:{'subject' if 'subject = ' in files[first] else 'train'}")


def identity_of(subject: Subject) -> object:
    return identify(subject, subject.settings().resolved().flat(), 1, "")


def edited(files: Files) -> Files:
    assert "".join(files.values()).count("64") == 1
    return {name: content.replace("64", "128") for name, content in files.items()}


@pytest.mark.parametrize("files", CHANGES.values(), ids=CHANGES)
def test_an_edit_of_what_a_training_may_run_changes_the_key(key: Key, files: Files) -> None:
    assert key(edited(files)) != key(files)


@pytest.mark.parametrize("files", UNRELATED.values(), ids=UNRELATED)
def test_an_edit_of_anything_else_does_not(key: Key, files: Files) -> None:
    assert key(edited(files)) == key(files)


@pytest.mark.parametrize("files", CHANGES.values(), ids=CHANGES)
def test_comments_docstrings_and_unused_imports_change_no_key(key: Key, files: Files) -> None:
    more = {name: f'"""Text."""\nimport os  # unused\n{content}\n# the end\n' for name, content in files.items()}
    assert key(more) == key(files)


def test_code_that_cannot_be_read_is_refused(key: Key) -> None:
    files = {"m.py": f"{COIN}{PLAIN}"}
    key(files)
    made = eval("lambda settings, seed, run: {'test.x': 1}", {"__name__": "nowhere"})
    with pytest.raises(ConfigError, match="the code of its `train` cannot be read"):
        identity_of(replace(found(files), name="coin", train=made))


def test_a_file_beside_that_is_no_python_stops_nothing(key: Key) -> None:
    files = CHANGES["module by its name"]
    assert key({**files, "old.py": "print 'two'\n"}) == key(files)


@pytest.mark.parametrize(
    ("case", "modules"),
    [
        ("imported in two branches", {"m", "small", "large"}),
        ("module of a package by its name", {"m", "models.small"}),
        ("module by its name", {"m", "small"}),
    ],
)
def test_files_that_a_training_may_import_travel(key: Key, case: str, modules: set[str]) -> None:
    key(CHANGES[case])
    assert code.files_of(["m"]).keys() == modules
