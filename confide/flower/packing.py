"""Packs the small contents of a message into one record, and unpacks them.

A message travels in parts, each by a request of its own on each of four ways: itself, its records,
each array and each piece of one. A small model's message has eight or more, packed three. Large
ones are left in parts, of which a connection that breaks off costs only the last.

Both sides have the same release of confide, so that nobody has to ask who packs.
"""

from flwr.app import ConfigRecord, Message, RecordDict
from flwr.app.message import make_message
from flwr.common.serde import recorddict_from_proto, recorddict_to_proto
from flwr.proto.recorddict_pb2 import RecordDict as RecordDictProto
from google.protobuf.message import DecodeError

LARGEST_BYTES = 2**20
"""Of contents that are packed."""
_KEY = "packed"


def packed(message: Message) -> Message:
    """Return a message with the same metadata, its contents packed if they are small."""
    if not message.has_content() or _array_bytes(message.content) > LARGEST_BYTES:
        return message
    # The same bytes for the same contents: SuperLink takes such a part once for all institutions.
    content = recorddict_to_proto(message.content).SerializeToString(deterministic=True)
    if len(content) > LARGEST_BYTES:
        return message
    record = RecordDict({_KEY: ConfigRecord({_KEY: content})})
    return make_message(metadata=message.metadata, content=record)


def unpacked(message: Message) -> Message:
    """Return a message with the same metadata, its contents unpacked if they were packed.

    Contents that cannot be unpacked are left: whoever reads them refuses what it does not know.
    """
    if not message.has_content() or list(message.content) != [_KEY]:
        return message
    record = message.content[_KEY]
    content = record.get(_KEY) if isinstance(record, ConfigRecord) else None
    if not isinstance(content, bytes) or len(content) > LARGEST_BYTES:
        return message
    try:
        records = recorddict_from_proto(RecordDictProto.FromString(content))
    except (DecodeError, KeyError, TypeError, ValueError):
        return message
    return make_message(metadata=message.metadata, content=records)


def _array_bytes(content: RecordDict) -> int:
    return sum(
        len(array.data) for arrays in content.array_records.values() for array in arrays.values()
    )


__all__ = ["LARGEST_BYTES", "packed", "unpacked"]
