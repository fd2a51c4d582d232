"""The audit of the kill switch: sent when Kafka can take it, by a thread that nothing waits for."""

import pwd
import queue
import threading
from contextlib import suppress
from pathlib import Path
from typing import Final

import structlog

from hcp.browse.auditing import Operator, audit_of, operator_here
from hcp.clock import seconds, wall_ms
from hcp.errors import BrokerError
from hcp.kafka.producer import RecordProducer
from hcp.model.ledger import AuditEvent

ACKNOWLEDGED_MS_MAX: Final = 90_000
"""Longer than librdkafka tries: then it is known whether the event is there, and a next try makes no second one."""
AGAIN_MS: Final = 1_000
UNKNOWN: Final = "unknown"

_log = structlog.get_logger(__name__)


class KillAudit:
    """Tells audit.events when the switch is set and released; what is not sent when the process ends is lost."""

    def __init__(self, file: Path, *, bootstrap: str, controller_id: str) -> None:
        """Do nothing yet."""
        self._file, self._bootstrap, self._controller_id = file, bootstrap, controller_id
        self._owed: queue.SimpleQueue[AuditEvent] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    def tell(self, *, is_set: bool) -> None:
        """Take note of a change; never waits and never fails."""
        by = Operator(name=_owner(self._file) if is_set else UNKNOWN, origin=operator_here().origin)
        action = "kill_switch.set" if is_set else "kill_switch.released"
        file = {"file": str(self._file)}
        self._owed.put(audit_of(by, action=action, subject=self._controller_id, at_ms=wall_ms(), after=file))
        if self._thread is None:
            self._thread = threading.Thread(target=self._send, name="kill-audit", daemon=True)
            self._thread.start()

    def _send(self) -> None:
        producer = RecordProducer(bootstrap=self._bootstrap, produced_by=self._controller_id)
        waiting = threading.Event()
        while True:
            event = self._owed.get()
            while True:
                try:
                    producer.send(event)
                    producer.flush(timeout_ms=ACKNOWLEDGED_MS_MAX)
                except BrokerError as error:
                    _log.warning("kill_switch_not_audited_yet", action=event.action, error=str(error))
                    waiting.wait(seconds(AGAIN_MS))
                else:
                    break


def _owner(file: Path) -> str:
    """Return who made the file, as far as the host knows."""
    with suppress(OSError, KeyError):
        return pwd.getpwuid(file.stat().st_uid).pw_name
    return UNKNOWN
