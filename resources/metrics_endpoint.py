"""The endpoint that Prometheus scrapes: the files of all processes as one answer, each family once."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from time import time

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector


class EndpointError(RuntimeError):
    """The endpoint's port cannot be used; nothing is served."""


class Files(Collector):
    """The metrics of a folder.

    Args:
        folder: it need not exist yet.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def collect(self) -> Iterable[Metric]:
        """The families of all files, and how old each file is."""
        families: dict[str, Metric] = {}
        age = GaugeMetricFamily(
            "pulselake_metrics_file_age_seconds", "How long ago a process last wrote its metrics.", labels=["file"]
        )
        broken = GaugeMetricFamily("pulselake_metrics_files_unreadable", "Files of metrics that cannot be read.", 0)
        for file in sorted(self._folder.glob("*.prom")):
            try:
                found = list(text_string_to_metric_families(file.read_text()))
                age.add_metric([file.stem], max(0.0, time() - file.stat().st_mtime))
            except (OSError, ValueError):
                broken.samples[0] = broken.samples[0]._replace(value=broken.samples[0].value + 1)
                continue
            for family in found:
                families.setdefault(family.name, Metric(family.name, family.documentation, family.type)).samples.extend(
                    family.samples
                )
        return [*families.values(), age, broken]


@contextmanager
def served(folder: Path, port: int) -> Iterator[str]:
    """Serves the metrics of a folder on 127.0.0.1 for the block.

    Yields:
        The address.

    Raises:
        EndpointError: the port is taken.
    """
    registry = CollectorRegistry()
    registry.register(Files(folder))
    try:
        server, thread = start_http_server(port, "127.0.0.1", registry)
    except OSError as error:
        raise EndpointError(
            f"Port {port} on 127.0.0.1 is taken, so no metrics are served there. End what listens there, or choose "
            "another port with PULSELAKE_METRICS_PORT."
        ) from error
    try:
        yield f"http://127.0.0.1:{server.server_port}/metrics"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
