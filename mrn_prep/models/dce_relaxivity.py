"""Longitudinal relaxivity of contrast agents, each with where it was measured."""

from __future__ import annotations

from typing import Literal, NamedTuple

Medium = Literal["blood", "plasma"]

_SHEN = "Shen Y, et al. Invest Radiol 2015;50:330-338 (human whole blood, 37 degrees C)"
_SZOMOLANYI = (
    "Szomolanyi P, et al. Invest Radiol 2019;54:559-564, doi:10.1097/RLI.0000000000000577 "
    "(human plasma, 37 degrees C)"
)
_FIELD_TOLERANCE = 0.05  # 2.89 T is sold as 3 T


class Relaxivity(NamedTuple):
    """Longitudinal relaxivity of an agent."""

    per_mm_per_s: float
    """Relaxivity r1 (1/(mM s))."""
    sd_per_mm_per_s: float
    """Its standard deviation, as published."""
    source: str
    """Publication."""


# agent: (value, standard deviation) at 1.5, 3 and 7 T
_FIELDS_T = (1.5, 3.0, 7.0)
_BLOOD = {
    "gadoterate": ((3.9, 0.2), (3.4, 0.4), (2.8, 0.4)),
    "gadobutrol": ((4.6, 0.2), (4.5, 0.3), (4.2, 0.3)),
    "gadopentetate": ((4.3, 0.4), (3.8, 0.2), (3.1, 0.4)),
    "gadobenate": ((6.2, 0.5), (5.4, 0.3), (4.7, 0.1)),
    "gadodiamide": ((4.5, 0.1), (3.9, 0.2), (3.7, 0.2)),
    "gadoversetamide": ((4.4, 0.2), (4.2, 0.2), (4.3, 0.2)),
    "gadoxetate": ((7.2, 0.2), (5.5, 0.3), (4.9, 0.1)),
    "gadoteridol": ((4.4, 0.6), (3.5, 0.6), (3.4, 0.1)),
}
_PLASMA = {
    "gadobutrol": ((4.78, 0.12), (4.97, 0.59), (3.83, 0.24)),
    "gadoteridol": ((3.80, 0.10), (3.28, 0.09), (3.21, 0.07)),
    "gadoterate": ((3.32, 0.13), (3.00, 0.13), (2.84, 0.09)),
}
_TABLES = {"blood": (_BLOOD, _SHEN), "plasma": (_PLASMA, _SZOMOLANYI)}
_OTHER_NAMES = {
    "gadovist": "gadobutrol",
    "gadavist": "gadobutrol",
    "gd-do3a-butrol": "gadobutrol",
    "dotarem": "gadoterate",
    "clariscan": "gadoterate",
    "gd-dota": "gadoterate",
    "magnevist": "gadopentetate",
    "gd-dtpa": "gadopentetate",
    "multihance": "gadobenate",
    "gd-bopta": "gadobenate",
    "omniscan": "gadodiamide",
    "gd-dtpa-bma": "gadodiamide",
    "optimark": "gadoversetamide",
    "gd-dtpa-bmea": "gadoversetamide",
    "primovist": "gadoxetate",
    "eovist": "gadoxetate",
    "gd-eob-dtpa": "gadoxetate",
    "prohance": "gadoteridol",
    "gd-hp-do3a": "gadoteridol",
}


def relaxivity(agent: str, field_t: float, medium: Medium) -> Relaxivity:
    """Look up the longitudinal relaxivity of a contrast agent.

    Parameters
    ----------
    agent : str
        Generic name (``"gadobutrol"``), a salt of it (``"gadoterate meglumine"``), brand or
        chemical short name; capitals do not matter.
    field_t : float
        Field strength (T).
    medium : {"blood", "plasma"}
        What it was measured in. The concentration that follows is that of the same medium.

    Returns
    -------
    Relaxivity

    Raises
    ------
    ValueError
        If there is no published value for this agent, field and medium: none is guessed.

    Notes
    -----
    Laboratories disagree: for gadobutrol in blood at 3 T the second source gives 3.47, the first
    4.5. Concentrations scale with the inverse of what is chosen; Ktrans, ve and vp do not, as
    long as input and tissue use the same value.

    References
    ----------
    Blood: Shen Y, et al. Invest Radiol 2015;50:330-338.
    Plasma: Szomolanyi P, et al. Invest Radiol 2019;54:559-564.
    doi:10.1097/RLI.0000000000000577

    Examples
    --------
    >>> relaxivity("Gadobutrol", 3.0, "blood").per_mm_per_s
    4.5
    >>> relaxivity("Dotarem", 2.89, "plasma").per_mm_per_s
    3.0
    >>> relaxivity("gadopiclenol", 3.0, "blood")
    Traceback (most recent call last):
    ...
    ValueError: No relaxivity of gadopiclenol in blood is known. Known are gadobenate, \
gadobutrol, gadodiamide, gadopentetate, gadoterate, gadoteridol, gadoversetamide, gadoxetate; \
give its value (1/(mM s)) instead.
    """
    if medium not in _TABLES:
        raise ValueError(f'The medium must be "blood" or "plasma", got {medium!r}.')
    table, source = _TABLES[medium]
    words = agent.strip().lower().split()
    name = words[0] if words else ""
    name = _OTHER_NAMES.get(name, name)
    if name not in table:
        raise ValueError(
            f"No relaxivity of {name or 'an agent without a name'} in {medium} is known. Known are "
            f"{', '.join(sorted(table))}; give its value (1/(mM s)) instead."
        )
    for known_t, (value, sd) in zip(_FIELDS_T, table[name], strict=True):
        if abs(field_t - known_t) <= _FIELD_TOLERANCE * known_t:
            return Relaxivity(value, sd, source)
    raise ValueError(
        f"No relaxivity of {name} in {medium} at {field_t} T is known, only at "
        f"{', '.join(f'{known:g}' for known in _FIELDS_T)} T; give its value (1/(mM s)) instead."
    )
