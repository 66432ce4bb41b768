"""What the models of a report are made of."""

from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field


def _printable(value: object) -> object:
    """Turn surrogate-escaped bytes of a name into backslash escapes."""
    if isinstance(value, str):
        return value.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return value


Text = Annotated[str, BeforeValidator(_printable)]
Seconds = Annotated[float, Field(allow_inf_nan=False)]


class Part(BaseModel):
    """A part of a report: frozen, and a reader of it passes over fields that it does not know."""

    model_config = ConfigDict(frozen=True, extra="ignore")
