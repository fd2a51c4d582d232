"""Run the MongoDB sink: every audit event one document, whatever is sent or read twice."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, Final

from pymongo import ASCENDING, DESCENDING, MongoClient
from pymongo.errors import BulkWriteError, PyMongoError

from hcp.errors import SettingsError, StoreError, StoreUnavailableError
from hcp.kafka.records import ConsumedRecord
from hcp.model.ledger import AuditEvent
from hcp.settings import Settings
from hcp.topics import AUDIT_EVENTS
from sinks.loop import Told, follow
from sinks.timescale.rows import timestamp

NAME: Final = "mongo"
COLLECTION: Final = "audit_events"
ANSWER_MS_MAX: Final = 10_000
INDEXES: Final = (
    [("observed_at", DESCENDING)],
    [("subject", ASCENDING), ("observed_at", DESCENDING)],
    [("actor", ASCENDING), ("observed_at", DESCENDING)],
)
_IS_THERE: Final = 11_000
"""MongoDB's code of a duplicate key."""


def run_mongo(*, settings: Settings) -> int:
    """Run until SIGTERM or SIGINT; return the exit code.

    Raises:
        SettingsError: HCP_MONGO_URL is none, or names no database.
        BrokerError: The topic is missing or the broker refuses.
        StoreError: MongoDB refuses a document.
    """
    documents = AuditDocuments(settings.mongo_url.get_secret_value())
    try:
        return follow(NAME, settings=settings, topics=(AUDIT_EVENTS.name,), effect=documents.take)
    finally:
        documents.close()


class AuditDocuments:
    """Writes batches; a document's `_id` is the event's own, so that a second one is refused by the server."""

    def __init__(self, url: str) -> None:
        """Connect lazily.

        Raises:
            SettingsError: The URL is none, or names no database.
        """
        try:
            self._client: MongoClient[dict[str, Any]] = MongoClient(
                url,
                serverSelectionTimeoutMS=ANSWER_MS_MAX,
                socketTimeoutMS=ANSWER_MS_MAX,
                w="majority",
            )
            self._collection = self._client.get_default_database()[COLLECTION]
        except (PyMongoError, ValueError) as error:
            raise SettingsError(f"HCP_MONGO_URL must be mongodb://HOST:PORT/DATABASE, was refused: {error}") from error
        self._is_indexed = False

    def take(self, told: Sequence[Told]) -> None:
        """Store what is not there yet.

        Raises:
            StoreUnavailableError: MongoDB is away.
            StoreError: It refuses a document.
        """
        documents = [document_of(value, record) for record, value in told if isinstance(value, AuditEvent)]
        if not documents:
            return
        try:
            self._index()
            self._collection.insert_many(documents, ordered=False)
        except BulkWriteError as error:
            refused = [each for each in error.details["writeErrors"] if each["code"] != _IS_THERE]
            if refused:
                raise StoreError(f"MongoDB must take a document, was: {refused[0]['errmsg']}") from error
        except PyMongoError as error:
            raise StoreUnavailableError(f"MongoDB must take audit events, was: {error}") from error

    def close(self) -> None:
        """Close the connection."""
        self._client.close()

    def _index(self) -> None:
        if not self._is_indexed:
            for keys in INDEXES:
                self._collection.create_index(keys)
            self._is_indexed = True


def document_of(event: AuditEvent, record: ConsumedRecord) -> dict[str, Any]:
    """Return an event as a document: the columns of the table audit_events, `_id` for audit_id."""
    fields: Mapping[str, Any] = asdict(event)
    return {
        "_id": event.audit_id,
        **{name: value for name, value in fields.items() if name not in {"audit_id", "observed_at_ms"}},
        "observed_at": timestamp(event.observed_at_ms),
        "recorded_at": timestamp(record.timestamp_ms),
        "kafka_partition": record.partition,
        "kafka_offset": record.offset,
    }
