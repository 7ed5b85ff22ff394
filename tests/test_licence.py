"""The licence of a release: known or named with an address, and the same wherever it is said."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from built_dataset import make_dataset
from click.testing import CliRunner
from huggingface_hub import DatasetCard

from defocus_ds.dataset.crop import crop
from defocus_ds.dataset.licence import find_licence, is_web_address
from defocus_ds.dataset.release import release
from defocus_ds.dataset.release_facts import About
from defocus_ds.errors import ConfigError
from defocus_ds_cli.main import cli

# of the hub's answer to a card with another one, as huggingface_hub issue 4218 quotes it
HUB = (
    "apache-2.0 mit afl-3.0 artistic-2.0 bsl-1.0 bsd-2-clause bsd-3-clause bsd-3-clause-clear "
    "c-uda cc0-1.0 cc-by-2.0 cc-by-2.5 cc-by-3.0 cc-by-4.0 cc-by-sa-3.0 cc-by-sa-4.0 cc-by-nc-2.0 "
    "cc-by-nc-3.0 cc-by-nc-4.0 cc-by-nd-4.0 cc-by-nc-nd-3.0 cc-by-nc-nd-4.0 cc-by-nc-sa-2.0 "
    "cc-by-nc-sa-3.0 cc-by-nc-sa-4.0 cdla-sharing-1.0 cdla-permissive-1.0 cdla-permissive-2.0 "
    "wtfpl ecl-2.0 epl-1.0 epl-2.0 etalab-2.0 eupl-1.1 eupl-1.2 agpl-3.0 gpl-2.0 gpl-3.0 lgpl-2.1 "
    "lgpl-3.0 isc lppl-1.3c ms-pl mpl-2.0 odc-by odbl osl-3.0 postgresql ofl-1.1 ncsa unlicense "
    "zlib pddl other"
)


@pytest.fixture(scope="module")
def cropped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = make_dataset(tmp_path_factory.mktemp("made") / "dataset", scenes=2)
    crop(root)
    return root


@pytest.mark.parametrize(
    ("given", "name", "hub"),
    [
        ("CC-BY-4.0", "CC-BY-4.0", "cc-by-4.0"),
        ("cc0-1.0", "CC0-1.0", "cc0-1.0"),
        ("odbl-1.0", "ODbL-1.0", "odbl"),
        ("ODC-By-1.0", "ODC-By-1.0", "odc-by"),
        ("GPL-3.0-only", "GPL-3.0-only", "gpl-3.0"),
        ("CC-BY-SA-2.0", "CC-BY-SA-2.0", "other"),
    ],
)
def test_a_known_licence_has_one_name_a_page_and_a_hub(given: str, name: str, hub: str) -> None:
    found = find_licence(given)
    assert (found.name, found.hub, found.spdx) == (name, hub, True)
    assert found.url == f"https://spdx.org/licenses/{name}.html"


def test_what_is_written_for_a_hub_is_on_its_list() -> None:
    from packaging.licenses._spdx import LICENSES

    hubs = {find_licence(str(item["id"])).hub for key, item in LICENSES.items() if "+" not in key}
    assert hubs == set(HUB.split())


@pytest.mark.parametrize(
    ("typo", "near"),
    [
        ("CC BY 4.0", "CC-BY-4.0"),
        ("cc-by4", "CC-BY-4.0"),
        ("CC0", "CC0-1.0"),
        ("odbl", "ODbL-1.0"),
        ("gpl3", "GPL-3.0"),
        ("MIT OR Apache-2.0", "Apache-2.0"),
        ("CC-BY-4.0+", "CC-BY-4.0"),
        ("other", "CC-BY-4.0"),
        ("LicenseRef-mine", "--licence-url"),
    ],
)
def test_a_typo_gets_the_nearest_names(typo: str, near: str) -> None:
    with pytest.raises(ConfigError, match="no SPDX identifier; near: ") as caught:
        find_licence(typo)
    assert near in str(caught.value)


@pytest.mark.parametrize(
    "text",
    ["example.org", "www.example.org/data", "ftp://example.org", "https://", "https:example.org"]
    + ["https://exa mple.org", "file:///home/data", "https://example.org:port", "doi:10.1/2"]
    + ["https://[::1", "https://user:secret@example.org", "https://example.org/\x1b", "x"],
)
def test_what_is_no_web_address(text: str) -> None:
    assert not is_web_address(text)
    with pytest.raises(ConfigError, match="url"):
        About("x", "CC0-1.0", ("a",), url=text)
    with pytest.raises(ConfigError, match="licence-url"):
        About("x", "My terms", ("a",), licence_url=text)


def said(folder: Path) -> tuple[dict[str, Any], dict[str, Any], str]:
    """The card's header, the citation, and Croissant's licence."""
    header = DatasetCard.load(folder / "README.md").data.to_dict()
    citation = yaml.safe_load((folder / "CITATION.cff").read_text())
    croissant = json.loads((folder / "croissant.json").read_text())
    return header, citation, croissant["license"]


def test_card_citation_and_croissant_say_the_same(cropped: Path, tmp_path: Path) -> None:
    release(cropped, tmp_path / "out", about=About("x", "odbl-1.0", ("a",)))
    header, citation, url = said(tmp_path / "out")
    assert header["license"] == "odbl"
    assert "license_name" not in header
    assert citation["license"] == "ODbL-1.0"
    assert url == "https://spdx.org/licenses/ODbL-1.0.html"
    facts = json.loads((tmp_path / "out/release.json").read_text())
    assert (facts["licence"], facts["licence_url"]) == ("ODbL-1.0", url)


def test_an_identifier_that_citations_do_not_know_is_cited_by_its_page(
    cropped: Path, tmp_path: Path
) -> None:
    release(cropped, tmp_path / "out", about=About("x", "cdla-permissive-2.0", ("a",)))
    header, citation, url = said(tmp_path / "out")
    assert header["license"] == "cdla-permissive-2.0"
    assert "license" not in citation
    assert citation["license-url"] == url == "https://spdx.org/licenses/CDLA-Permissive-2.0.html"


def test_a_licence_of_ones_own_has_a_name_and_a_link(cropped: Path, tmp_path: Path) -> None:
    out, terms = tmp_path / "out", "https://example.org/terms"
    arguments = ["release", str(cropped), "-o", str(out), "--author", "a", "--licence", "Our Terms"]
    refused = CliRunner().invoke(cli, arguments)
    assert refused.exit_code == 2
    assert "licence 'Our Terms': no SPDX identifier" in refused.stderr
    assert not out.exists()
    assert CliRunner().invoke(cli, [*arguments, "--licence-url", terms]).exit_code == 0
    header, citation, url = said(out)
    asked = {"license": "other", "license_name": "our-terms", "license_link": terms}
    assert {key: header[key] for key in asked} == asked
    assert "license" not in citation
    assert citation["license-url"] == url == terms
