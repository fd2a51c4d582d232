"""What a field of a record means: its documentation, unit and range, said once and read by Avro, SQL and the checks."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Field:
    """Attached to a dataclass field by `Annotated[type, Field(...)]`.

    Attributes:
        doc: What it is, in a sentence; becomes the Avro `doc`.
        unit: Standard symbol (`W`, `USD/MWh`, `ms since epoch`, `1` for a ratio or a count); None for names and enums.
        minimum: Smallest value allowed, inclusive; a NaN or an infinity is never allowed.
        maximum: Largest value allowed, inclusive.
        pattern: What a string must match in full.
        column: True for one entry per device of the record: every column is as long as `device_indexes`.
    """

    doc: str
    unit: str | None = None
    minimum: float | None = None
    maximum: float | None = None
    pattern: str | None = None
    column: bool = False

    @property
    def rule(self) -> str:
        """Say in words what the field must be."""
        if self.pattern is not None:
            return f"a string that matches {self.pattern}"
        unit = f" {self.unit}" if self.unit else ""
        if self.minimum is not None and self.maximum is not None:
            return f"from {self.minimum:g} to {self.maximum:g}{unit}"
        if self.minimum is not None:
            return f"{self.minimum:g}{unit} or more"
        if self.maximum is not None:
            return f"{self.maximum:g}{unit} or less"
        return "a finite number"
