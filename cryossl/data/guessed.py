"""Sources guessed from file names, and from picture sizes where names say nothing.

Microscope and annotation programs put numbers, dates and hashes of their own before a name. A
beginning is a source only if it is repeated: several files each, and a plausible number of them.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping

_SIZES_NAME = "all"
"""The one group of pictures whose sizes are too many to tell anything."""

_MONTH = (
    "(?:jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?"
    "|sept?(?:ember)?|oct(?:ober)?|nov(?:ember)?|dec(?:ember)?)"
)
# What programs put before a name: UUIDs, hashes, times, dates with a month's name (Leginon's too),
# plain numbers (counters, cryoSPARC's UIDs, dates).
_OWN = re.compile(
    r"(?:[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
    r"|\d+t\d+z?"
    rf"|(?:\d{{1,4}}[_.\- ])?{_MONTH}[_.\- ]\d{{1,2}}[_.\- ,]+\d{{2,4}}"
    rf"|\d{{1,4}}[_.\- ]{_MONTH}(?:[_.\- ]\d{{2,4}})?"
    rf"|\d{{0,4}}{_MONTH}\d{{1,8}}[a-z]{{0,2}}|\d{{1,4}}{_MONTH}"
    r"|[0-9a-f]{8,}"
    r"|\d+)[_.\- ]+",
    re.IGNORECASE,
)
_NAMED_ENTRY = re.compile(r"(empiar|emdb?)[_.\- ]*(\d{4,6})(?![0-9a-z])", re.IGNORECASE)
_BARE_ENTRY = re.compile(r"(1[0-4]\d{3})[_-]")
_WORD = re.compile(r"([A-Za-z0-9]*[A-Za-z][A-Za-z0-9]*)[_-]")
# Words that microscope, processing and annotation programs write, for any sample.
_GENERIC = re.compile(
    r"(?:foil ?holes?|holes?|hl|grids?|grid ?squares?|squares?|sq|data|images?|imgs?|im|pics?"
    r"|pictures?|photo|mics?|micrographs?|movies?|frames?|stacks?|sums?|corrected|aligned|ali|dw"
    r"|motioncorr?|patch|integrated|train|val|valid|test|exposures?|exp|pos|positions?|sessions?"
    r"|tilt|ts|batch|task|job|j|raw|file|scan|slice|snapshot|screenshot|untitled|copy|item|part"
    r"|particles?|no|nr|id|[glnsvx]|falcon|ceta|gatan|k[23]|krios|titan|glacios|talos|polara"
    r"|empiar|emdb?|tecnai|epu|serialepu|serialem|leginon|relion|cryosparc|eer|mrcs?|tiff?|jpe?g|png)\d*"
    r"|[a-z]|\d+(?:sq|hl|es|en|ex|fc|fh|gr|ef|em|ed|x)",
    re.IGNORECASE,
)


def from_names(names: Mapping[str, str]) -> dict[str, str]:
    """Id -> source, for those files (id -> file name) whose name begins with one.

    Read is what stands before the first `_` or `-`, after the numbers, dates and hashes that
    programs put in front:

    - an entry of EMPIAR (five digits, 10000 to 14999, or any number after `EMPIAR`) or of EMDB
      (after `EMD`), if most files share theirs with others, and the bare numbers are no series;
    - a word that several files share and that no program writes. Words that differ in their numbers
      alone (`apo1`, `apo2`) are sources if there are few of them, else their common letters are.

    Nothing is guessed where most files that begin with an entry or a word share it with no other.
    """
    named = {key: entry for key, name in names.items() if (entry := _entry(name, _NAMED_ENTRY))}
    bare = {key: entry for key, name in names.items() if (entry := _entry(name, _BARE_ENTRY))}
    entries = named if _is_series(bare.values()) else bare | named
    found = entries if _repeated(Counter(entries.values())) else {}
    words = {key: word for key, name in names.items() if key not in found and (word := _word(name))}
    found |= _words(words)
    told = 2 * len(found) >= len(bare.keys() | named.keys() | words.keys())
    return found if told and _repeated(Counter(found.values())) else {}


def from_sizes(sizes: Mapping[str, tuple[int, int]]) -> dict[str, str]:
    """Id -> `WIDTHxHEIGHT`, from (height, width) in px; one name for all if the sizes are many.

    Cut pictures may each have a size of its own.
    """
    few = len(set(sizes.values())) ** 2 <= 2 * len(sizes)
    return {
        key: f"{width}x{height}" if few else _SIZES_NAME for key, (height, width) in sizes.items()
    }


def _entry(name: str, form: re.Pattern[str]) -> str:
    """The entry at the beginning, or after a program's own numbers and hashes."""
    while True:
        if match := form.match(name):
            archive = "EMD-" if match[1].upper().startswith("EMD") else ""
            return f"{archive}{match[form.groups]}"
        own = _OWN.match(name)
        if own is None:
            return ""
        name = name[own.end() :]


def _word(name: str) -> str:
    while own := _OWN.match(name):
        name = name[own.end() :]
    match = _WORD.match(name)
    return "" if match is None or _GENERIC.fullmatch(match[1]) else match[1]


def _is_series(entries: Iterable[str]) -> bool:
    """Whether at least half of the numbers of a series with a fixed step are there."""
    numbers = sorted({int(entry) for entry in entries})
    span = numbers[-1] - numbers[0] if numbers else 0
    step = math.gcd(*(number - numbers[0] for number in numbers))
    # Three neighbours may be entries by chance.
    return len(numbers) > (3 if step == 1 else 2) and span < 2 * step * len(numbers)


def _words(words: Mapping[str, str]) -> dict[str, str]:
    families: dict[str, Counter[str]] = {}
    for word in words.values():
        families.setdefault(re.sub(r"\d+", "#", word), Counter())[word] += 1
    source: dict[str, str] = {}
    for family, count in families.items():
        timed = family.startswith("#") and family.count("#") > 1
        if not timed and _repeated(count, files_per_source=1):
            source |= {word: word for word in count}
        elif re.fullmatch("[A-Za-z]{2,}#", family) and count.total() > 1:
            source |= dict.fromkeys(count, family[:-1])
    return {key: source[word] for key, word in words.items() if word in source}


def _repeated(count: Counter[str], *, files_per_source: float = 0.25) -> bool:
    """Whether most files share their source with others.

    And the more sources, the more files: in the mean `files_per_source` times their number.
    """
    shared = sum(files for files in count.values() if files > 1)
    return 2 * shared > count.total() >= files_per_source * len(count) ** 2
