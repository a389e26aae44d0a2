"""The only reader of the environment. Everything has a default that works on a laptop without an account.

Every process reads the settings, so nothing is loaded here that takes time or memory. What opens what they name is in
`storage` (the lake, the archive), `sources` (hubs) and `secrets`.
"""

import os
import re
import sys
from functools import cached_property
from pathlib import Path
from typing import Annotated, Literal, Self

from dotenv import dotenv_values
from pydantic import Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from resources.kafka_cluster import EVENT_HUBS_USER, MAX_MESSAGE_BYTES, KafkaCluster
from resources.leases import Holder, Lease, holders
from resources.logs import Form
from resources.mqtt_broker import Broker
from resources.mqtt_topics import DEFAULT as DEFAULT_TOPICS

PREFIX = "PULSELAKE_"
EXPIRING_LAYERS = ("bronze", "silver", "quarantine", "alerts")
MIN_KEEP_DAYS = 7
"""Gold of an event date is closed with the ingest dates around it, and today's must never be."""
NO_ARCHIVE = "none"
DEFAULT_CONSUMER_GROUP = "$Default"
CLINICAL = ("ehr_url", "telemetry_url", "trials_url", "documents_url", "device_events_url")
"""The settings that say where clinical sources are."""
LEASES = "_leases"
COPY_FROM = f"{PREFIX}COPY_FROM"
DEFAULT_HUBS = {"vitals": "patient-data"}
"""Hubs whose usual name is not the stream's."""
OIDC_URL = r"^(https://[^/?#@\s]+|http://(127\.0\.0\.1|localhost)(:\d+)?)(/[^#\s]*)?$"
"""Where a provider of OpenID Connect may be: tokens go in the clear to this machine only."""
LOCAL_KEY_NAME, LOCAL_KEY = "RootManageSharedAccessKey", "SAS_KEY_VALUE"

# A request that gets no answer is not repeated, since its timeout is longer than the patience of repeating; one that is
# refused at once is. So an operation of deltalake ends within half a minute, one of Polars, which tries four times,
# within a minute and a half.
TIMEOUT, CONNECT_TIMEOUT, MAX_RETRIES, RETRY_TIMEOUT = "20s", "5s", "3", "10s"
_SECONDS = r"^\d+s$"

KAFKA, EVENT_HUBS = "kafka", "event_hubs"
"""Transports of a hub."""


class AzureStorage(BaseSettings):
    """What the lake takes from ``AZURE_STORAGE_…``; without a key or a token, the Azure identity is used.

    Attributes:
        timeout, connect_timeout: of one request, as ``20s``.
        max_retries, retry_timeout: how often, and for how long, as ``10s``, a failed request is repeated.
    """

    model_config = SettingsConfigDict(
        env_file=".env", extra="ignore", env_prefix="AZURE_STORAGE_", hide_input_in_errors=True
    )

    account_name: str | None = None
    account_key: str | None = Field(default=None, repr=False)
    sas_token: str | None = Field(default=None, repr=False)
    tenant_id: str | None = None
    client_id: str | None = None
    client_secret: str | None = Field(default=None, repr=False)
    endpoint: str | None = None
    allow_http: str | None = None
    timeout: str = Field(default=TIMEOUT, pattern=_SECONDS)
    connect_timeout: str = Field(default=CONNECT_TIMEOUT, pattern=_SECONDS)
    max_retries: str = Field(default=MAX_RETRIES, pattern=r"^\d+$")
    retry_timeout: str = Field(default=RETRY_TIMEOUT, pattern=_SECONDS)

    @property
    def has_secret(self) -> bool:
        """Whether a key, a token or a service principal is set."""
        return bool(self.account_key or self.sas_token or self.client_secret)

    def options(self) -> dict[str, str]:
        """What is set, and how long storage is waited for, as storage options."""
        return {name: value for name, value in self.model_dump().items() if value}


class Settings(BaseSettings):
    """Settings by environment variable, then by the file `.env`, then by default.

    Attributes:
        home: where all local state lives (PULSELAKE_HOME).
        lake: a folder or an ``abfss://`` URI (PULSELAKE_LAKE); default ``<home>/lake``.
        hub_port: the local hub's port (PULSELAKE_HUB_PORT).
        web_port: the Dagster UI's port (PULSELAKE_WEB_PORT).
        event_hubs: connection string (EVENTHUB_CONNECTION_STRING); default is the local hub.
        namespace: fully qualified namespace (EVENTHUB_NAMESPACE), with the Azure identity of the process.
        consumer_group: (EVENTHUB_CONSUMER_GROUP).
        hubs: other names for streams' hubs, ``stream=hub,…`` (PULSELAKE_HUBS).
        transports: what a stream's hub is, ``stream=kafka,…`` (PULSELAKE_TRANSPORTS); of streams that are not named,
            Event Hubs.
        kafka_bootstrap: brokers, ``host:port,…`` (PULSELAKE_KAFKA_BOOTSTRAP).
        kafka_security: how connections are secured (PULSELAKE_KAFKA_SECURITY); by default SASL_SSL where there is a
            user, SSL where there is a CA file, else PLAINTEXT.
        kafka_mechanism, kafka_user, kafka_password: of SASL (PULSELAKE_KAFKA_MECHANISM, …). The user
            ``$ConnectionString`` is that of Event Hubs; without a password it has EVENTHUB_CONNECTION_STRING.
        kafka_ca_file: certificates to trust instead of the system's (PULSELAKE_KAFKA_CA_FILE).
        kafka_max_message_bytes: the largest message that the brokers take (PULSELAKE_KAFKA_MAX_MESSAGE_BYTES).
        fast_amqp: whether regular events may be read and sent past the Event Hubs SDK (PULSELAKE_FAST_AMQP).
        max_session_s: after so long a session gets a successor (PULSELAKE_MAX_SESSION_S).
        idle_timeout_s: ends the session of a silent hub (PULSELAKE_IDLE_TIMEOUT_S); by default there is always one,
            because an event that comes after a silence would wait for a new one.
        late_alert_after_s: how old a reading may be before its alert says that it is late
            (PULSELAKE_LATE_ALERT_AFTER_S).
        warm_runs: whether `dev` and `demo` start a process that runs are forked from (PULSELAKE_WARM_RUNS).
        metrics_port: the port of the metrics' endpoint (PULSELAKE_METRICS_PORT).
        page_port: the port of the live page (PULSELAKE_PAGE_PORT).
        page_origin: where people find it behind a proxy that ends TLS, ``https://ward.example.org``
            (PULSELAKE_PAGE_ORIGIN); with it messages about alarms have a link.
        page_consumer_group: the group in which it reads the hubs (PULSELAKE_PAGE_CONSUMER_GROUP); none but its own.
        page_idle_minutes: after so long without a sign of them people are signed out (PULSELAKE_PAGE_IDLE_MINUTES).
        page_audit_days: for how many days its audit trail is kept, a year at least (PULSELAKE_PAGE_AUDIT_DAYS).
        page_passwords: whether people may sign in to it by name and password (PULSELAKE_PAGE_PASSWORDS).
        oidc_issuer: a provider of OpenID Connect by which they may, ``https://…`` (PULSELAKE_OIDC_ISSUER).
        oidc_client_id: how it names the page (PULSELAKE_OIDC_CLIENT_ID).
        oidc_secret: the name of the secret that the page has there (PULSELAKE_OIDC_SECRET).
        oidc_scope: what it is asked for (PULSELAKE_OIDC_SCOPE).
        oidc_claim: the claim by which accounts are bound, ``sub``, ``oid`` or ``email`` (PULSELAKE_OIDC_CLAIM).
        log: how logs are written, ``text`` or ``json`` (PULSELAKE_LOG).
        keep_runs_days: how long Dagster's run records are kept (PULSELAKE_KEEP_RUNS_DAYS).
        sql_memory: how much a statement of ``pulselake sql`` may hold, as ``2GB`` (PULSELAKE_SQL_MEMORY).
        sql_timeout_s: how long one may take (PULSELAKE_SQL_TIMEOUT_S).
        keep_days: for how many days rows are kept, by layer or by table, ``layer=days,layer/table=days,…``
            (PULSELAKE_KEEP_DAYS); what is not named is kept for ever.
        archive: where rows go before they are removed (PULSELAKE_ARCHIVE): a folder, an ``abfss://`` URI, or ``none``;
            default ``<home>/archive``.
        oltp: the transactional store as SQLAlchemy has URLs, ``mysql://user:password@host/database`` (PULSELAKE_OLTP);
            default is the SQLite file ``<home>/oltp.db``.
        oltp_keep_days: for how many days its tables keep rows, ``GlucoseReadings=30,…`` (PULSELAKE_OLTP_KEEP_DAYS);
            what is not named is kept for ever.
        key_vault: where secrets of channels are that the environment does not have,
            ``https://NAME.vault.azure.net`` (PULSELAKE_KEY_VAULT).
        accounts: the file of accounts at other systems that are polled (PULSELAKE_ACCOUNTS); default
            ``<home>/accounts.toml``.
        receive_host, receive_port: where apps post to (PULSELAKE_RECEIVE_HOST, PULSELAKE_RECEIVE_PORT).
        receive_certificate, receive_key: files of TLS (PULSELAKE_RECEIVE_CERTIFICATE, PULSELAKE_RECEIVE_KEY); without
            them nothing but 127.0.0.1 is listened on.
        openfda: whether adverse events are polled from openFDA by Dagster's sensor (PULSELAKE_OPENFDA).
        openfda_url: of its API (PULSELAKE_OPENFDA_URL).
        openfda_every_s: how long after a poll the sensor starts the next one (PULSELAKE_OPENFDA_EVERY_S).
        openfda_api_key: raises the number of requests that openFDA takes a day (OPENFDA_API_KEY).
        ehr_url, trials_url: databases as SQLAlchemy names them (PULSELAKE_EHR_URL, PULSELAKE_TRIALS_URL); this one and
            the other clinical sources are by default what `pulselake hospital` makes below the home.
        telemetry_url: of the API of devices (PULSELAKE_TELEMETRY_URL).
        telemetry_token: a bearer token for it (PULSELAKE_TELEMETRY_TOKEN).
        documents_url: a folder or an ``abfs://container/path`` (PULSELAKE_DOCUMENTS_URL).
        copy_documents: whether the contents of documents are copied to landing (PULSELAKE_COPY_DOCUMENTS).
        device_events_url: an account of Cosmos DB or a folder of JSON lines (PULSELAKE_DEVICE_EVENTS_URL).
        device_events_container: ``database/container`` of the account (PULSELAKE_DEVICE_EVENTS_CONTAINER).
        device_events_by_feed: whether its change feed is read (PULSELAKE_DEVICE_EVENTS_BY_FEED).
        cosmos_key: of the account (COSMOS_KEY); without it the Azure identity is used.
        clinical_cron: when the clinical sources are loaded, UTC (PULSELAKE_CLINICAL_CRON).
        copy_from: the database whose tables `pulselake copy` copies, as SQLAlchemy names it (PULSELAKE_COPY_FROM).
        mqtt_url: of a broker, ``mqtt://host:port`` or ``mqtts://host:port`` (PULSELAKE_MQTT_URL); with it
            `pulselake dev` starts the bridge.
        mqtt_topics: which topics are read, and what they say; see `resources.mqtt_topics` (PULSELAKE_MQTT_TOPICS).
        mqtt_user, mqtt_password: of the broker (PULSELAKE_MQTT_USER, PULSELAKE_MQTT_PASSWORD).
        mqtt_ca_file: certificates to trust instead of the system's (PULSELAKE_MQTT_CA_FILE).
        mqtt_client_id: names the session that the broker keeps (PULSELAKE_MQTT_CLIENT_ID).
        mqtt_version: ``5`` or ``3.1.1`` (PULSELAKE_MQTT_VERSION).
        iot_hub: connection string of the built-in endpoint of an IoT Hub (PULSELAKE_IOT_HUB); with it `pulselake dev`
            starts the bridge.
        iot_hub_group: the consumer group to read it as (PULSELAKE_IOT_HUB_GROUP).
        watch: a folder, or an ``abfs://container/path``, whose new files Dagster imports (PULSELAKE_WATCH).
        hospital_port: where `pulselake hospital` serves the API of devices (PULSELAKE_HOSPITAL_PORT).
    """

    model_config = SettingsConfigDict(
        env_file=".env", extra="ignore", env_prefix=PREFIX, populate_by_name=True, hide_input_in_errors=True
    )

    home: Path = Path(".pulselake")
    lake: str | None = None
    hub_port: int = Field(default=5672, ge=1, le=65535)
    web_port: int = Field(default=3000, ge=1, le=65535)
    metrics_port: int = Field(default=9464, ge=1, le=65535)
    page_port: int = Field(default=8200, ge=1, le=65535)
    page_origin: str | None = Field(default=None, pattern=r"^https://[^/?#@\s]+$")
    page_consumer_group: str = Field(default="pulselake-page", min_length=1)
    page_idle_minutes: float = Field(default=30.0, gt=0, le=720)
    page_audit_days: int = Field(default=2192, ge=366)
    page_passwords: bool = True
    oidc_issuer: str | None = Field(default=None, pattern=OIDC_URL)
    oidc_client_id: str = ""
    oidc_secret: str = Field(default="OIDC_CLIENT_SECRET", pattern=r"^[A-Za-z][A-Za-z0-9_]*$")
    oidc_scope: str = Field(default="openid", pattern=r"^(\S+ )*openid( \S+)*$")
    oidc_claim: Literal["sub", "oid", "email"] = "sub"
    log: Form = "text"
    event_hubs: str | None = Field(default=None, alias="EVENTHUB_CONNECTION_STRING", repr=False)
    namespace: str | None = Field(default=None, alias="EVENTHUB_NAMESPACE")
    consumer_group: str = Field(default=DEFAULT_CONSUMER_GROUP, alias="EVENTHUB_CONSUMER_GROUP")
    hubs: Annotated[dict[str, str], NoDecode] = {}
    transports: Annotated[dict[str, Literal["kafka", "event_hubs"]], NoDecode] = {}
    kafka_bootstrap: str = ""
    kafka_security: Literal["", "PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = ""
    kafka_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = "PLAIN"
    kafka_user: str = ""
    kafka_password: str = Field(default="", repr=False)
    kafka_ca_file: str = ""
    kafka_max_message_bytes: int = Field(default=MAX_MESSAGE_BYTES, ge=1000, le=1_000_000_000)
    fast_amqp: bool = True
    max_session_s: float = Field(default=900.0, gt=0)
    idle_timeout_s: float | None = Field(default=None, gt=0)
    warm_runs: bool = True
    keep_runs_days: float = Field(default=3.0, ge=0)
    late_alert_after_s: float = Field(default=7200.0, gt=0)
    sql_memory: str = Field(default="1GB", pattern=r"^\d+(\.\d+)?\s*[KMGT]i?B$")
    sql_timeout_s: float = Field(default=300.0, gt=0)
    keep_days: Annotated[dict[str, int], NoDecode] = {}
    archive: str | None = None
    oltp: str = Field(default="", repr=False)
    oltp_keep_days: Annotated[dict[str, int], NoDecode] = {}
    key_vault: str | None = Field(default=None, pattern=r"^(https://[^/?#@\s]+/?)?$")
    accounts: Path | None = None
    receive_host: str = "127.0.0.1"
    receive_port: int = Field(default=8787, ge=1, le=65535)
    receive_certificate: Path | None = None
    receive_key: Path | None = None
    openfda: bool = False
    openfda_url: str = Field(default="https://api.fda.gov", pattern=r"^https?://[^/?#@\s]+(/[^?#\s]*)?$")
    openfda_every_s: float = Field(default=3600.0, ge=60)
    openfda_api_key: SecretStr | None = Field(default=None, alias="OPENFDA_API_KEY", repr=False)
    ehr_url: SecretStr | None = Field(default=None, repr=False)
    trials_url: SecretStr | None = Field(default=None, repr=False)
    telemetry_url: str | None = Field(default=None, pattern=r"^https?://[^/?#@\s]+(/[^?#\s]*)?$")
    telemetry_token: SecretStr | None = Field(default=None, repr=False)
    documents_url: str | None = None
    copy_documents: bool = False
    device_events_url: str | None = None
    device_events_container: str = Field(default="iomt/events", pattern=r"^[^/]+/[^/]+$")
    device_events_by_feed: bool = False
    cosmos_key: SecretStr | None = Field(default=None, alias="COSMOS_KEY", repr=False)
    clinical_cron: str = Field(default="10 3 * * *", pattern=r"^\S+( \S+){4}$")
    copy_from: SecretStr | None = Field(default=None, repr=False)
    hospital_port: int = Field(default=8790, ge=1, le=65535)
    mqtt_url: str | None = Field(default=None, pattern=r"^$|^mqtts?://[^/?#@\s:]+(:\d{1,5})?/?$")
    mqtt_topics: str = DEFAULT_TOPICS
    mqtt_user: str = ""
    mqtt_password: str = Field(default="", repr=False)
    mqtt_ca_file: str = ""
    mqtt_client_id: str = Field(default="pulselake", min_length=1, max_length=100)
    mqtt_version: Literal["5", "3.1.1"] = "5"
    iot_hub: str | None = Field(default=None, repr=False)
    iot_hub_group: str = DEFAULT_CONSUMER_GROUP
    watch: str | None = None

    @field_validator("event_hubs")
    @classmethod
    def _check_connection_string(cls, value: str | None) -> str | None:
        if value and not re.search(r"(^|;)\s*Endpoint\s*=\s*sb://[^;]+", value):
            raise ValueError(
                "must be like 'Endpoint=sb://NAME.servicebus.windows.net/;SharedAccessKeyName=…;SharedAccessKey=…'"
            )
        return value

    @field_validator("iot_hub")
    @classmethod
    def _check_iot_hub(cls, value: str | None) -> str | None:
        if value and not re.search(r"(^|;)\s*Endpoint\s*=\s*sb://[^;]+.*;\s*EntityPath\s*=\s*[^;]+", value):
            raise ValueError(
                "must be the 'Event Hub-compatible endpoint' of the IoT Hub, like 'Endpoint=sb://…;"
                "SharedAccessKeyName=…;SharedAccessKey=…;EntityPath=…'"
            )
        return value

    @field_validator(
        *("idle_timeout_s", "page_origin", "receive_certificate", "receive_key", "accounts", "key_vault", "copy_from"),
        "oidc_issuer",
        *("mqtt_url", "iot_hub", "watch", *CLINICAL),
        mode="before",
    )
    @classmethod
    def _empty_is_none(cls, value: object) -> object:
        return None if value == "" else value

    @field_validator("hubs", mode="before")
    @classmethod
    def _parse_hubs(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        pairs = [pair.partition("=") for pair in value.split(",") if pair.strip()]
        if any(not stream.strip() or not hub.strip() for stream, _, hub in pairs):
            raise ValueError("must be like 'glucose_readings=glucose_monitoring,device_readings=devices'")
        return {stream.strip(): hub.strip() for stream, _, hub in pairs}

    @field_validator("transports", mode="before")
    @classmethod
    def _parse_transports(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        pairs = [[part.strip() for part in pair.split("=")] for pair in value.split(",") if pair.strip()]
        if any(len(pair) != 2 or not pair[0] or pair[1] not in (KAFKA, EVENT_HUBS) for pair in pairs):
            raise ValueError(
                f"must be like 'glucose_readings={KAFKA},alerts={EVENT_HUBS}'; there are no other transports"
            )
        return dict(pairs)

    @field_validator("kafka_security", "kafka_mechanism", mode="before")
    @classmethod
    def _upper(cls, value: object) -> object:
        return value.strip().upper() if isinstance(value, str) else value

    @model_validator(mode="after")
    def _check_receive(self) -> Self:
        if (self.receive_certificate is None) != (self.receive_key is None):
            raise ValueError("PULSELAKE_RECEIVE_CERTIFICATE and PULSELAKE_RECEIVE_KEY must both be set, or neither")
        if self.receive_host != "127.0.0.1" and self.receive_certificate is None:
            raise ValueError(
                "PULSELAKE_RECEIVE_CERTIFICATE and PULSELAKE_RECEIVE_KEY must be set, since PULSELAKE_RECEIVE_HOST is "
                "not 127.0.0.1: tokens and health data would go in the clear"
            )
        return self

    @model_validator(mode="after")
    def _check_oidc(self) -> Self:
        if self.oidc_issuer and not self.oidc_client_id:
            raise ValueError("PULSELAKE_OIDC_CLIENT_ID must be set, since PULSELAKE_OIDC_ISSUER is")
        if not self.page_passwords and not self.oidc_issuer:
            raise ValueError(
                "PULSELAKE_OIDC_ISSUER must be set, since PULSELAKE_PAGE_PASSWORDS is false and nobody could sign in"
            )
        return self

    @model_validator(mode="after")
    def _check_kafka(self) -> Self:
        if KAFKA in self.transports.values() and not self.kafka_bootstrap.strip():
            raise ValueError("PULSELAKE_KAFKA_BOOTSTRAP must name the brokers, since PULSELAKE_TRANSPORTS names kafka")
        if self.kafka_security.startswith("SASL") and not self.kafka_user:
            raise ValueError(
                f"PULSELAKE_KAFKA_USER must be set, since PULSELAKE_KAFKA_SECURITY is {self.kafka_security}"
            )
        return self

    @field_validator("keep_days", mode="before")
    @classmethod
    def _parse_keep_days(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        pairs = [[part.strip() for part in pair.split("=")] for pair in value.split(",") if pair.strip()]
        if not all(len(pair) == 2 and pair[1].isdigit() and _expires(pair[0]) for pair in pairs):
            raise ValueError(
                f"must be like 'bronze=400,silver/glucose_readings=90'; rows expire in {', '.join(EXPIRING_LAYERS)}"
            )
        if any(int(days) < MIN_KEEP_DAYS for _, days in pairs):
            raise ValueError(f"must keep at least {MIN_KEEP_DAYS} days")
        return dict(pairs)

    @field_validator("oltp_keep_days", mode="before")
    @classmethod
    def _parse_oltp_keep_days(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        pairs = [[part.strip() for part in pair.split("=")] for pair in value.split(",") if pair.strip()]
        if not all(len(pair) == 2 and pair[0] and pair[1].isdigit() and int(pair[1]) >= 1 for pair in pairs):
            raise ValueError("must be like 'GlucoseReadings=30,patient_status=7', each at least 1 day")
        return dict(pairs)

    @cached_property
    def root(self) -> Path:
        """The absolute home."""
        return self.home.expanduser().resolve()

    @property
    def dagster_home(self) -> Path:
        """Where Dagster keeps its records."""
        return self.root / "dagster"

    @property
    def hub_data(self) -> Path:
        """Where the local hub keeps its log."""
        return self.root / "hub"

    @property
    def has_clinical_sources(self) -> bool:
        """Whether a clinical source is set, so that a synthetic hospital would be mixed with a real one."""
        return any(getattr(self, name) for name in CLINICAL)

    @property
    def hospital(self) -> Path:
        """Where `pulselake hospital` keeps what it makes."""
        return self.root / "hospital"

    @property
    def metrics(self) -> Path:
        """Where each process writes its metrics."""
        return self.root / "metrics"

    @property
    def accounts_file(self) -> Path:
        """Where accounts at other systems are declared."""
        return (self.accounts or self.root / "accounts.toml").expanduser().resolve()

    @property
    def accounts_state(self) -> Path:
        """Where it is kept how far each account was read."""
        return self.root / "accounts"

    @property
    def tokens_file(self) -> Path:
        """Where it is kept which tokens apps may post with."""
        return self.root / "tokens.json"

    @property
    def oltp_url(self) -> str:
        """Where the transactional store is."""
        return self.oltp or f"sqlite:///{self.root / 'oltp.db'}"

    @property
    def uses_own_store(self) -> bool:
        """Whether the store is the file in the home."""
        return not self.oltp

    @property
    def uses_local_hub(self) -> bool:
        """Whether nothing but the local hub is configured."""
        return not self.event_hubs and not self.namespace

    @property
    def local_connection_string(self) -> str:
        """How the local hub is reached."""
        return (
            f"Endpoint=sb://127.0.0.1:{self.hub_port};SharedAccessKeyName={LOCAL_KEY_NAME};"
            f"SharedAccessKey={LOCAL_KEY};UseDevelopmentEmulator=true"
        )

    def mqtt_broker(self) -> Broker | None:
        """The MQTT broker; None if there is none."""
        if not self.mqtt_url:
            return None
        return Broker(
            self.mqtt_url,
            self.mqtt_user,
            self.mqtt_password,
            self.mqtt_ca_file,
            self.mqtt_client_id,
            self.mqtt_version,
        )

    def transport(self, stream: str) -> str:
        """What the hub of a stream is."""
        return self.transports.get(stream, EVENT_HUBS)

    def kafka_cluster(self) -> KafkaCluster:
        """How to reach the brokers."""
        is_of_event_hubs = self.kafka_user == EVENT_HUBS_USER and not self.kafka_password
        return KafkaCluster(
            self.kafka_bootstrap.strip(),
            self.kafka_security,
            self.kafka_mechanism,
            self.kafka_user,
            (self.event_hubs or "") if is_of_event_hubs else self.kafka_password,
            self.kafka_ca_file,
            "pulselake" if self.consumer_group == DEFAULT_CONSUMER_GROUP else self.consumer_group,
            self.kafka_max_message_bytes,
        )

    @property
    def lake_root(self) -> str:
        """Where the lake is: a folder's absolute path, or a URI."""
        return _root(self.lake or str(self.root / "lake"))

    @property
    def archive_root(self) -> str | None:
        """Where rows are archived before they are removed; None if they shall not be."""
        return None if self.archive == NO_ARCHIVE else _root(self.archive or str(self.root / "archive"))

    def lease(self, stream: str, name: str) -> Lease:
        """A process's part in the work on a stream; a folder of the lake holds the locks, or of the home on Azure."""
        return Lease.of(self._leases, stream, name)

    def holders(self, stream: str) -> dict[str, Holder]:
        """Who holds which of a stream's locks, by the names in `Lease`."""
        return holders(self._leases, stream)

    @property
    def _leases(self) -> Path:
        lake = self.lake_root
        return (self.root if "://" in lake else Path(lake)) / LEASES

    def hub(self, stream: str) -> str:
        """The name of a stream's hub: the one that was set, the one that the field knows, or the stream's."""
        return self.hubs.get(stream) or DEFAULT_HUBS.get(stream, stream)


def environment_variable(name: str) -> str | None:
    """The value of a variable that the user names, of the environment or of the file `.env`."""
    return os.environ.get(name) or dotenv_values(".env").get(name)


def hide_argument(value: str) -> None:
    """Begins the process anew if an argument of its command is this one, so that no list of processes shows it.

    The value then stands in the environment, which only its user may read, and the argument names its variable.
    """
    arguments = [COPY_FROM if each == value else each.replace(f"={value}", f"={COPY_FROM}") for each in sys.orig_argv]
    if arguments != sys.orig_argv:
        os.execve(sys.executable, arguments, {**os.environ, COPY_FROM: value})


def _root(place: str) -> str:
    return place if "://" in place else str(Path(place).expanduser().resolve())


def _expires(name: str) -> bool:
    return name.partition("/")[0] in EXPIRING_LAYERS
