"""The licence of a release: checked once, and said as hubs, Croissant and citations say it."""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass
from urllib.parse import urlsplit

from packaging.licenses import InvalidLicenseExpression, canonicalize_license_expression

from defocus_ds.errors import ConfigError

__all__ = ["Licence", "find_licence", "is_web_address"]

# SPDX identifiers whose names on hubs are not their lower case
_RENAMED = {
    "C-UDA-1.0": "c-uda",
    "ODbL-1.0": "odbl",
    "ODC-By-1.0": "odc-by",
    "PDDL-1.0": "pddl",
    "AGPL-3.0-only": "agpl-3.0",
    "GPL-2.0-only": "gpl-2.0",
    "GPL-3.0-only": "gpl-3.0",
    "LGPL-2.1-only": "lgpl-2.1",
    "LGPL-3.0-only": "lgpl-3.0",
}
# identifiers of https://huggingface.co/docs/hub/repositories-licenses that are SPDX in lower case
_AS_SPDX = (
    "afl-3.0 agpl-3.0 apache-2.0 artistic-2.0 bsd-2-clause bsd-3-clause bsd-3-clause-clear bsl-1.0 "
    "cc-by-2.0 cc-by-2.5 cc-by-3.0 cc-by-4.0 cc-by-nc-2.0 cc-by-nc-3.0 cc-by-nc-4.0 "
    "cc-by-nc-nd-3.0 cc-by-nc-nd-4.0 cc-by-nc-sa-2.0 cc-by-nc-sa-3.0 cc-by-nc-sa-4.0 cc-by-nd-4.0 "
    "cc-by-sa-3.0 cc-by-sa-4.0 cc0-1.0 cdla-permissive-1.0 cdla-permissive-2.0 cdla-sharing-1.0 "
    "ecl-2.0 epl-1.0 epl-2.0 etalab-2.0 eupl-1.1 eupl-1.2 gpl-2.0 gpl-3.0 isc lgpl-2.1 lgpl-3.0 "
    "lppl-1.3c mit mpl-2.0 ms-pl ncsa ofl-1.1 osl-3.0 postgresql unlicense wtfpl zlib"
)
_KNOWN = sorted({*_AS_SPDX.split(), *(name.lower() for name in _RENAMED)})


@dataclass(frozen=True, slots=True)
class Licence:
    """A licence that a person named.

    Attributes:
        name: SPDX identifier in its own case, or the licence's own name.
        url: where its text is.
        spdx: whether the name is an SPDX identifier.
    """

    name: str
    url: str
    spdx: bool

    @property
    def hub(self) -> str:
        """Identifier that dataset hubs know; "other" where they know none.

        Source: https://huggingface.co/docs/hub/repositories-licenses
        """
        lower = self.name.lower()
        known = _RENAMED.get(self.name, lower if lower in _KNOWN else "other")
        return known if self.spdx else "other"

    @property
    def citable(self) -> bool:
        """Whether Citation File Format 1.2.0, whose list is SPDX's of May 2021, has the name."""
        return self.hub not in ("other", "cdla-permissive-2.0")

    @property
    def slug(self) -> str:
        """The name in small letters, digits, dots and dashes, as hubs want it beside "other"."""
        return re.sub(r"[^a-z0-9.]+", "-", self.name.lower()).strip("-") or "other"


def find_licence(name: str, url: str = "") -> Licence:
    """The licence that is meant by a name.

    Args:
        name: an SPDX identifier in any case, or any name of a licence with ``url``.
        url: absolute http(s) address of its text; "" takes the page of SPDX.

    Raises:
        ConfigError: no SPDX identifier and no url (the text names the nearest identifiers), or no
            absolute address.

    >>> find_licence("cc-by-4.0")
    Licence(name='CC-BY-4.0', url='https://spdx.org/licenses/CC-BY-4.0.html', spdx=True)
    """
    if url and not is_web_address(url):
        raise ConfigError(f"licence-url {url!r}: give an absolute address, https://...")
    spdx = _spdx(name)
    if spdx is not None:
        return Licence(spdx, url or f"https://spdx.org/licenses/{spdx}.html", True)
    if url:
        return Licence(name, url, False)
    near = difflib.get_close_matches(name.lower(), _KNOWN, n=3)
    meant = ", ".join(found for found in map(_spdx, near) if found) or "CC-BY-4.0, CC0-1.0"
    raise ConfigError(
        f"licence {name!r}: no SPDX identifier; near: {meant}. For another licence give its own "
        "name, and --licence-url with the address of its text."
    )


def is_web_address(text: str) -> bool:
    """Whether this is an absolute http or https URL, without spaces or a password.

    >>> [is_web_address(t) for t in ("https://example.org/a", "example.org", "http:/a")]
    [True, False, False]
    """
    try:
        parts = urlsplit(text)
        parts.port  # noqa: B018 - raises for a port that is no number
    except ValueError:
        return False
    plain = text.isprintable() and not any(c.isspace() or c in '<>"\\' for c in text)
    return (
        plain and parts.scheme in ("http", "https") and bool(parts.hostname) and not parts.password
    )


def _spdx(name: str) -> str | None:
    """The identifier in its own case; None for an expression, a "+", or no identifier."""
    if not re.fullmatch(r"[A-Za-z0-9.-]+", name) or name.lower().startswith("licenseref-"):
        return None
    try:
        return str(canonicalize_license_expression(name))
    except InvalidLicenseExpression:
        return None
