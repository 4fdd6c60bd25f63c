"""The columns of table exports. To export another column of ``results``, add its name here.

Scripts of users read the columns: new ones come last.
"""

from __future__ import annotations

from typing import Final

#: The columns of a .csv file.
CSV_COLUMNS: Final = (
    "custom_id",
    "status",
    "answer",
    "finish_reason",
    "status_code",
    "error_code",
    "error_message",
    "prompt_tokens",
    "completion_tokens",
    "total_tokens",
    "attempts",
    "batch_id",
    "model",
    "service_tier",
    "reused_from",
)

#: The columns of a .parquet file, with their types as Arrow names them.
PARQUET_COLUMNS: Final = {
    "custom_id": "string",
    "status": "string",
    "status_code": "int16",
    "request_id": "string",
    "finish_reason": "string",
    "text": "string",
    "response": "string",
    "error_code": "string",
    "error_message": "string",
    "attempts": "int32",
    "prompt_tokens": "int32",
    "completion_tokens": "int32",
    "total_tokens": "int32",
    "batch_id": "string",
    "model": "string",
    "service_tier": "string",
    "reused_from": "string",
}
#: The columns that are never null.
ALWAYS_THERE: Final = frozenset({"custom_id", "status", "attempts"})
#: The columns with few different values; Parquet stores them with a dictionary.
REPEATED: Final = (
    "status",
    "status_code",
    "finish_reason",
    "error_code",
    "error_message",
    "attempts",
    "batch_id",
    "model",
    "service_tier",
)
