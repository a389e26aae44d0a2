"""Which hub a stream has, by which transport, and that no two have the same one."""

import pytest
from pydantic import ValidationError

from orchestration.live import environment
from orchestration.system import HUBS
from resources import sources
from resources.dagster_resources import HubsResource
from resources.event_hubs import EventHubsSource
from resources.hub_names import OneHubForTwoStreamsError, TransportOfNoStreamError, check_hubs
from resources.kafka import KafkaSource
from resources.kafka_publisher import KafkaPublisher
from resources.settings import Settings
from resources.sources import namespace_of


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PULSELAKE_HUBS", raising=False)


@pytest.mark.parametrize(
    ("hubs", "names"),
    [
        ("glucose_readings=x,device_readings=x", ["glucose_readings", "device_readings", "'x'"]),
        ("glucose_readings=X,device_readings=x", ["glucose_readings", "device_readings", "'x'"]),
        ("glucose_readings=device_readings", ["glucose_readings", "device_readings", "'device_readings'"]),
        ("device_readings=alerts", ["device_readings", "alerts", "'alerts'"]),
        ("alerts=glucose_readings", ["glucose_readings", "alerts", "'glucose_readings'"]),
    ],
)
def test_two_streams_on_one_hub_are_refused_with_both_names_and_the_remedy(hubs, names, monkeypatch):
    monkeypatch.setenv("PULSELAKE_HUBS", hubs)
    with pytest.raises(OneHubForTwoStreamsError) as refused:
        check_hubs(Settings(), HUBS)
    assert all(name in str(refused.value) for name in [*names, "PULSELAKE_HUBS", "Give each a hub of its own"])
    with pytest.raises(OneHubForTwoStreamsError):
        HubsResource(streams=list(HUBS)).source("glucose_readings")


@pytest.mark.parametrize("hubs", ["", "glucose_readings=x", "glucose_readings=device_readings,device_readings=x"])
def test_streams_may_have_hubs_of_other_names(hubs, monkeypatch):
    monkeypatch.setenv("PULSELAKE_HUBS", hubs)
    check_hubs(Settings(), HUBS)


def test_a_stream_is_read_from_the_hub_of_the_settings(monkeypatch):
    monkeypatch.setenv("PULSELAKE_HUBS", "glucose_readings=x")
    assert sources.source(Settings(), "glucose_readings").name == "x"
    assert sources.source(Settings(), "device_readings").name == "device_readings"
    assert HubsResource(streams=list(HUBS)).source("glucose_readings").name == "x"


@pytest.mark.parametrize(("value", "fast"), [(None, True), ("true", True), ("false", False)])
def test_the_fast_way_can_be_switched_off(value, fast, monkeypatch):
    monkeypatch.delenv("PULSELAKE_FAST_AMQP", raising=False)
    if value is not None:
        monkeypatch.setenv("PULSELAKE_FAST_AMQP", value)
    assert namespace_of(Settings()).fast is fast


SECRET = "not-to-be-shown"
KAFKA = {
    "PULSELAKE_KAFKA_BOOTSTRAP": "broker:9093",
    "PULSELAKE_TRANSPORTS": "glucose_readings=kafka",
}


@pytest.fixture
def kafka(monkeypatch):
    """Sets the environment of a cluster, and more of it."""

    def with_settings(**more: str) -> Settings:
        for name, value in {**KAFKA, **more}.items():
            monkeypatch.setenv(name, value)
        return Settings()

    return with_settings


def test_a_stream_is_read_from_and_alerts_go_to_whatever_transport_the_settings_name(kafka, monkeypatch):
    settings = kafka(
        PULSELAKE_TRANSPORTS="glucose_readings=kafka, alerts=kafka", PULSELAKE_HUBS="glucose_readings=vitals"
    )
    source = sources.source(settings, "glucose_readings")
    assert isinstance(source, KafkaSource)
    assert (source.name, source.cluster.bootstrap) == ("vitals", "broker:9093")
    assert isinstance(sources.publisher(settings, "alerts"), KafkaPublisher)
    assert isinstance(sources.source(settings, "device_readings"), EventHubsSource)
    assert sources.described(settings, "glucose_readings") == "Kafka topic 'vitals' at broker:9093"
    assert sources.described(settings, "device_readings") == "event hub 'device_readings' at 127.0.0.1:5672"


def test_without_a_setting_every_hub_is_one_of_event_hubs():
    settings = Settings()
    for stream in HUBS:
        assert isinstance(sources.source(settings, stream), EventHubsSource)


def test_a_topic_and_a_hub_of_event_hubs_may_have_one_name_and_topics_differ_by_case(kafka):
    check_hubs(kafka(PULSELAKE_HUBS="device_readings=glucose_readings"), HUBS)
    both = {"PULSELAKE_TRANSPORTS": "glucose_readings=kafka,device_readings=kafka"}
    check_hubs(kafka(**both, PULSELAKE_HUBS="glucose_readings=x,device_readings=X"), HUBS)
    with pytest.raises(OneHubForTwoStreamsError):
        check_hubs(kafka(**both, PULSELAKE_HUBS="glucose_readings=x,device_readings=x"), HUBS)


def test_a_transport_of_a_stream_that_there_is_not_is_refused_with_those_that_there_are(kafka):
    with pytest.raises(TransportOfNoStreamError, match=r"'glucose'; nothing was started\. There are: glucose_readings"):
        check_hubs(kafka(PULSELAKE_TRANSPORTS="glucose=kafka"), HUBS)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"PULSELAKE_TRANSPORTS": "glucose_readings=carrier pigeon"}, "no other transports"),
        ({"PULSELAKE_TRANSPORTS": "kafka"}, "must be like"),
        ({"PULSELAKE_KAFKA_BOOTSTRAP": ""}, "PULSELAKE_KAFKA_BOOTSTRAP must name the brokers"),
        ({"PULSELAKE_KAFKA_SECURITY": "SASL_SSL"}, "PULSELAKE_KAFKA_USER must be set"),
        ({"PULSELAKE_KAFKA_SECURITY": "rot13"}, "kafka_security"),
        ({"PULSELAKE_KAFKA_MECHANISM": "GSSAPI"}, "kafka_mechanism"),
    ],
)
def test_settings_of_kafka_that_contradict_each_other_are_refused_without_a_secret(kafka, settings, said):
    with pytest.raises(ValidationError) as refused:
        kafka(**settings, PULSELAKE_KAFKA_PASSWORD=SECRET)
    assert said in str(refused.value)
    assert SECRET not in str(refused.value)


def test_apache_kafka_is_signed_in_to_by_user_password_and_certificates(kafka):
    settings = kafka(
        PULSELAKE_KAFKA_MECHANISM="scram-sha-512",
        PULSELAKE_KAFKA_USER="pulselake",
        PULSELAKE_KAFKA_PASSWORD=SECRET,
        PULSELAKE_KAFKA_CA_FILE="/etc/ca.pem",
    )
    client = settings.kafka_cluster().client()
    assert (
        client.items()
        >= {
            "security.protocol": "SASL_SSL",
            "sasl.mechanism": "SCRAM-SHA-512",
            "sasl.username": "pulselake",
            "sasl.password": SECRET,
            "ssl.ca.location": "/etc/ca.pem",
        }.items()
    )
    for shown in (settings, settings.kafka_cluster(), sources.source(settings, "glucose_readings")):
        assert SECRET not in repr(shown)
        assert SECRET not in str(shown)


def test_the_kafka_endpoint_of_event_hubs_takes_the_connection_string_as_its_password(kafka):
    connection_string = f"Endpoint=sb://name.servicebus.windows.net/;SharedAccessKeyName=n;SharedAccessKey={SECRET}"
    settings = kafka(PULSELAKE_KAFKA_USER="$ConnectionString", EVENTHUB_CONNECTION_STRING=connection_string)
    client = settings.kafka_cluster().client()
    assert (client["security.protocol"], client["sasl.mechanism"]) == ("SASL_SSL", "PLAIN")
    assert (client["sasl.username"], client["sasl.password"]) == ("$ConnectionString", connection_string)
    assert SECRET not in repr(settings.kafka_cluster())


def test_children_of_the_system_see_the_same_brokers(kafka, monkeypatch):
    settings = kafka(PULSELAKE_KAFKA_USER="u", PULSELAKE_KAFKA_PASSWORD=SECRET)
    for name, value in environment(settings).items():
        monkeypatch.setenv(name, value)
    assert Settings().kafka_cluster() == settings.kafka_cluster()
    assert Settings().transports == settings.transports
