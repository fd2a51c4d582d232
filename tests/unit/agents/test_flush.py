"""What a flush of the producer waits for, and that a lost changelog record ends all commits."""

import asyncio
from pathlib import Path
from typing import Any, Final

import pytest
from aiokafka.errors import KafkaTimeoutError
from faust.types.tuples import TP, FutureMessage, PendingMessage, RecordMetadata

from agents.app import make_app
from agents.flush import BoundedProducer
from hcp.errors import BrokerError
from hcp.settings import load_settings

CHANGELOG: Final = "hcp-optimizer-markets-changelog"
TAKEN: Final = RecordMetadata(topic=CHANGELOG, partition=0, topic_partition=TP(CHANGELOG, 0), offset=7)


@pytest.fixture
async def producer(tmp_path: Path) -> BoundedProducer:
    """Give a producer that is not connected: its records wait until a test answers for the broker."""
    app = make_app("optimizer", settings=load_settings().model_copy(update={"state_dir": tmp_path}))
    assert isinstance(app.producer, BoundedProducer), "Faust must make its producer of this class"
    return app.producer


async def _handed_over(producer: BoundedProducer) -> FutureMessage:
    channel: Any = CHANGELOG
    message = FutureMessage(
        PendingMessage(
            channel=channel,
            key=b"tx-north",
            value=b"state",
            key_serializer=None,
            value_serializer=None,
            partition=0,
            timestamp=None,
            headers=None,
            callback=None,
        )
    )
    producer.send_soon(message)
    return message


async def _is_done(flush: "asyncio.Task[None]") -> bool:
    for _ in range(5):
        await asyncio.sleep(0)
    return flush.done()


async def test_a_flush_waits_for_the_broker_to_have_each_record(producer: BoundedProducer) -> None:
    """Handed to the client is not arrived: an offset committed then could be ahead of the table."""
    message = await _handed_over(producer)
    flush = asyncio.create_task(producer.flush())
    assert not await _is_done(flush)
    message.set_result(TAKEN)
    assert await _is_done(flush)


async def test_a_flush_ends_while_more_comes_in(producer: BoundedProducer) -> None:
    """What comes after its begin is for the next flush."""
    message = await _handed_over(producer)
    flush = asyncio.create_task(producer.flush())
    assert not await _is_done(flush)
    await _handed_over(producer)
    message.set_result(TAKEN)
    assert await _is_done(flush)


async def test_after_a_lost_record_nothing_is_committed(producer: BoundedProducer) -> None:
    """Neither now nor later: the table is ahead of its changelog until the process starts again."""
    message = await _handed_over(producer)
    message.set_exception(KafkaTimeoutError())
    for _ in range(2):
        with pytest.raises(BrokerError, match="changelog record must reach the broker"):
            await producer.flush()


async def test_a_buffer_that_ended_leaves_no_flush_waiting(
    producer: BoundedProducer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a broken buffer never sent is lost, and said to be."""
    monkeypatch.setattr("agents.flush.LOOK_SECONDS", 0.01)
    await _handed_over(producer)
    flush = asyncio.create_task(producer.flush())
    assert not await _is_done(flush)
    await producer.buffer.crash(KafkaTimeoutError())
    with pytest.raises(BrokerError, match="1 records not sent"):
        await flush
