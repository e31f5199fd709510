"""The fields of explained answers: why one has no explanation, and what the OpenAPI document says of them."""

from __future__ import annotations

from typing import Any

TIMEOUT, OVERLOADED, NOT_LOADED, FAILED = "timeout", "overloaded", "not_loaded", "failed"
"""Why an answer has no explanation: not in time; no explanation replica can be reached or all are full; none has loaded
the version yet; an unforeseen error, which is in the log."""
UNEXPLAINED = (TIMEOUT, OVERLOADED, NOT_LOADED, FAILED)

PARAMETER: dict[str, Any] = {
    "name": "explain",
    "in": "query",
    "schema": {"type": "string", "enum": ["0", "1"], "default": "0"},
    "description": "1: what each feature adds to the score, and reason codes; 422 where the use case declares none",
}
"""The query parameter that asks for an explanation."""

_NUMBER = {"type": "number"}
_REASON = {
    "type": "object",
    "properties": {
        "feature": {"type": "string"},
        "value": {"description": "The value that was used; null when it was missing", "nullable": True},
        "contribution": {"type": "number", "description": "In the unit of the margin, above 0"},
        "text": {"type": "string", "description": "The use case's text for the feature"},
    },
}

PROPERTIES: dict[str, Any] = {
    "explanation": {
        "type": "object",
        "nullable": True,
        "description": "With explain=1: base_value and contributions add up to margin, of probabilities the log-odds"
        " before calibration",
        "properties": {
            "base_value": _NUMBER,
            "margin": _NUMBER,
            "contributions": {"type": "object", "additionalProperties": _NUMBER},
            "reasons": {"type": "array", "items": _REASON},
        },
    },
    "explanation_error": {
        "type": "string",
        "enum": list(UNEXPLAINED),
        "description": "With explain=1, why explanation is null",
    },
}
"""What an explained answer has beside a prediction's other members."""
