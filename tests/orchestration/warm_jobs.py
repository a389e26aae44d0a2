"""Definitions that are loaded in a second and use no engine: what the tests and the benchmark of warm runs launch."""

import os
import time
from pathlib import Path

import dagster as dg
import polars as pl

ENDLESS_S = 900.0


@dg.op
def first() -> int:
    return 1


@dg.op
def second(number: int) -> int:
    return number + 1


@dg.op
def third(context: dg.OpExecutionContext, number: int) -> None:
    print("this is stdout")
    context.log.info("number %d", number)


@dg.job(executor_def=dg.in_process_executor)
def three_steps() -> None:
    third(second(first()))


@dg.op
def say_priority() -> None:
    print(f"nice {os.nice(0)} threads {pl.thread_pool_size()}")


@dg.job(executor_def=dg.in_process_executor)
def priority() -> None:
    say_priority()


@dg.op
def go_on() -> None:
    time.sleep(ENDLESS_S)


@dg.job(executor_def=dg.in_process_executor)
def endless() -> None:
    go_on()


@dg.op
def ignore_interrupts() -> None:
    began = time.monotonic()
    while time.monotonic() - began < ENDLESS_S:
        try:
            time.sleep(1)
        except BaseException:
            print("ignored", flush=True)


@dg.job(executor_def=dg.in_process_executor)
def stubborn() -> None:
    ignore_interrupts()


@dg.op(config_schema={"file": str})
def wait_for_file(context: dg.OpExecutionContext) -> None:
    while not Path(context.op_config["file"]).exists():
        time.sleep(0.05)


@dg.job(executor_def=dg.in_process_executor)
def until_file() -> None:
    wait_for_file()


@dg.op
def count_frame() -> None:
    print("rows", pl.DataFrame({"a": [1, 2, 3]}).lazy().group_by("a").len().collect().height)


@dg.job
def with_the_default_executor() -> None:
    count_frame()


defs = dg.Definitions(jobs=[three_steps, priority, endless, stubborn, until_file, with_the_default_executor])
