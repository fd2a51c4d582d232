"""What an Xid means for the GPU it came from, after NVIDIA's Xid catalogue.

Source: docs.nvidia.com/deploy/xid-errors/analyzing-xid-catalog.html, columns "description" and "resolution bucket
(immediate action)", read in November 2026: RESTART_APP and IGNORE leave the GPU usable, RESET_GPU and RESTART_BM do
not; the workflows for 48 and 74 both end in a reset.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from hcp.model.units import EpochMs


class XidSeverity(StrEnum):
    """What to do with the GPU."""

    FATAL = "fatal"
    """Quarantine at once: nothing may run before a reset, a reboot or a repair."""
    DRAIN = "drain"
    """It works, and memory was lost or is being replaced: reset at the next occasion. Whoever ran may have died."""
    APPLICATION = "application"
    """The program's error, not the hardware's: restart the program."""
    NOTICE = "notice"
    """Nothing to do."""
    UNKNOWN = "unknown"
    """Not in the list below: look it up, and do not trust the GPU with new work meanwhile."""


@dataclass(frozen=True, slots=True, kw_only=True)
class XidMeaning:
    """A line of the catalogue, in our words."""

    severity: XidSeverity
    meaning: str


def _all(severity: XidSeverity, meanings: dict[int, str]) -> dict[int, XidMeaning]:
    return {xid: XidMeaning(severity=severity, meaning=meaning) for xid, meaning in meanings.items()}


CATALOGUE: Final[dict[int, XidMeaning]] = {
    **_all(
        XidSeverity.FATAL,
        {
            46: "GPU stopped processing (timeout)",
            48: "memory error of two bits or more, uncorrectable",
            62: "internal micro-controller halted",
            64: "memory row could not be remapped, or the page not retired",
            74: "NVLink error; the other end of the link may be at fault",
            79: "GPU fell off the PCI Express bus",
            95: "uncontained memory error: several programs are affected",
            109: "context switch timed out",
            110: "security fault",
            119: "GSP did not answer the driver in time",
            120: "GSP firmware error",
            136: "NVLink training failed",
            140: "unrecovered memory error",
            143: "GPU could not be initialised",
            156: "resource retired; takes effect at a reset",
            158: "GPU timed out for good",
        },
    ),
    **_all(
        XidSeverity.DRAIN,
        {
            63: "memory row remapped or page retired; takes effect at the next reset",
            92: "many corrected memory errors",
            94: "contained memory error: only the program that met it must restart",
            157: "resource could not be retired: none is left",
        },
    ),
    **_all(
        XidSeverity.APPLICATION,
        {
            8: "GPU stopped processing a channel",
            11: "invalid or corrupted push buffer stream",
            13: "graphics engine exception: most often an illegal access of the program",
            25: "invalid or illegal push buffer stream",
            31: "memory page fault: most often an illegal access of the program",
            32: "invalid or corrupted push buffer stream (DMA)",
            43: "program met a fault of its own and was ended; the GPU is healthy",
            45: "program was torn down, by a signal or after another Xid",
            68: "video decoder exception",
            69: "graphics engine class error",
            137: "illegal access over NVLink by a program",
        },
    ),
    **_all(
        XidSeverity.NOTICE,
        {
            14: "injected from user space",
            37: "driver firmware error, to be ignored",
            38: "driver firmware error, to be ignored",
            44: "fault during a context switch, to be ignored",
            66: "illegal access by the driver, to be ignored",
            67: "illegal access by the driver, to be ignored",
            106: "test message",
            107: "test message",
            121: "corrected errors on the link to the CPU",
            154: "what must be done to recover has changed: see the reading's recovery_action",
        },
    ),
}
_UNLISTED: Final = XidMeaning(severity=XidSeverity.UNKNOWN, meaning="not in the list")


def meaning_of(xid: int) -> XidMeaning:
    """Return what an Xid means; severity `unknown` when it is not in the list."""
    return CATALOGUE.get(xid, _UNLISTED)


@dataclass(frozen=True, slots=True, kw_only=True)
class XidSeen:
    """An Xid that the driver reported for a GPU, with the host's clock when it was taken from the event set."""

    uuid: str
    xid: int
    seen_at_ms: EpochMs

    @property
    def severity(self) -> XidSeverity:
        """Return what to do with the GPU."""
        return meaning_of(self.xid).severity

    @property
    def is_fatal(self) -> bool:
        """Tell whether the GPU must be quarantined."""
        return self.severity is XidSeverity.FATAL


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuLost:
    """A GPU cannot be watched any more: it fell off the bus, or the driver refuses; `detail` is NVML's word."""

    uuid: str
    seen_at_ms: EpochMs
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuBack:
    """A lost GPU is there again, after a reset: limits and modes are its defaults."""

    uuid: str
    seen_at_ms: EpochMs


HealthEvent = XidSeen | GpuLost | GpuBack
