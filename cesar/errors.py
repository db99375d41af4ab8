"""The whole error tree.

    CesarError                      code `internal`
    ├── UsageError                  the request itself is wrong
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
    │   └── DiskFull
    ├── ModelError                  the weights can't be had
    │   ├── UnknownModel
    │   ├── ModelNotInstalled
    │   ├── ModelCorrupt
    │   ├── DownloadFailed
    │   └── DeviceUnavailable
    ├── RecognitionError            the recogniser failed at its work
    │   ├── ChildCrashed
    │   ├── ChildKilled
    │   ├── ChildStalled
    │   └── WorkerLost
    ├── QueueError                  a job can't be changed as asked
    │   ├── JobNotFound
    │   ├── StaleJob
    │   │   └── ClaimLost
    │   ├── IllegalMove
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
    ├── ServiceError                the service refuses a request, or can't be reached
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
    └── Interrupted                 the caller asked to stop

Every error has a stable `code`, a message that names what happened to which thing, and a `hint` that says what to
do. Exit codes and HTTP statuses are tables at the edges, not here.
"""

from __future__ import annotations


class CesarError(Exception):
    """Something went wrong inside Cesar; a bug if no subclass says more."""

    code = "internal"
    default_hint = "This is a bug in Cesar: please report it with the output of `cesar doctor`."

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = self.default_hint if hint is None else hint

    def __reduce__(self) -> tuple[object, ...]:
        return (_rebuild, (type(self), self.message, self.hint))


class UsageError(CesarError):
    """An option or argument has a value that can't be used."""

    code = "bad_option"
    default_hint = "See `cesar --help`."


class UnknownLanguage(UsageError):
    """The language is not one that the model knows."""

    code = "unknown_language"
    default_hint = "Give a code such as en, de or zh, or leave the language out to detect it."


class UnknownFormat(UsageError):
    """No such transcript format."""

    code = "unknown_format"
    default_hint = "Formats: txt, srt, vtt, json, tsv, md."


class InputError(CesarError):
    """A recording can't be read."""

    code = "bad_input"
    default_hint = "Check that the file plays in a media player."


class RecordingNotFound(InputError):
    """There is no such file."""

    code = "file_not_found"
    default_hint = "Check the path."


class RecordingNotReadable(InputError):
    """The file is there, but may not be read."""

    code = "file_not_readable"
    default_hint = "Check the file's permissions."


class EmptyRecording(InputError):
    """The file has no bytes, or its audio track no samples."""

    code = "empty_recording"
    default_hint = "Record or copy the file again: nothing is in it."


class NotMedia(InputError):
    """The file is not audio or video, or is too damaged to open."""

    code = "not_media"
    default_hint = "Check that the file plays in a media player; a file cut off while copying must be copied again."


class NoAudioTrack(InputError):
    """The file is media without an audio track."""

    code = "no_audio_track"
    default_hint = "Only recordings with sound can be transcribed."


class NoMediaInFolder(InputError):
    """The folder has no media files."""

    code = "no_media_in_folder"
    default_hint = "Name a folder that has audio or video files directly in it."


class BadAudio(InputError):
    """The audio track can't be decoded, or what it holds can't be sound."""

    code = "bad_audio"
    default_hint = "Convert the file anew from its source, for example to 16-bit WAV or FLAC."


class RangeOutsideRecording(InputError):
    """The part asked for lies after the recording's end."""

    code = "range_outside_recording"
    default_hint = "Choose --start and --end within the recording."


class TrackNotFound(InputError):
    """The recording has no audio track of that number."""

    code = "track_not_found"
    default_hint = "Leave `--track` out: then the track with speech is taken."


class RecordingChanged(InputError):
    """The file was replaced or written to while it was transcribed."""

    code = "recording_changed"
    default_hint = "Leave the file alone until it is transcribed; it is begun anew with what it is now."


class RecordingTooLong(InputError):
    """The recording is longer than the setting `max_duration_s` allows."""

    code = "recording_too_long"
    default_hint = "Cut it into parts, or raise the setting `max_duration_s`."


class AddressRefused(InputError):
    """A recording is not fetched from that address."""

    code = "address_refused"
    default_hint = "Give an http or https address that anybody on the internet can reach."


class FetchRefused(InputError):
    """The server of a recording's address does not give it out."""

    code = "fetch_refused"
    default_hint = "Open the address in a browser: it must lead to the media file itself."


class FetchFailed(InputError):
    """A recording could not be fetched this time."""

    code = "fetch_failed"
    default_hint = "It is tried again by itself; what has arrived is kept."


class FetchTooSlow(FetchFailed):
    """A recording comes more slowly than it may, or takes longer in all."""

    code = "fetch_too_slow"
    default_hint = "Have the job tried again when the other side is faster: what has arrived is kept for a while."


class OutputError(CesarError):
    """A result can't be written."""

    code = "output_failed"
    default_hint = "Choose another place with --output or --output-dir."


class OutputNotWritable(OutputError):
    """The folder for the result is missing or may not be written to."""

    code = "output_not_writable"
    default_hint = "Check the folder's permissions, or choose another with --output or --output-dir."


class DiskFull(OutputError):
    """No space is left for the result."""

    code = "disk_full"
    default_hint = "Free some space and run the same command again; --skip-existing keeps what is done."


class ModelError(CesarError):
    """The model's weights can't be had or loaded."""

    code = "model_failed"
    default_hint = "See `cesar models list` and `cesar doctor`."


class UnknownModel(ModelError):
    """No model has that name, and no folder either."""

    code = "unknown_model"
    default_hint = "See `cesar models list` for the names, or give the folder of a CTranslate2 Whisper model."


class ModelNotInstalled(ModelError):
    """The model is known, but not on this machine, and the network may not be used."""

    code = "model_not_installed"
    default_hint = "Run `cesar models pull NAME` with a network, or `cesar models import FILE` without one."


class ModelCorrupt(ModelError):
    """A file of the model does not have the digest it must have."""

    code = "model_corrupt"
    default_hint = "Remove it and get it again; see `cesar models verify`."


class DownloadFailed(ModelError):
    """The model could not be downloaded."""

    code = "download_failed"
    default_hint = "Check the network and run the same command again: what has arrived is kept."


class DeviceUnavailable(ModelError):
    """The device or compute type asked for is not to be had here."""

    code = "device_unavailable"
    default_hint = "Use --device cpu, or leave --device and --compute-type out; see `cesar doctor`."


class RecognitionError(CesarError):
    """The recogniser failed at its work."""

    code = "recognition_failed"
    may_pass = True
    """Whether the same work may well succeed later, by itself: then the recording can't be the cause."""
    default_hint = "Run it again; if it fails again, try --device cpu or a smaller model, and report it."


class ChildCrashed(RecognitionError):
    """Native code (the model or a media decoder) crashed, twice, at the same work."""

    code = "native_crash"
    may_pass = False
    default_hint = "Convert the file anew from its source and try again, or try --device cpu or a smaller model."


class ChildKilled(RecognitionError):
    """The system killed the recogniser, most likely for want of memory."""

    code = "out_of_memory"
    may_pass = False
    default_hint = "Close other programs or choose a smaller model with --model."


class ChildStalled(RecognitionError):
    """The recogniser made no progress for longer than the stall time-out."""

    code = "stalled"
    may_pass = False
    default_hint = "Try a smaller model; on a very slow machine raise CESAR_STALL_TIMEOUT_S."


class WorkerLost(RecognitionError):
    """The worker died again and again over the same job, without finishing one more chunk of it."""

    code = "worker_lost"
    default_hint = "Look for what ended the worker (memory, power), then have the job tried again."


class QueueError(CesarError):
    """A job can't be changed as asked."""

    code = "queue_failed"
    default_hint = "See `cesar jobs list`."


class JobNotFound(QueueError):
    """There is no job of that id."""

    code = "job_not_found"


class StaleJob(QueueError):
    """The job has changed since it was read, so that what was to be written no longer fits."""

    code = "stale_job"
    default_hint = "Read the job again and decide anew."


class ClaimLost(StaleJob):
    """Somebody else has the job now, or nobody: this worker may no longer write its outcome."""

    code = "claim_lost"
    default_hint = "Drop the work: whoever holds the job does it."


class IllegalMove(QueueError):
    """A job in that state can't go to the state that was asked for."""

    code = "illegal_move"


class IdempotencyConflict(QueueError):
    """The idempotency key was used before, for another request."""

    code = "idempotency_conflict"
    default_hint = "Use a new key for a new request."


class DatabaseError(CesarError):
    """The queue's database can't be used."""

    code = "database_failed"
    default_hint = "Check the setting `database`."


class NotADatabase(DatabaseError):
    """The file is not a database of Cesar's."""

    code = "not_a_database"
    default_hint = "Name another file with --database."


class DatabaseDamaged(NotADatabase):
    """The database is damaged, so that nothing more is written to it."""

    code = "database_damaged"
    default_hint = (
        "Stop Cesar and run `cesar doctor --repair`: it saves what can be read, and keeps the damaged file. "
        "Don't start Cesar with another database meanwhile."
    )


class DatabaseTooNew(DatabaseError):
    """The database was written by a newer Cesar."""

    code = "database_too_new"
    default_hint = "Install that Cesar or a later one, or name another file with --database."


class DatabaseNotWritable(DatabaseError):
    """The database, or its folder, may not be written to."""

    code = "database_not_writable"
    default_hint = "Check the permissions of the file and its folder, or name another file with --database."


class NetworkFileSystem(DatabaseError):
    """The database lies on a network file system, where locks can't be relied on."""

    code = "network_file_system"
    default_hint = "Keep it on a local disk; or, for one program at a time, set CESAR_ALLOW_NETWORK_FS=true."


class ForeignRecordings(DatabaseError):
    """The folder's recordings belong to another database than this one."""

    code = "foreign_recordings"
    default_hint = "Start Cesar with the database that they belong to, or give this one a data folder of its own."


class DatabaseMissing(DatabaseError):
    """The database is not there, but its recordings are."""

    code = "database_missing"
    default_hint = "Bring the database back: its disk may not be mounted. Nothing was changed."


class DatabaseUnavailable(DatabaseError):
    """The database does not answer just now."""

    code = "database_unavailable"
    default_hint = "Try again; if it stays so, look for a program that keeps the database busy, or for a failing disk."


class DatabaseFull(DatabaseUnavailable):
    """No space is left for the database."""

    code = "database_full"
    default_hint = "Free some space on its disk: nothing is lost, and work goes on by itself."


class ServiceError(CesarError):
    """The service refuses a request, or can't be reached."""

    code = "service_failed"
    default_hint = "See the service's `/docs`."
    retry_after_s: float | None = None
    """When it makes sense to ask again, in seconds from now; None: unknown."""


class BadRequest(ServiceError):
    """The request itself is wrong."""

    code = "bad_request"
    field: str | None = None
    """The field of a form that is wrong; None: it is not a single one."""


class Unauthorised(ServiceError):
    """The service wants an API key, or does not know the one that was given."""

    code = "unauthorised"
    default_hint = "Send `Authorization: Bearer KEY`; `cesar keys create NAME` makes a key."


class NotPermitted(ServiceError):
    """The caller may not do that."""

    code = "not_permitted"
    default_hint = "Use a key with the scope that is needed."


class UploadTooLarge(ServiceError):
    """The recording has more bytes than the service takes."""

    code = "upload_too_large"
    default_hint = "Send it as MP3 or Opus, or ask whoever runs the service to raise `max_upload_bytes`."


class UploadStalled(ServiceError):
    """The recording arrives too slowly, or not at all."""

    code = "upload_stalled"
    default_hint = "Check the network and send it again."


class HeadTooLarge(ServiceError):
    """The headers of the request are too large, or too many."""

    code = "head_too_large"
    default_hint = "Send fewer or shorter headers."


class BodyStalled(ServiceError):
    """The body of the request does not arrive in time."""

    code = "body_stalled"
    default_hint = "Check the network and send it again."


class StorageLimitReached(ServiceError):
    """The jobs of the caller take as much room as they may."""

    code = "storage_limit"
    default_hint = "Delete jobs that are done with, or ask whoever runs the service to raise `max_stored_bytes`."


class UnsupportedMedia(ServiceError):
    """The body of the request is not of a kind that is taken here."""

    code = "unsupported_media_type"
    default_hint = "Send multipart/form-data, as `curl -F file=@NAME` does."


class ServiceStopping(ServiceError):
    """The service is about to end, and takes nothing new."""

    code = "service_stopping"
    default_hint = "Send it again when the service is back."
    retry_after_s = 10.0


class ServiceOverloaded(ServiceError):
    """The service has as many requests under way as it, or its machine, can take."""

    code = "service_overloaded"
    default_hint = "Send it again in a moment."
    retry_after_s = 5.0


class TooManyRequests(ServiceError):
    """The caller asks more often than it may."""

    code = "too_many_requests"
    default_hint = "Wait as long as Retry-After says."


class TooManyJobs(ServiceError):
    """The caller has as many unfinished jobs as it may."""

    code = "too_many_jobs"
    default_hint = "Wait until some are done, or cancel some."
    retry_after_s = 30.0


class NotAcceptable(ServiceError):
    """None of the formats that the caller accepts can be given."""

    code = "not_acceptable"
    default_hint = "Ask for one with `format=`: txt, srt, vtt, json, tsv or md."


class RecordingNotKept(ServiceError):
    """The service does not have the job's recording."""

    code = "recording_not_kept"
    default_hint = "Only recordings that were handed in over the network are kept, for as long as there is the job."


class KeyNotFound(ServiceError):
    """There is no API key of that name."""

    code = "key_not_found"
    default_hint = "See `cesar keys list`."


class ServiceUnreachable(ServiceError):
    """The service does not answer."""

    code = "service_unreachable"
    default_hint = "Check the address (`--server`, CESAR_SERVER) and that `cesar serve` runs there."


class Interrupted(CesarError):
    """The caller asked to stop."""

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
