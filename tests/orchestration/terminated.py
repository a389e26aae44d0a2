"""One session run in a process of its own, for a test that ends it: DAGSTER_FOLDER RUN_ID."""

import sys

import dagster as dg

from orchestration.definitions import defs
from tests.orchestration.site import SESSION, today

if __name__ == "__main__":
    with dg.DagsterInstance.local_temp(sys.argv[1]) as instance:
        defs.resolve_job_def(SESSION).execute_in_process(
            instance=instance, run_id=sys.argv[2], partition_key=today().isoformat(), raise_on_error=False
        )
