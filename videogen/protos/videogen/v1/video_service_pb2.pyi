from videogen.protos.videogen.v1 import video_pb2 as _video_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ListOrder(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    LIST_ORDER_UNSPECIFIED: _ClassVar[ListOrder]
    LIST_ORDER_ASCENDING: _ClassVar[ListOrder]
    LIST_ORDER_DESCENDING: _ClassVar[ListOrder]
LIST_ORDER_UNSPECIFIED: ListOrder
LIST_ORDER_ASCENDING: ListOrder
LIST_ORDER_DESCENDING: ListOrder

class GenerateRequest(_message.Message):
    __slots__ = ("spec", "idempotency_key", "keep_running", "session")
    SPEC_FIELD_NUMBER: _ClassVar[int]
    IDEMPOTENCY_KEY_FIELD_NUMBER: _ClassVar[int]
    KEEP_RUNNING_FIELD_NUMBER: _ClassVar[int]
    SESSION_FIELD_NUMBER: _ClassVar[int]
    spec: _video_pb2.VideoSpec
    idempotency_key: str
    keep_running: bool
    session: str
    def __init__(self, spec: _Optional[_Union[_video_pb2.VideoSpec, _Mapping]] = ..., idempotency_key: _Optional[str] = ..., keep_running: _Optional[bool] = ..., session: _Optional[str] = ...) -> None: ...

class GenerateResponse(_message.Message):
    __slots__ = ("progress", "chunk", "finished")
    PROGRESS_FIELD_NUMBER: _ClassVar[int]
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    FINISHED_FIELD_NUMBER: _ClassVar[int]
    progress: _video_pb2.Job
    chunk: bytes
    finished: _video_pb2.Job
    def __init__(self, progress: _Optional[_Union[_video_pb2.Job, _Mapping]] = ..., chunk: _Optional[bytes] = ..., finished: _Optional[_Union[_video_pb2.Job, _Mapping]] = ...) -> None: ...

class SubmitRequest(_message.Message):
    __slots__ = ("spec", "idempotency_key", "session")
    SPEC_FIELD_NUMBER: _ClassVar[int]
    IDEMPOTENCY_KEY_FIELD_NUMBER: _ClassVar[int]
    SESSION_FIELD_NUMBER: _ClassVar[int]
    spec: _video_pb2.VideoSpec
    idempotency_key: str
    session: str
    def __init__(self, spec: _Optional[_Union[_video_pb2.VideoSpec, _Mapping]] = ..., idempotency_key: _Optional[str] = ..., session: _Optional[str] = ...) -> None: ...

class SubmitResponse(_message.Message):
    __slots__ = ("job",)
    JOB_FIELD_NUMBER: _ClassVar[int]
    job: _video_pb2.Job
    def __init__(self, job: _Optional[_Union[_video_pb2.Job, _Mapping]] = ...) -> None: ...

class GetRequest(_message.Message):
    __slots__ = ("id",)
    ID_FIELD_NUMBER: _ClassVar[int]
    id: str
    def __init__(self, id: _Optional[str] = ...) -> None: ...

class GetResponse(_message.Message):
    __slots__ = ("job",)
    JOB_FIELD_NUMBER: _ClassVar[int]
    job: _video_pb2.Job
    def __init__(self, job: _Optional[_Union[_video_pb2.Job, _Mapping]] = ...) -> None: ...

class ListRequest(_message.Message):
    __slots__ = ("page_size", "page_token", "order")
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    ORDER_FIELD_NUMBER: _ClassVar[int]
    page_size: int
    page_token: str
    order: ListOrder
    def __init__(self, page_size: _Optional[int] = ..., page_token: _Optional[str] = ..., order: _Optional[_Union[ListOrder, str]] = ...) -> None: ...

class ListResponse(_message.Message):
    __slots__ = ("jobs", "next_page_token", "cut")
    JOBS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    CUT_FIELD_NUMBER: _ClassVar[int]
    jobs: _containers.RepeatedCompositeFieldContainer[_video_pb2.Job]
    next_page_token: str
    cut: bool
    def __init__(self, jobs: _Optional[_Iterable[_Union[_video_pb2.Job, _Mapping]]] = ..., next_page_token: _Optional[str] = ..., cut: _Optional[bool] = ...) -> None: ...

class WatchRequest(_message.Message):
    __slots__ = ("id",)
    ID_FIELD_NUMBER: _ClassVar[int]
    id: str
    def __init__(self, id: _Optional[str] = ...) -> None: ...

class WatchResponse(_message.Message):
    __slots__ = ("job",)
    JOB_FIELD_NUMBER: _ClassVar[int]
    job: _video_pb2.Job
    def __init__(self, job: _Optional[_Union[_video_pb2.Job, _Mapping]] = ...) -> None: ...

class CancelRequest(_message.Message):
    __slots__ = ("id",)
    ID_FIELD_NUMBER: _ClassVar[int]
    id: str
    def __init__(self, id: _Optional[str] = ...) -> None: ...

class CancelResponse(_message.Message):
    __slots__ = ("job",)
    JOB_FIELD_NUMBER: _ClassVar[int]
    job: _video_pb2.Job
    def __init__(self, job: _Optional[_Union[_video_pb2.Job, _Mapping]] = ...) -> None: ...

class ChangeRequest(_message.Message):
    __slots__ = ("id", "prompt", "negative_prompt", "guidance_scale", "priority", "deadline")
    ID_FIELD_NUMBER: _ClassVar[int]
    PROMPT_FIELD_NUMBER: _ClassVar[int]
    NEGATIVE_PROMPT_FIELD_NUMBER: _ClassVar[int]
    GUIDANCE_SCALE_FIELD_NUMBER: _ClassVar[int]
    PRIORITY_FIELD_NUMBER: _ClassVar[int]
    DEADLINE_FIELD_NUMBER: _ClassVar[int]
    id: str
    prompt: str
    negative_prompt: str
    guidance_scale: float
    priority: _video_pb2.Priority
    deadline: float
    def __init__(self, id: _Optional[str] = ..., prompt: _Optional[str] = ..., negative_prompt: _Optional[str] = ..., guidance_scale: _Optional[float] = ..., priority: _Optional[_Union[_video_pb2.Priority, str]] = ..., deadline: _Optional[float] = ...) -> None: ...

class ChangeResponse(_message.Message):
    __slots__ = ("job",)
    JOB_FIELD_NUMBER: _ClassVar[int]
    job: _video_pb2.Job
    def __init__(self, job: _Optional[_Union[_video_pb2.Job, _Mapping]] = ...) -> None: ...

class DeleteRequest(_message.Message):
    __slots__ = ("id",)
    ID_FIELD_NUMBER: _ClassVar[int]
    id: str
    def __init__(self, id: _Optional[str] = ...) -> None: ...

class DeleteResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class RemixRequest(_message.Message):
    __slots__ = ("id", "prompt")
    ID_FIELD_NUMBER: _ClassVar[int]
    PROMPT_FIELD_NUMBER: _ClassVar[int]
    id: str
    prompt: str
    def __init__(self, id: _Optional[str] = ..., prompt: _Optional[str] = ...) -> None: ...

class RemixResponse(_message.Message):
    __slots__ = ("job",)
    JOB_FIELD_NUMBER: _ClassVar[int]
    job: _video_pb2.Job
    def __init__(self, job: _Optional[_Union[_video_pb2.Job, _Mapping]] = ...) -> None: ...

class ContentRequest(_message.Message):
    __slots__ = ("id", "start", "stop")
    ID_FIELD_NUMBER: _ClassVar[int]
    START_FIELD_NUMBER: _ClassVar[int]
    STOP_FIELD_NUMBER: _ClassVar[int]
    id: str
    start: int
    stop: int
    def __init__(self, id: _Optional[str] = ..., start: _Optional[int] = ..., stop: _Optional[int] = ...) -> None: ...

class ContentResponse(_message.Message):
    __slots__ = ("total_size", "digest", "chunk")
    TOTAL_SIZE_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    total_size: int
    digest: str
    chunk: bytes
    def __init__(self, total_size: _Optional[int] = ..., digest: _Optional[str] = ..., chunk: _Optional[bytes] = ...) -> None: ...
