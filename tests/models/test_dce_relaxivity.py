import pytest

from mrn_prep.models.dce_relaxivity import relaxivity


@pytest.mark.parametrize(
    ("agent", "field_t", "medium", "value"),
    [
        ("gadobutrol", 1.5, "blood", 4.6),
        ("gadobutrol", 3.0, "blood", 4.5),
        ("gadoterate", 1.5, "blood", 3.9),
        ("gadoterate", 3.0, "blood", 3.4),
        ("gadopentetate", 1.5, "blood", 4.3),
        ("gadopentetate", 3.0, "blood", 3.8),
        ("gadobutrol", 1.5, "plasma", 4.78),
        ("gadobutrol", 3.0, "plasma", 4.97),
        ("gadoterate", 1.5, "plasma", 3.32),
        ("gadoterate", 3.0, "plasma", 3.0),
    ],
)
def test_published_values(agent, field_t, medium, value):
    found = relaxivity(agent, field_t, medium)
    assert found.per_mm_per_s == value
    assert ("Shen" in found.source) == (medium == "blood")


@pytest.mark.parametrize(
    "name", ["Gadovist", "GADAVIST", " gadobutrol 1 mmol/ml", "Gd-DO3A-butrol"]
)
def test_names_of_one_agent(name):
    assert relaxivity(name, 2.89, "blood") == relaxivity("gadobutrol", 3.0, "blood")


@pytest.mark.parametrize(
    ("agent", "field_t", "medium", "said"),
    [
        ("gadopentetate", 3.0, "plasma", "gadopentetate in plasma"),
        ("unobtainium", 3.0, "blood", "unobtainium"),
        ("", 3.0, "blood", "without a name"),
        ("gadobutrol", 0.55, "blood", "0.55 T"),
        ("gadobutrol", 3.0, "saline", "medium"),
    ],
)
def test_what_is_not_known_is_not_guessed(agent, field_t, medium, said):
    with pytest.raises(ValueError, match=said):
        relaxivity(agent, field_t, medium)
