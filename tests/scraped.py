"""What an endpoint answers, asked as Prometheus asks it."""

import urllib.request
from dataclasses import dataclass

from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample


@dataclass(frozen=True)
class Scraped:
    text: str

    def samples(self, name: str, **labels: str) -> list[Sample]:
        families = text_string_to_metric_families(self.text)
        found = (sample for family in families for sample in family.samples if sample.name == name)
        return [sample for sample in found if sample.labels.items() >= labels.items()]

    def value(self, name: str, **labels: str) -> float:
        (found,) = self.samples(name, **labels)
        return found.value


def scrape(address: str) -> Scraped:
    with urllib.request.urlopen(address, timeout=300) as answer:
        assert answer.status == 200
        return Scraped(answer.read().decode())
