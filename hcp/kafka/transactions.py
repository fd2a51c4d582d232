"""Records of several topics that are written together or not at all, by one writer of a name at a time."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from confluent_kafka import KafkaError, KafkaException, Producer

from hcp.clock import seconds
from hcp.codecs import encode
from hcp.errors import BrokerError
from hcp.kafka.producer import Headers, headers_of
from hcp.topics import topic_of

TRANSACTION_MS_MAX: Final = 15_000
"""How long readers of what is committed may wait behind a writer that was killed; its successor ends the wait."""
ANSWER_MS_MAX: Final = 30_000
ATTEMPTS_MAX: Final = 5
_FENCED: Final = frozenset(
    {KafkaError._FENCED, KafkaError.PRODUCER_FENCED, KafkaError.INVALID_PRODUCER_EPOCH}  # noqa: SLF001  # public name
)


class TransactionalProducer:
    """The one writer of its name: making another ends this one, and what it had not committed is as never written.

    Readers at isolation level read_committed (librdkafka's default) are given committed records only.
    """

    def __init__(self, *, bootstrap: str, name: str, produced_by: str) -> None:
        """Take the name over and wait until what its last writer committed, or did not, is settled.

        Raises:
            BrokerError: The broker does not answer.
        """
        self._bootstrap, self._name, self._produced_by = bootstrap, name, produced_by
        self._producer = self._opened()

    def settle(self) -> None:
        """Wait until readers are given what was committed: a commit is answered before the partitions know of it.

        Raises:
            BrokerError: The broker does not answer.
        """
        self._producer = self._opened()

    def _opened(self) -> Producer:
        producer = Producer(
            {
                "bootstrap.servers": self._bootstrap,
                "client.id": self._produced_by,
                "transactional.id": self._name,
                "transaction.timeout.ms": TRANSACTION_MS_MAX,
                "delivery.timeout.ms": TRANSACTION_MS_MAX,
                "compression.type": "lz4",
            }
        )
        try:
            producer.init_transactions(seconds(ANSWER_MS_MAX))
        except KafkaException as error:
            raise self._failed(error) from error
        return producer

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Commit what is sent within; when the body raises, nothing of it counts.

        Raises:
            BrokerError: Another writer took the name over, or the broker refused or did not answer. In the last case
                it may have been committed: look before doing it again.
        """
        try:
            self._producer.begin_transaction()
            try:
                yield
                self._commit()
            except BaseException:
                self._abort()
                raise
        except KafkaException as error:
            raise self._failed(error) from error

    def send(self, value: object) -> None:
        """Queue a record of the registry on its topic.

        Raises:
            OutOfRangeError: A field breaks its documented range.
        """
        topic, data = topic_of(value), encode(value)
        headers = headers_of(topic.name, data, produced_by=self._produced_by)
        self.send_bytes(
            topic.name, key=topic.key_of(value), value=data, partition=topic.partition_of(value), headers=headers
        )

    def send_bytes(
        self, topic: str, *, key: bytes | None, value: bytes | None, partition: int, headers: Headers
    ) -> None:
        """Queue bytes as they are; what is not delivered fails the commit."""
        self._producer.produce(topic, value=value, key=key, partition=partition, headers=headers)
        self._producer.poll(0)

    def _commit(self) -> None:
        for attempt in range(1, ATTEMPTS_MAX + 1):
            try:
                self._producer.commit_transaction(seconds(ANSWER_MS_MAX))
            except KafkaException as error:
                if not error.args[0].retriable() or attempt == ATTEMPTS_MAX:
                    raise
            else:
                return

    def _abort(self) -> None:
        """Give up the transaction where that can be done: after being fenced the broker has done it."""
        try:
            self._producer.abort_transaction(seconds(ANSWER_MS_MAX))
        except KafkaException:
            self._producer.purge()

    def _failed(self, error: KafkaException) -> BrokerError:
        cause = error.args[0]
        if cause.code() in _FENCED:
            return BrokerError(
                f"{self._name} must have one writer, was taken over by another; what it had not "
                "committed was not written"
            )
        return BrokerError(f"a transaction of {self._name} must be committed, was: {cause.str()}")
