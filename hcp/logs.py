"""Logging for every process: structlog to standard error, one event name with key-values."""

import logging
import sys

import structlog


def configure_logs(*, level: str, log_format: str, process: str) -> None:
    """Set up structlog and the standard library's loggers once per process.

    Args:
        level: debug, info, warning or error.
        log_format: `json` for machines, `console` for people.
        process: Bound to every line, `agent.optimizer`.
    """
    number = logging.getLevelNamesMapping()[level.upper()]
    renderer: structlog.typing.Processor = (
        structlog.processors.JSONRenderer() if log_format == "json" else structlog.dev.ConsoleRenderer(colors=False)
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.PrintLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=True,
    )
    structlog.contextvars.bind_contextvars(process=process)
    logging.basicConfig(
        stream=sys.stderr, level=max(number, logging.WARNING), format="%(asctime)s %(name)s %(message)s"
    )
