from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class RequestPart(_message.Message):
    __slots__ = ("header", "chunk")
    HEADER_FIELD_NUMBER: _ClassVar[int]
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    header: RequestHeader
    chunk: Chunk
    def __init__(self, header: _Optional[_Union[RequestHeader, _Mapping]] = ..., chunk: _Optional[_Union[Chunk, _Mapping]] = ...) -> None: ...

class ReplyPart(_message.Message):
    __slots__ = ("header", "chunk")
    HEADER_FIELD_NUMBER: _ClassVar[int]
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    header: ReplyHeader
    chunk: Chunk
    def __init__(self, header: _Optional[_Union[ReplyHeader, _Mapping]] = ..., chunk: _Optional[_Union[Chunk, _Mapping]] = ...) -> None: ...

class Chunk(_message.Message):
    __slots__ = ("offset", "data")
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    offset: int
    data: bytes
    def __init__(self, offset: _Optional[int] = ..., data: _Optional[bytes] = ...) -> None: ...

class Signature(_message.Message):
    __slots__ = ("name", "shape", "num_bytes", "dtype")
    NAME_FIELD_NUMBER: _ClassVar[int]
    SHAPE_FIELD_NUMBER: _ClassVar[int]
    NUM_BYTES_FIELD_NUMBER: _ClassVar[int]
    DTYPE_FIELD_NUMBER: _ClassVar[int]
    name: str
    shape: _containers.RepeatedScalarFieldContainer[int]
    num_bytes: int
    dtype: str
    def __init__(self, name: _Optional[str] = ..., shape: _Optional[_Iterable[int]] = ..., num_bytes: _Optional[int] = ..., dtype: _Optional[str] = ...) -> None: ...

class Signatures(_message.Message):
    __slots__ = ("tensors", "num_bytes")
    TENSORS_FIELD_NUMBER: _ClassVar[int]
    NUM_BYTES_FIELD_NUMBER: _ClassVar[int]
    tensors: _containers.RepeatedCompositeFieldContainer[Signature]
    num_bytes: int
    def __init__(self, tensors: _Optional[_Iterable[_Union[Signature, _Mapping]]] = ..., num_bytes: _Optional[int] = ...) -> None: ...

class RequestHeader(_message.Message):
    __slots__ = ("plan", "server_round", "splits", "ledger_head", "arrays", "sum")
    PLAN_FIELD_NUMBER: _ClassVar[int]
    SERVER_ROUND_FIELD_NUMBER: _ClassVar[int]
    SPLITS_FIELD_NUMBER: _ClassVar[int]
    LEDGER_HEAD_FIELD_NUMBER: _ClassVar[int]
    ARRAYS_FIELD_NUMBER: _ClassVar[int]
    SUM_FIELD_NUMBER: _ClassVar[int]
    plan: str
    server_round: int
    splits: _containers.RepeatedScalarFieldContainer[str]
    ledger_head: str
    arrays: Signatures
    sum: str
    def __init__(self, plan: _Optional[str] = ..., server_round: _Optional[int] = ..., splits: _Optional[_Iterable[str]] = ..., ledger_head: _Optional[str] = ..., arrays: _Optional[_Union[Signatures, _Mapping]] = ..., sum: _Optional[str] = ...) -> None: ...

class ReplyHeader(_message.Message):
    __slots__ = ("institution", "refusal", "figures", "num_examples", "evaluations", "ledger_head", "arrays", "advert", "sum")
    INSTITUTION_FIELD_NUMBER: _ClassVar[int]
    REFUSAL_FIELD_NUMBER: _ClassVar[int]
    FIGURES_FIELD_NUMBER: _ClassVar[int]
    NUM_EXAMPLES_FIELD_NUMBER: _ClassVar[int]
    EVALUATIONS_FIELD_NUMBER: _ClassVar[int]
    LEDGER_HEAD_FIELD_NUMBER: _ClassVar[int]
    ARRAYS_FIELD_NUMBER: _ClassVar[int]
    ADVERT_FIELD_NUMBER: _ClassVar[int]
    SUM_FIELD_NUMBER: _ClassVar[int]
    institution: str
    refusal: str
    figures: _containers.RepeatedCompositeFieldContainer[Number]
    num_examples: int
    evaluations: _containers.RepeatedCompositeFieldContainer[Evaluation]
    ledger_head: str
    arrays: Signatures
    advert: str
    sum: str
    def __init__(self, institution: _Optional[str] = ..., refusal: _Optional[str] = ..., figures: _Optional[_Iterable[_Union[Number, _Mapping]]] = ..., num_examples: _Optional[int] = ..., evaluations: _Optional[_Iterable[_Union[Evaluation, _Mapping]]] = ..., ledger_head: _Optional[str] = ..., arrays: _Optional[_Union[Signatures, _Mapping]] = ..., advert: _Optional[str] = ..., sum: _Optional[str] = ...) -> None: ...

class Number(_message.Message):
    __slots__ = ("name", "real", "integer")
    NAME_FIELD_NUMBER: _ClassVar[int]
    REAL_FIELD_NUMBER: _ClassVar[int]
    INTEGER_FIELD_NUMBER: _ClassVar[int]
    name: str
    real: float
    integer: int
    def __init__(self, name: _Optional[str] = ..., real: _Optional[float] = ..., integer: _Optional[int] = ...) -> None: ...

class Evaluation(_message.Message):
    __slots__ = ("split", "metrics", "tally")
    SPLIT_FIELD_NUMBER: _ClassVar[int]
    METRICS_FIELD_NUMBER: _ClassVar[int]
    TALLY_FIELD_NUMBER: _ClassVar[int]
    split: str
    metrics: _containers.RepeatedCompositeFieldContainer[Number]
    tally: Tally
    def __init__(self, split: _Optional[str] = ..., metrics: _Optional[_Iterable[_Union[Number, _Mapping]]] = ..., tally: _Optional[_Union[Tally, _Mapping]] = ...) -> None: ...

class Tally(_message.Message):
    __slots__ = ("sums", "std")
    SUMS_FIELD_NUMBER: _ClassVar[int]
    STD_FIELD_NUMBER: _ClassVar[int]
    sums: _containers.RepeatedCompositeFieldContainer[Sums]
    std: float
    def __init__(self, sums: _Optional[_Iterable[_Union[Sums, _Mapping]]] = ..., std: _Optional[float] = ...) -> None: ...

class Sums(_message.Message):
    __slots__ = ("statistic", "values")
    STATISTIC_FIELD_NUMBER: _ClassVar[int]
    VALUES_FIELD_NUMBER: _ClassVar[int]
    statistic: str
    values: _containers.RepeatedScalarFieldContainer[float]
    def __init__(self, statistic: _Optional[str] = ..., values: _Optional[_Iterable[float]] = ...) -> None: ...

class CancelRequest(_message.Message):
    __slots__ = ("job",)
    JOB_FIELD_NUMBER: _ClassVar[int]
    job: str
    def __init__(self, job: _Optional[str] = ...) -> None: ...

class CancelReply(_message.Message):
    __slots__ = ("cancelled",)
    CANCELLED_FIELD_NUMBER: _ClassVar[int]
    cancelled: bool
    def __init__(self, cancelled: bool = ...) -> None: ...

class StatusRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class StatusReply(_message.Message):
    __slots__ = ("institution", "running", "jobs")
    INSTITUTION_FIELD_NUMBER: _ClassVar[int]
    RUNNING_FIELD_NUMBER: _ClassVar[int]
    JOBS_FIELD_NUMBER: _ClassVar[int]
    institution: str
    running: Running
    jobs: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, institution: _Optional[str] = ..., running: _Optional[_Union[Running, _Mapping]] = ..., jobs: _Optional[_Iterable[str]] = ...) -> None: ...

class Running(_message.Message):
    __slots__ = ("job", "what", "server_round", "elapsed_s", "since")
    JOB_FIELD_NUMBER: _ClassVar[int]
    WHAT_FIELD_NUMBER: _ClassVar[int]
    SERVER_ROUND_FIELD_NUMBER: _ClassVar[int]
    ELAPSED_S_FIELD_NUMBER: _ClassVar[int]
    SINCE_FIELD_NUMBER: _ClassVar[int]
    job: str
    what: str
    server_round: int
    elapsed_s: float
    since: float
    def __init__(self, job: _Optional[str] = ..., what: _Optional[str] = ..., server_round: _Optional[int] = ..., elapsed_s: _Optional[float] = ..., since: _Optional[float] = ...) -> None: ...
