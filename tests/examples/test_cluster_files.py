"""Compose, Slurm and Kubernetes files: what they call is what the command line knows; no Docker is needed for that."""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from machines import machines
from servers import INITDB, NEEDS_POSTGRES
from tiny import make_toy_root

from stn_bench.cli.app import app
from stn_bench.study.catalogue import bundled_root
from stn_bench.system.workspace import STORAGE_VARIABLE, TRACKING_VARIABLE

FOLDER = bundled_root() / "examples/cluster"
COMPOSE: dict[str, Any] = yaml.safe_load((FOLDER / "compose.yaml").read_text(encoding="utf-8"))
KUBERNETES: dict[str, Any] = yaml.safe_load((FOLDER / "kubernetes.yaml").read_text(encoding="utf-8"))
POD = KUBERNETES["spec"]["template"]["spec"]
SRUN = '#!/bin/bash\nprintf "%s\\n" "$PWD" "$STN_BENCH_OPTUNA_URL" "$@" > "$TOLD"\n'
STORES = "STN_BENCH_OPTUNA_URL=postgresql+psycopg://db/queue\nMLFLOW_TRACKING_URI=http://mlflow:5000\n"


def parse(arguments: list[str]) -> dict[str, Any]:
    """Return what the command line makes of a call, which is not made."""
    group = typer.main.get_command(app)
    name, *rest = arguments
    command = group.get_command(group.make_context("stn-bench", list(arguments)), name)  # type: ignore[attr-defined]
    return {"command": name, **command.make_context(name, rest).params}


@pytest.mark.parametrize(("service", "wait"), [("begin", None), ("worker", 600)])
def test_compose_calls_what_there_is(service: str, wait: float | None) -> None:
    arguments = shlex.split(COMPOSE["services"][service]["command"].replace("${STUDY:-quickstart}", "quickstart"))
    told = parse(arguments)
    assert told["command"] == {"begin": "run"}.get(service, service)
    assert told["study"] == "quickstart"
    assert told.get("wait") == wait


def test_compose_gives_both_stores_and_asks_for_what_env_names() -> None:
    for service in ("begin", "worker"):
        assert {STORAGE_VARIABLE, TRACKING_VARIABLE} <= COMPOSE["services"][service]["environment"].keys()
    asked = set(re.findall(r"\$\{([A-Z_]+)", (FOLDER / "compose.yaml").read_text()))
    assert asked == set(re.findall(r"^([A-Z_]+)=", (FOLDER / "env.example").read_text(), re.MULTILINE))
    assert COMPOSE["services"]["worker"]["deploy"]["replicas"] == 2


def test_compose_keeps_mlflows_pages_to_this_machine_and_asks_for_a_login() -> None:
    mlflow = COMPOSE["services"]["mlflow"]
    assert all(port.startswith("127.0.0.1:") for port in mlflow["ports"])
    assert "--app-name basic-auth" in mlflow["command"]
    address = COMPOSE["services"]["worker"]["environment"][TRACKING_VARIABLE]
    (allowed,) = re.findall(r"--allowed-hosts (\S+)", mlflow["command"])
    assert address.removeprefix("http://") in allowed.split(",")


def test_the_images_are_built_from_files_that_are_there() -> None:
    for service in COMPOSE["services"].values():
        if build := service.get("build"):
            assert (FOLDER / build["context"] / build["dockerfile"]).is_file()


def test_kubernetes_calls_what_there_is() -> None:
    (container,) = POD["containers"]
    told = parse(container["args"])
    assert (told["command"], told["study"], told["workers"], told["threads"]) == ("worker", "quickstart", 1, 4)
    assert container["resources"]["requests"]["cpu"] == str(told["threads"])
    (source,) = container["envFrom"]
    text = (FOLDER / "kubernetes.yaml").read_text(encoding="utf-8")
    assert f"create secret generic {source['secretRef']['name']}" in text
    assert all(f"--from-literal={name}=" in text for name in (STORAGE_VARIABLE, TRACKING_VARIABLE))
    assert {one["name"] for one in container["volumeMounts"]} == {one["name"] for one in POD["volumes"]}


def test_the_slurm_script_starts_a_worker_in_its_root(tmp_path: Path) -> None:
    srun, stores, told = tmp_path / "bin/srun", tmp_path / "stores.sh", tmp_path / "told"
    srun.parent.mkdir()
    srun.write_text(SRUN)
    srun.chmod(0o755)
    stores.write_text(STORES)
    own = {"STN_BENCH_STORES": str(stores), "SLURM_SUBMIT_DIR": str(tmp_path), "SLURM_CPUS_PER_TASK": "4"}
    environment = {"PATH": f"{srun.parent}:/usr/bin:/bin", "TOLD": str(told), "HOME": str(tmp_path), **own}
    subprocess.run(["bash", str(FOLDER / "slurm.sh"), "digits"], check=True, env=environment)
    folder, address, program, *arguments = told.read_text().splitlines()
    assert (folder, address, program) == (str(tmp_path), "postgresql+psycopg://db/queue", "stn-bench")
    assert parse(arguments) | {"command": "worker", "study": "digits", "workers": 1, "threads": 4} == parse(arguments)


def test_the_slurm_script_needs_a_study() -> None:
    done = subprocess.run(["bash", str(FOLDER / "slurm.sh")], capture_output=True, text=True, env={"PATH": "/bin"})
    assert done.returncode != 0
    assert "the name of the study" in done.stderr


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.skipif(INITDB is None, reason=NEEDS_POSTGRES)
def test_two_machines_train_where_mlflow_asks_for_a_login(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """PostgreSQL, and MLflow's server as compose.yaml starts it: a login, and names that it answers to."""
    password = "choose-a-long-one-of-your-own"
    server = {"MLFLOW_AUTH_ADMIN_PASSWORD": password, "MLFLOW_FLASK_SERVER_SECRET_KEY": "a-secret-of-this-test"}
    login = {"MLFLOW_TRACKING_USERNAME": "admin", "MLFLOW_TRACKING_PASSWORD": password}
    options = ("--app-name", "basic-auth", "--allowed-hosts", "127.0.0.1:*,localhost:*")
    monkeypatch.chdir(tmp_path)  # where MLflow puts the file of its logins
    with machines(tmp_path / "stores", *options, **server) as shared:
        root = make_toy_root(tmp_path / "root")
        refused = shared.finish(shared.start("run", root, is_cut=False, MLFLOW_TRACKING_PASSWORD="another"), code=2)
        assert len(refused.strip().splitlines()) == 1
        assert password not in refused
        for name, value in login.items():
            monkeypatch.setenv(name, value)
        run, worker = shared.start_both(root, tmp_path / "elsewhere", is_cut=False)
        assert "Traceback" not in shared.finish(run) + shared.finish(worker)
        shared.assert_each_job_once(6)
        assert not any(password in path.read_text(errors="replace") for path in root.rglob("*.log"))
