"""What a process must have done before runs are forked from it, and must not have done."""

import gc
import importlib
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from dagster._core.code_pointer import CodePointer
from dagster._core.definitions.reconstruct import reconstruct_repository_def_from_pointer
from dagster._core.instance.ref import InstanceRef
from dagster._serdes import ConfigurableClassData

from assets.stream.contract import Contract
from orchestration.proofs import postponed

# What a run imports besides the definitions; Dagster imports most of it where it is used first.
MODULES = (
    "alembic.command",
    "alembic.runtime.migration",
    "azure.eventhub._pyamqp",
    "dagster._cli.api",
    "dagster._core.execution.api",
    "dagster._core.executor.in_process",
    "dagster._core.storage.fs_io_manager",
    "resources.event_hubs",
    "sqlalchemy.dialects.sqlite",
)
# Threads that are there after the imports, by the names that the kernel knows. A fork can do without them: jemalloc
# starts its own again, and the other one only removes files that Polars spilled to disk.
HARMLESS_THREADS = frozenset({"jemalloc_bg_thd", "polars-ooc-clea"})
SOURCES = (".py", ".sql", ".json", ".yaml", ".toml")

Stamps = Mapping[str, tuple[int, int, int]]


def preload(module: str, working_directory: str, home: Path) -> list[Contract]:
    """Imports everything and makes the definitions, `defs` in the module, which all runs then share.

    Returns:
        The contracts that have not been proved yet: a proof starts the engine of Polars.
    """
    with postponed() as contracts:
        for name in (*MODULES, *_modules_of_instance(home)):
            importlib.import_module(name)
        pointer = CodePointer.from_module(module, "defs", working_directory)
        reconstruct_repository_def_from_pointer(pointer).get_all_jobs()
    # What is never collected is never written to, so the pages stay shared with all runs.
    gc.collect()
    gc.freeze()
    return contracts


def foreign_threads() -> list[str]:
    """Threads of this process that a fork would lack, by name; an engine that was used leaves some."""
    tasks = (task for task in os.listdir("/proc/self/task") if int(task) != os.getpid())
    names = {Path(f"/proc/self/task/{task}/comm").read_text().strip() for task in tasks}
    return sorted(names - HARMLESS_THREADS)


def stamps(watched: Iterable[Path]) -> Stamps:
    """When the project's files were changed, and when packages were installed the last time."""
    packages = Path(importlib.import_module("dagster").__path__[0]).parent
    found = {str(packages): _stamp(str(packages))}
    for path in watched:
        for file in _files(path) if path.is_dir() else [str(path)]:
            found[file] = _stamp(file)
    return found


def _files(folder: Path) -> Iterator[str]:
    for parent, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if name[0] not in "._"]
        yield from (os.path.join(parent, name) for name in names if name.endswith(SOURCES))


def _stamp(path: str) -> tuple[int, int, int]:
    try:
        state = os.stat(path)
    except FileNotFoundError:  # It was removed after its folder was listed.
        return (0, 0, 0)
    return (state.st_mtime_ns, state.st_size, state.st_ino)


def _modules_of_instance(home: Path) -> list[str]:
    """Where the storages, the launcher and the rest of an instance are defined, by its dagster.yaml."""
    parts: Iterable[Any] = InstanceRef.from_dir(str(home))._asdict().values()
    return [part.module_name for part in parts if isinstance(part, ConfigurableClassData)]
