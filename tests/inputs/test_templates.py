"""What a site copies from bids_templates is what the app asks for."""

import json
from pathlib import Path

import pytest

from mrn_prep import bids_templates
from mrn_prep.inputs.checks import Checker, key_rules, suffix_rules
from mrn_prep.io.dataset import Dataset, Metadata
from mrn_prep.io.names import build, parse

RAW = Path(bids_templates.__file__).with_name("raw")
TAKEN = [suffix for suffix, rule in suffix_rules().items() if rule["modality"]]


@pytest.mark.parametrize("suffix", TAKEN)
def test_each_suffix_taken_has_a_sidecar_that_passes_our_own_checks(suffix, tmp_path):
    content = json.loads((RAW / f"{suffix}.json").read_text())
    rule = suffix_rules()[suffix]
    assert set(rule["required"]) <= set(content)
    metadata = Metadata(content, f"{suffix}.json", dict.fromkeys(content, f"{suffix}.json"))
    checker = Checker(Dataset(tmp_path), "nothing")
    for key in set(content) & set(key_rules()):
        if "choices" in key_rules()[key]:
            assert checker.choice(metadata, key) == content[key]
        else:
            assert checker.number(metadata, key) == content[key]
    assert checker.problems == []


@pytest.mark.parametrize("suffix", TAKEN)
def test_each_example_name_is_one_that_the_patterns_make(suffix):
    rule = suffix_rules()[suffix]
    path = f"sub-01/{rule['datatype']}/{rule['example']}"
    entities = parse(path)
    assert (entities["suffix"], build(entities)) == (suffix, path)


@pytest.mark.parametrize("key", key_rules())
def test_each_key_has_a_unit_and_a_range_or_choices(key):
    rule = key_rules()[key]
    assert rule["unit"]
    assert rule.get("choices") or rule["min"] < rule["max"]
