"""Every error this package raises on purpose.

DefocusError                      one line: what, where, measured, limit, way out
├── InputError                    unusable input or options; the command line exits with 2
│   ├── ConfigError               a key or value in a config file or --set
│   ├── ShootError                a folder of captures that cannot be used as it is
│   ├── DatasetError              a dataset folder, manifest or shard that is damaged
│   └── OpticsError               a forward-model parameter outside its domain
├── TooFewCrops                   fewer crops pass than were asked for; exit code 1
└── StageFailed                   one scene fails, the rest of the build goes on
    ├── CaptureUnreadable         a file that is damaged or not what its name says
    ├── DevelopFailed             decoded, but the levels or the white balance are wrong
    ├── ColourFailed              no trustworthy colour map
    ├── RegistrationFailed        no trustworthy alignment
    └── WorkerDied                memory or time limit, or the process was killed
"""

__all__ = [
    "CaptureUnreadable",
    "ColourFailed",
    "ConfigError",
    "DatasetError",
    "DefocusError",
    "DevelopFailed",
    "InputError",
    "OpticsError",
    "RegistrationFailed",
    "ShootError",
    "StageFailed",
    "TooFewCrops",
    "WorkerDied",
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
