"""Every error this package raises on purpose.

DefocusError                      one line: what, where, measured, limit, way out
├── InputError                    unusable input or options; the command line exits with 2
│   ├── ConfigError               a key or value in a config file or --set
│   ├── ShootError                a folder of captures that cannot be used as it is
│   ├── DatasetError              a dataset folder, manifest or shard that is damaged
│   └── OpticsError               a forward-model parameter outside its domain
├── TooFewCrops                   fewer crops pass than were asked for; exit code 1
├── ClusterFailed                 no scheduler or no fit worker is left; exit code 1
└── StageFailed                   one scene fails, the rest of the build goes on
    ├── CaptureUnreadable         a file that is damaged or not what its name says
    ├── DevelopFailed             decoded, but the levels or the white balance are wrong
    ├── ColourFailed              no trustworthy colour map
    ├── RegistrationFailed        no trustworthy alignment
    └── WorkerDied                memory or time limit, or the process was killed

NotWritten, an OSError            no room or no permission: the same may pass when run again
"""

import errno

__all__ = [
    "CaptureUnreadable",
    "ClusterFailed",
    "ColourFailed",
    "ConfigError",
    "DatasetError",
    "DefocusError",
    "DevelopFailed",
    "InputError",
    "NotWritten",
    "OpticsError",
    "RegistrationFailed",
    "ShootError",
    "StageFailed",
    "TooFewCrops",
    "WorkerDied",
    "is_for_memory",
]


_LONGEST = 2000


class DefocusError(Exception):
    """Base of every deliberate error; its text is one line fit for a person.

    Texts quote files, and those may hold anything: what cannot be printed is escaped, and a text
    of more than 2000 characters loses its middle.
    """

    def __init__(self, text: str = "") -> None:
        if not text.isprintable():
            text = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
        if len(text) > _LONGEST:
            text = f"{text[: _LONGEST // 2]} [...] {text[-_LONGEST // 4 :]}"
        super().__init__(text)


class InputError(DefocusError):
    """The input or the options cannot be used; nothing was done."""


class ConfigError(InputError):
    """A configuration key is unknown or its value is out of range."""


class ShootError(InputError):
    """A folder of captures cannot be used as it is."""


class DatasetError(InputError):
    """A dataset folder, manifest or shard is missing, damaged or of another version."""


class TooFewCrops(DefocusError):
    """Fewer crops pass the checks than were asked for."""


class ClusterFailed(DefocusError):
    """The cluster cannot go on with a build: its scheduler is gone or its workers are unfit."""


class OpticsError(InputError):
    """A forward-model parameter is outside its domain."""


class StageFailed(DefocusError):
    """One scene could not pass a stage; other scenes are unaffected."""


class CaptureUnreadable(StageFailed):
    """A capture is damaged, truncated or not the kind of file its name says."""


class DevelopFailed(StageFailed):
    """A raw was decoded, but its levels or white balance cannot be right."""


class ColourFailed(StageFailed):
    """No trustworthy colour map between the two captures of a pair."""


class RegistrationFailed(StageFailed):
    """No trustworthy alignment between the two captures of a pair."""


class WorkerDied(StageFailed):
    """A worker process hit its memory or time limit, was killed, or failed by its own fault."""


class NotWritten(OSError):
    """A file could not be written, which no input is to blame for; one line fit for a person."""


def is_for_memory(error: BaseException) -> bool:
    """Whether memory ran out, in the words of Python, OpenCV, ITK or the system's loader."""
    if isinstance(error, MemoryError) or getattr(error, "errno", None) == errno.ENOMEM:
        return True
    if getattr(error, "code", None) == -4:  # OpenCV's StsNoMem
        return True
    words = {
        ImportError: ("annot allocate memory", "failed to map"),
        RuntimeError: ("Failed to allocate memory", "bad_alloc", "bad allocation"),
    }
    return any(
        isinstance(error, kind) and any(part in str(error) for part in parts)
        for kind, parts in words.items()
    )
