"""The whole error tree.

    CesarError                      code `internal`
    ├── UsageError                  an option or argument is invalid
    │   ├── UnknownLanguage
    │   └── UnknownFormat
    ├── InputError                  a recording can't be read
    │   ├── RecordingNotFound
    │   ├── RecordingNotReadable
    │   ├── EmptyRecording
    │   ├── NotMedia
    │   ├── NoAudioTrack
    │   ├── NoMediaInFolder
    │   ├── BadAudio
    │   ├── RangeOutsideRecording
    │   ├── RecordingChanged
    │   ├── RecordingTooLong
    │   ├── TrackNotFound
    │   ├── AddressRefused
    │   ├── FetchRefused
    │   └── FetchFailed
    │       └── FetchTooSlow
    ├── OutputError                 a result can't be written
    │   ├── OutputNotWritable
    │   ├── RecordingsNotWritable
    │   └── DiskFull
    ├── ModelError                  the weights can't be obtained or loaded
    │   ├── UnknownModel
    │   ├── ModelNotInstalled
    │   ├── ModelCorrupt
    │   ├── DownloadFailed
    │   └── DeviceUnavailable
    ├── RecognitionError            recognition itself failed
    │   ├── RecogniserNotStarted
    │   ├── ChildCrashed
    │   ├── ChildKilled
    │   ├── ChildStalled
    │   └── WorkerLost
    ├── QueueError                  the queue refuses an operation
    │   ├── JobNotFound
    │   ├── StaleJob
    │   │   └── ClaimLost
    │   ├── InvalidTransition
    │   └── IdempotencyConflict
    ├── DatabaseError               the queue's database can't be used
    │   ├── NotADatabase
    │   │   └── DatabaseDamaged
    │   ├── DatabaseTooNew
    │   ├── DatabaseNotWritable
    │   ├── NetworkFileSystem
    │   ├── ForeignRecordings
    │   ├── DatabaseMissing
    │   └── DatabaseUnavailable
    │       └── DatabaseFull
    ├── ServiceError                the service refuses a request or can't be reached
    │   ├── BadRequest
    │   ├── Unauthorised
    │   ├── NotPermitted
    │   ├── UploadTooLarge
    │   ├── UploadStalled
    │   ├── HeadTooLarge
    │   ├── BodyStalled
    │   ├── StorageLimitReached
    │   ├── UnsupportedMedia
    │   ├── ServiceStopping
    │   ├── ServiceOverloaded
    │   ├── TooManyRequests
    │   ├── TooManyJobs
    │   ├── NotAcceptable
    │   ├── RecordingNotKept
    │   ├── KeyNotFound
    │   └── ServiceUnreachable
    └── Interrupted                 the caller stopped the work

Every error has a stable `code`, a `message` that says what happened to what, and a `hint` that says how to fix it.
The tables of exit codes and HTTP statuses are in `cesar.cli.exits` and `cesar.api.http.errors`, not here.
"""

from __future__ import annotations


class CesarError(Exception):
    """Internal error: a bug in Cesar, unless it is one of the subclasses."""

    code = "internal"
    default_hint = "This is a bug in Cesar: please report it with the output of `cesar doctor`."

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = self.default_hint if hint is None else hint

    def __reduce__(self) -> tuple[object, ...]:
        return (_rebuild, (type(self), self.message, self.hint))


class UsageError(CesarError):
    """An option or argument has an invalid value."""

    code = "bad_option"
    default_hint = "See `cesar --help`."


class UnknownLanguage(UsageError):
    """The language is unknown, or the model does not know it."""

    code = "unknown_language"
    default_hint = "Use a code such as en, de or zh, or omit the language to detect it."


class UnknownFormat(UsageError):
    """There is no such transcript format."""

    code = "unknown_format"
    default_hint = "Use the name of a transcript format."


class InputError(CesarError):
    """A recording can't be read."""

    code = "bad_input"
    default_hint = "Check that the file plays in a media player."


class RecordingNotFound(InputError):
    """There is no such file."""

    code = "file_not_found"
    default_hint = "Check the path."


class RecordingNotReadable(InputError):
    """The file exists but permission to read it is denied."""

    code = "file_not_readable"
    default_hint = "Check the file's permissions."


class EmptyRecording(InputError):
    """The file is empty, or its audio track has no samples."""

    code = "empty_recording"
    default_hint = "Record or copy the file again: there is nothing in it."


class NotMedia(InputError):
    """The file is neither audio nor video, or is too damaged to open."""

    code = "not_media"
    default_hint = "Check that the file plays in a media player; if it was truncated while being copied, copy it again."


class NoAudioTrack(InputError):
    """The file has no audio track."""

    code = "no_audio_track"
    default_hint = "Only recordings with sound can be transcribed."


class NoMediaInFolder(InputError):
    """The folder contains no media files."""

    code = "no_media_in_folder"
    default_hint = "Name a folder with audio or video files directly in it."


class BadAudio(InputError):
    """The audio track can't be decoded, or its samples can't be sound."""

    code = "bad_audio"
    default_hint = "Convert the file again from its source, for example to 16-bit WAV or FLAC."


class RangeOutsideRecording(InputError):
    """The requested range starts after the end of the recording."""

    code = "range_outside_recording"
    default_hint = "Choose --start and --end within the recording."


class TrackNotFound(InputError):
    """The recording has no audio track with that number."""

    code = "track_not_found"
    default_hint = "Omit `--track` to use the track with speech."


class RecordingChanged(InputError):
    """The file was replaced or modified while it was being transcribed."""

    code = "recording_changed"
    default_hint = "Leave the file alone until it has been transcribed; its job starts over with the current file."


class RecordingTooLong(InputError):
    """The recording is longer than the setting `max_duration_s` allows."""

    code = "recording_too_long"
    default_hint = "Cut it into parts, or raise the setting `max_duration_s`."


class AddressRefused(InputError):
    """Recordings are not fetched from that address."""

    code = "address_refused"
    default_hint = "Use a public http or https address."


class FetchRefused(InputError):
    """The server at the address refuses to serve the recording."""

    code = "fetch_refused"
    default_hint = "Open the address in a browser: it must lead to the media file itself."


class FetchFailed(InputError):
    """Fetching the recording failed this time."""

    code = "fetch_failed"
    default_hint = "It is retried automatically; the data received so far is kept."


class FetchTooSlow(FetchFailed):
    """The recording arrives too slowly, or takes too long in total."""

    code = "fetch_too_slow"
    default_hint = "Retry the job when the server is faster: the data received so far is kept for a while."


class OutputError(CesarError):
    """A result can't be written."""

    code = "output_failed"
    default_hint = "Choose another location with --output or --output-dir."


class OutputNotWritable(OutputError):
    """The output folder is missing or not writable."""

    code = "output_not_writable"
    default_hint = "Check the folder's permissions, or choose another with --output or --output-dir."


class RecordingsNotWritable(OutputError):
    """The folder of recordings is not writable."""

    code = "recordings_not_writable"
    default_hint = "Check that `audio` in the data folder, and all folders in it, are writable for Cesar's user."


class DiskFull(OutputError):
    """There is no disk space left."""

    code = "disk_full"
    default_hint = "Free some space and run the same command again; with --skip-existing it skips what is done."


class ModelError(CesarError):
    """The model's weights can't be obtained or loaded."""

    code = "model_failed"
    default_hint = "See `cesar models list` and `cesar doctor`."


class UnknownModel(ModelError):
    """There is no model and no folder of that name."""

    code = "unknown_model"
    default_hint = "See `cesar models list` for the names, or pass the folder of a CTranslate2 Whisper model."


class ModelNotInstalled(ModelError):
    """The model is not installed, and using the network is not allowed."""

    code = "model_not_installed"
    default_hint = "Run `cesar models pull NAME` while online, or `cesar models import FILE` while offline."


class ModelCorrupt(ModelError):
    """A file of the model has the wrong checksum."""

    code = "model_corrupt"
    default_hint = "Remove the model and download it again; see `cesar models verify`."


class DownloadFailed(ModelError):
    """The model could not be downloaded."""

    code = "download_failed"
    default_hint = "Check the network and run the same command again: the data received so far is kept."


class DeviceUnavailable(ModelError):
    """The requested device or compute type is not available on this machine."""

    code = "device_unavailable"
    default_hint = "Use --device cpu, or omit --device and --compute-type; see `cesar doctor`."


class RecognitionError(CesarError):
    """Recognition failed."""

    code = "recognition_failed"
    is_transient = True
    """Whether the error is transient: a retry may succeed, because the recording can't be the cause."""
    default_hint = "Try again; if it keeps failing, try --device cpu or a smaller model, and report it."


class RecogniserNotStarted(RecognitionError):
    """This machine can't start the recogniser now, whatever the recording."""

    code = "recogniser_not_started"
    default_hint = "Check the installation, and the system's limits on processes, open files and memory."


class ChildCrashed(RecognitionError):
    """Native code (the model or a media decoder) crashed twice in the same place."""

    code = "native_crash"
    is_transient = False
    default_hint = "Convert the file again from its source, or try --device cpu or a smaller model."


class ChildKilled(RecognitionError):
    """The recogniser ran out of memory, or was killed, most likely for lack of memory."""

    code = "out_of_memory"
    is_transient = False
    default_hint = "Close other programs or choose a smaller model with --model."


class ChildStalled(RecognitionError):
    """The recogniser made no progress for longer than the stall timeout."""

    code = "stalled"
    is_transient = False
    default_hint = "Try a smaller model; on a very slow machine, raise CESAR_STALL_TIMEOUT_S."


class WorkerLost(RecognitionError):
    """The job repeatedly lost its worker without finishing another chunk."""

    code = "worker_lost"
    default_hint = "Find out what kills the worker (memory, power), then retry the job."


class QueueError(CesarError):
    """The queue can't do what was asked."""

    code = "queue_failed"
    default_hint = "See `cesar jobs list`."


class JobNotFound(QueueError):
    """There is no job with that id."""

    code = "job_not_found"


class StaleJob(QueueError):
    """The job has changed since it was read."""

    code = "stale_job"
    default_hint = "Read the job again, then decide."


class ClaimLost(StaleJob):
    """The worker's claim on the job is lost: it may no longer write the outcome."""

    code = "claim_lost"
    default_hint = "Abandon the work: the current owner of the job does it."


class InvalidTransition(QueueError):
    """The job's current state does not allow that change."""

    code = "illegal_move"


class IdempotencyConflict(QueueError):
    """The idempotency key was already used for a different request."""

    code = "idempotency_conflict"
    default_hint = "Use a new key for a new request."


class DatabaseError(CesarError):
    """The queue's database can't be used."""

    code = "database_failed"
    default_hint = "Check the setting `database`."


class NotADatabase(DatabaseError):
    """The file is not a Cesar database."""

    code = "not_a_database"
    default_hint = "Name another file with --database."


class DatabaseDamaged(NotADatabase):
    """The database is damaged; nothing more is written to it."""

    code = "database_damaged"
    default_hint = (
        "Stop Cesar and run `cesar doctor --repair`: it salvages what can be read and keeps the damaged file. "
        "Don't start Cesar with another database meanwhile."
    )


class DatabaseTooNew(DatabaseError):
    """The database was written by a newer version of Cesar."""

    code = "database_too_new"
    default_hint = "Install that version or a later one, or name another file with --database."


class DatabaseNotWritable(DatabaseError):
    """The database or its folder is not writable."""

    code = "database_not_writable"
    default_hint = "Check the permissions of the file and its folder, or name another file with --database."


class NetworkFileSystem(DatabaseError):
    """The database is on a network file system, where file locks are unreliable."""

    code = "network_file_system"
    default_hint = (
        "Keep it on a local disk; or, if only one program uses it at a time, set CESAR_ALLOW_NETWORK_FS=true."
    )


class ForeignRecordings(DatabaseError):
    """The recordings in the folder belong to another database."""

    code = "foreign_recordings"
    default_hint = "Start Cesar with that database, or give this one its own data folder."


class DatabaseMissing(DatabaseError):
    """The database is missing, but its recordings exist."""

    code = "database_missing"
    default_hint = "Restore the database: its disk may not be mounted. Nothing was changed."


class DatabaseUnavailable(DatabaseError):
    """The database is temporarily unavailable."""

    code = "database_unavailable"
    default_hint = "Try again; if this persists, look for a program that keeps the database locked, or a failing disk."


class DatabaseFull(DatabaseUnavailable):
    """There is no disk space left for the database."""

    code = "database_full"
    default_hint = "Free some space on its disk: nothing is lost, and work resumes automatically."


class ServiceError(CesarError):
    """The service refuses the request or can't be reached."""

    code = "service_failed"
    default_hint = "See the service's `/docs`."
    retry_after_s: float | None = None
    """Seconds after which a retry makes sense; None if unknown."""


class BadRequest(ServiceError):
    """The request is invalid."""

    code = "bad_request"
    field: str | None = None
    """The invalid form field; None if it is not a single field."""


class Unauthorised(ServiceError):
    """The API key is missing or invalid."""

    code = "unauthorised"
    default_hint = "Send `Authorization: Bearer KEY`; `cesar keys create NAME` creates a key."


class NotPermitted(ServiceError):
    """The caller lacks permission for the request."""

    code = "not_permitted"
    default_hint = "Use a key with the required scope."


class UploadTooLarge(ServiceError):
    """The recording is larger than the service accepts."""

    code = "upload_too_large"
    default_hint = "Send it as MP3 or Opus, or ask the service's operator to raise `max_upload_bytes`."


class UploadStalled(ServiceError):
    """The upload is too slow or has stalled."""

    code = "upload_stalled"
    default_hint = "Check the network and send it again."


class HeadTooLarge(ServiceError):
    """The request headers are too large or too many."""

    code = "head_too_large"
    default_hint = "Send fewer or shorter headers."


class BodyStalled(ServiceError):
    """The request body did not arrive in time."""

    code = "body_stalled"
    default_hint = "Check the network and send it again."


class StorageLimitReached(ServiceError):
    """The caller's jobs have reached the storage limit."""

    code = "storage_limit"
    default_hint = "Delete jobs you no longer need, or ask the service's operator to raise `max_stored_bytes`."


class UnsupportedMedia(ServiceError):
    """The request body has a media type that is not accepted here."""

    code = "unsupported_media_type"
    default_hint = "Send multipart/form-data, as `curl -F file=@NAME` does."


class ServiceStopping(ServiceError):
    """The service is shutting down and accepts no new requests."""

    code = "service_stopping"
    default_hint = "Retry when the service is back."
    retry_after_s = 10.0


class ServiceOverloaded(ServiceError):
    """The service is handling as many requests as it can."""

    code = "service_overloaded"
    default_hint = "Retry in a moment."
    retry_after_s = 5.0


class TooManyRequests(ServiceError):
    """The caller has exceeded its rate limit."""

    code = "too_many_requests"
    default_hint = "Wait for the time given in Retry-After."


class TooManyJobs(ServiceError):
    """The caller has reached its limit of unfinished jobs."""

    code = "too_many_jobs"
    default_hint = "Wait for some to finish, or cancel some."
    retry_after_s = 30.0


class NotAcceptable(ServiceError):
    """None of the formats that the caller accepts is available."""

    code = "not_acceptable"
    default_hint = "Request one with `format=`."


class RecordingNotKept(ServiceError):
    """The service does not have the job's recording."""

    code = "recording_not_kept"
    default_hint = "Only recordings uploaded over the network are kept, and only until their job is deleted."


class KeyNotFound(ServiceError):
    """There is no API key with that name."""

    code = "key_not_found"
    default_hint = "See `cesar keys list`."


class ServiceUnreachable(ServiceError):
    """The service is not responding."""

    code = "service_unreachable"
    default_hint = "Check the address (`--server`, CESAR_SERVER) and that `cesar serve` is running there."


class Interrupted(CesarError):
    """The caller stopped the work."""

    code = "interrupted"
    default_hint = "Run the same command again to start over."


def _rebuild(cls: type[CesarError], message: str, hint: str) -> CesarError:
    return cls(message, hint=hint)


def _tree(cls: type[CesarError]) -> dict[str, type[CesarError]]:
    found = {cls.code: cls}
    for child in cls.__subclasses__():
        found.update(_tree(child))
    return found


BY_CODE: dict[str, type[CesarError]] = _tree(CesarError)
"""Every error class by its stable code."""
