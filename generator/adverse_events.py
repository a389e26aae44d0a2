"""Drug safety reports of many organisations: new ones, follow-ups, and associations that a signal detection must find.

The patients of the time grid are here the organisations that send reports. Drugs and reactions of a report are drawn
independently of each other, except for the pairs in `PLANTED`.
"""

from collections import deque
from collections.abc import Iterator, Mapping
from random import Random
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from generator.bodies import Variation
from generator.cadence import LATE, PLAIN, SECOND_US, VARIED, Block, Cadence, Ints
from generator.compose import Members
from generator.drugs import REACTIONS, SUBSTANCES
from generator.profiles import Patient
from generator.report_faults import FAULTS, VARIATIONS
from generator.safety_reports import (
    CONCOMITANT,
    INTERACTING,
    OUTCOMES,
    SERIOUSNESS,
    SUSPECT,
    Report,
    drug_texts,
    modern_origin,
    old_origin,
    patient_text,
    reaction_place,
    term_of,
    written,
)

Chances = NDArray[np.float64]

DAY_US = 86_400 * SECOND_US
MAX_REACTIONS, MAX_DRUGS, MAX_SUSPECTS = 4, 6, 2
REACTION_COUNTS = np.array([0.30, 0.30, 0.25, 0.15])
DRUG_COUNTS = np.array([0.30, 0.25, 0.18, 0.12, 0.09, 0.06])
SECOND_SUSPECT, INTERACTION, FATAL_OTHERWISE, OF_OLD = 0.4, 0.01, 0.015, 0.03
FOLLOW_UP, SKIPS_A_VERSION = 0.042, 0.25
OPEN_REPORTS, WITHHELD_REPORTS = 10_000, 1_000
TRANSMITTED = (0.95, 0.035, 0.015)
"""How many transmission dates are written to the day, to the month and to the year."""
PATIENTS, ORIGINS = 4_096, 256
PER_SUBSTANCE = 3
"""The most reactions that `PLANTED` has of one substance."""
RAREST = 0.5
"""How often the last of `SUBSTANCES` and of `REACTIONS` is reported, compared with the first."""

SUBSTANCE_OF: Mapping[str, str] = {product: each.name for each in SUBSTANCES for product in each.products}
"""By the name of a medicinal product."""

PLANTED: Mapping[tuple[str, str], float] = {
    ("ATORVASTATIN", "RHABDOMYOLYSIS"): 6.0,
    ("SIMVASTATIN", "RHABDOMYOLYSIS"): 6.5,
    ("ATORVASTATIN", "MYALGIA"): 5.0,
    ("METFORMIN", "LACTIC ACIDOSIS"): 6.5,
    ("GLIPIZIDE", "HYPOGLYCAEMIA"): 5.5,
    ("INSULIN GLARGINE", "HYPOGLYCAEMIA"): 5.0,
    ("LIRAGLUTIDE", "PANCREATITIS"): 6.0,
    ("WARFARIN", "HAEMORRHAGE"): 5.5,
    ("RIVAROXABAN", "GASTROINTESTINAL HAEMORRHAGE"): 5.5,
    ("IBUPROFEN", "GASTROINTESTINAL HAEMORRHAGE"): 5.0,
    ("LISINOPRIL", "ANGIOEDEMA"): 6.0,
    ("LISINOPRIL", "COUGH"): 5.0,
    ("SPIRONOLACTONE", "HYPERKALAEMIA"): 6.5,
    ("HYDROCHLOROTHIAZIDE", "HYPONATRAEMIA"): 6.0,
    ("CARBAMAZEPINE", "HYPONATRAEMIA"): 5.5,
    ("AMLODIPINE", "OEDEMA PERIPHERAL"): 5.5,
    ("METOPROLOL", "BRADYCARDIA"): 6.0,
    ("DIGOXIN", "BRADYCARDIA"): 5.5,
    ("AMIODARONE", "PULMONARY FIBROSIS"): 6.5,
    ("METHOTREXATE", "PULMONARY FIBROSIS"): 5.0,
    ("METHADONE", "ELECTROCARDIOGRAM QT PROLONGED"): 6.5,
    ("CIPROFLOXACIN", "TENDON RUPTURE"): 6.0,
    ("LEVOFLOXACIN", "TENDON RUPTURE"): 6.5,
    ("VANCOMYCIN", "ACUTE KIDNEY INJURY"): 5.5,
    ("GENTAMICIN", "ACUTE KIDNEY INJURY"): 5.5,
    ("CLOZAPINE", "AGRANULOCYTOSIS"): 6.5,
    ("OLANZAPINE", "WEIGHT INCREASED"): 5.0,
    ("LAMOTRIGINE", "STEVENS-JOHNSON SYNDROME"): 6.5,
    ("CARBAMAZEPINE", "STEVENS-JOHNSON SYNDROME"): 5.5,
    ("ACETAMINOPHEN", "HEPATIC FAILURE"): 6.0,
    ("ACETAMINOPHEN", "INTENTIONAL OVERDOSE"): 5.5,
    ("OXYCODONE", "DRUG DEPENDENCE"): 6.0,
    ("OXYCODONE", "OVERDOSE"): 5.0,
    ("FENTANYL", "ACCIDENTAL OVERDOSE"): 6.0,
    ("MORPHINE", "RESPIRATORY DEPRESSION"): 6.5,
    ("TRAMADOL", "SEROTONIN SYNDROME"): 6.0,
    ("SERTRALINE", "SEROTONIN SYNDROME"): 5.5,
    ("ZOLEDRONIC ACID", "OSTEONECROSIS OF JAW"): 6.5,
    ("DOCETAXEL", "ALOPECIA"): 5.0,
    ("VARENICLINE", "ABNORMAL DREAMS"): 6.5,
}
"""The associations: how often a reaction is reported with a suspect substance, compared with its reports without it."""


class Draw(NamedTuple):
    """The random choices for one report. A follow-up needs only some of them."""

    terms: list[int]
    """Places in `REACTIONS`: first those that its substances bring with them, then ordinary ones. -1 is none."""
    reactions: int
    outcome: int
    substances: list[int]
    forms: list[int]
    drugs: int
    suspects: int
    is_interaction: bool
    patient: int
    origin: int
    harm: int
    is_fatal: bool
    is_of_old: bool
    delay: int
    transmitted: int
    is_follow_up: bool
    followed: float
    skips: bool


class AdverseEvents:
    """One version of a report per time on the grid."""

    def __init__(self, patients: list[Patient], cadence: Cadence, rng: np.random.Generator) -> None:
        self.faults = FAULTS
        self.variations: list[Variation] = [*VARIATIONS]
        self._rng = rng
        texts = Random(int(rng.integers(2**62)))
        self._patients = [patient_text(texts) for _ in range(PATIENTS)]
        self._modern = [modern_origin(texts) for _ in range(ORIGINS)]
        self._old = [old_origin(texts) for _ in range(ORIGINS)]
        self._may_precede = not cadence.live
        self._last_number = 0
        self._sent = 0
        self._open: list[Report] = []
        self._withheld: deque[Report] = deque(maxlen=WITHHELD_REPORTS)

    def members(self, block: Block) -> Members:
        """The reports that the block's events hold."""
        pack = block.measured_us.shape[1]
        kinds = np.repeat(block.kinds, pack)
        rows = zip(
            kinds.tolist(),
            (block.measured_us.ravel() // DAY_US).tolist(),
            self._numbers(block.due, pack).tolist(),
            drawn(self._rng, len(kinds)),
            strict=True,
        )
        reports = [self._report(*row) for row in rows]
        return Members([report.number for report in reports[::pack]], [written(report) for report in reports])

    def _numbers(self, due: NDArray[np.float64], pack: int) -> Ints:
        """The microsecond at which each report is due, or the next one that is free.

        So the reports of two runs share no number if the second one begins after the first has ended.
        """
        count = np.arange(len(due) * pack)
        wanted = np.repeat((due * SECOND_US).astype(np.int64), pack) - count
        numbers = np.maximum.accumulate(np.maximum(wanted, self._last_number + 1)) + count
        self._last_number = int(numbers[-1]) if len(numbers) else self._last_number
        return numbers

    def _report(self, kind: int, receipt: int, number: int, draw: Draw) -> Report:
        if kind == LATE and self._withheld:
            return self._withheld.popleft()
        if kind in (PLAIN, VARIED) and draw.is_follow_up and self._open:
            return self._follow_up(receipt, draw)
        report = self._first(receipt, number, draw)
        # A report of another kind may be spoiled or not be sent, so its second version would come without a first.
        if kind in (PLAIN, VARIED, LATE) and report.version:
            self._keep_open(report)
        return report

    def _keep_open(self, report: Report) -> None:
        """Remembers a report that may be followed up, in place of the one that was remembered longest ago."""
        if len(self._open) < OPEN_REPORTS:
            self._open.append(report)
        else:
            self._open[self._sent % OPEN_REPORTS] = report
        self._sent += 1

    def _first(self, receipt: int, number: int, draw: Draw) -> Report:
        terms = [term for term in dict.fromkeys(draw.terms) if term >= 0][: draw.reactions]
        roles = [SUSPECT] * draw.suspects + [INTERACTING if draw.is_interaction else CONCOMITANT] * MAX_DRUGS
        is_of_old = draw.is_of_old
        # As in openFDA, some old reports say that they were received after their own date of receipt.
        delay = -draw.delay if is_of_old and self._may_precede else draw.delay
        return Report(
            number=f"{number}-{number % 9 + 1}" if is_of_old else str(number),
            version=0 if is_of_old else 1,
            received=receipt - delay,
            receipt=receipt,
            transmitted=draw.transmitted,
            origin=(self._old if is_of_old else self._modern)[draw.origin],
            harm=draw.harm,
            is_fatal=draw.is_fatal or DEATH in terms,
            patient=self._patients[draw.patient],
            reactions=tuple([reaction_place(term, draw.outcome) for term in terms]),
            drugs=tuple([_drug(roles[place], draw, place) for place in range(draw.drugs)]),
        )

    def _follow_up(self, receipt: int, draw: Draw) -> Report:
        place = int(draw.followed * len(self._open))
        before = self._open[place]
        receipt = max(receipt, before.receipt)
        after = _with_reaction(before, draw)._replace(version=before.version + 1, receipt=receipt)
        if draw.skips:
            self._withheld.append(after._replace(receipt=(before.receipt + receipt) // 2))
            after = after._replace(version=after.version + 1)
        if len(after.drugs) < MAX_DRUGS:
            after = after._replace(drugs=(*after.drugs, _drug(CONCOMITANT, draw, 0)))
        self._open[place] = after
        return after


def _drug(role: int, draw: Draw, place: int) -> str:
    return _DRUGS[role][draw.substances[place]][draw.forms[place]]


def _with_reaction(report: Report, draw: Draw) -> Report:
    """The report with one reaction more, if there is room: an ordinary one, as planted ones belong to other drugs."""
    term = draw.terms[-1]
    if len(report.reactions) == MAX_REACTIONS or term in map(term_of, report.reactions):
        return report
    reactions = (*report.reactions, reaction_place(term, draw.outcome))
    return report._replace(reactions=reactions, is_fatal=report.is_fatal or term == DEATH)


def drawn(rng: np.random.Generator, count: int) -> Iterator[Draw]:
    """The choices for `count` reports, independent of each other."""

    def whole(below: int) -> Ints:
        return rng.integers(below, size=count)

    def is_so(share: float) -> NDArray[np.bool_]:
        return rng.random(count) < share

    substances = _picked(rng.random((count, MAX_DRUGS)), SUBSTANCE_LIMITS)
    drugs = 1 + _picked(rng.random(count), np.cumsum(DRUG_COUNTS))
    suspects = np.minimum(1 + is_so(SECOND_SUSPECT), drugs)
    planted = _planted(rng.random((count, MAX_SUSPECTS, PER_SUBSTANCE)), substances, suspects)
    reactions = np.maximum(1 + _picked(rng.random(count), np.cumsum(REACTION_COUNTS)), (planted >= 0).sum(axis=1))
    columns: dict[str, NDArray[Any]] = {
        "terms": np.concatenate([planted, _picked(rng.random((count, MAX_REACTIONS)), REACTION_LIMITS)], axis=1),
        "reactions": np.minimum(reactions, MAX_REACTIONS),
        "outcome": whole(len(OUTCOMES)),
        "substances": substances,
        "forms": rng.integers(_FORMS[substances]),
        "drugs": drugs,
        "suspects": suspects,
        "is_interaction": is_so(INTERACTION),
        "patient": whole(PATIENTS),
        "origin": whole(ORIGINS),
        "harm": whole(len(SERIOUSNESS)),
        "is_fatal": is_so(FATAL_OTHERWISE),
        "is_of_old": is_so(OF_OLD),
        "delay": np.maximum(rng.integers(-40, 21, count), 0),
        "transmitted": _picked(rng.random(count), np.cumsum(TRANSMITTED)),
        "is_follow_up": is_so(FOLLOW_UP),
        "followed": rng.random(count),
        "skips": is_so(SKIPS_A_VERSION),
    }
    return map(Draw._make, zip(*(columns[name].tolist() for name in Draw._fields), strict=True))


def _picked(chances: Chances, limits: Chances) -> Ints:
    """Places by their cumulative shares. The last limit is left out: rounding may leave it below 1."""
    return np.searchsorted(limits[:-1], chances, side="right")


def _planted(chances: Chances, substances: Ints, suspects: Ints) -> Ints:
    """The reactions that suspect substances bring with them; -1 where there is none."""
    suspected = substances[:, :MAX_SUSPECTS]
    happens = chances < _PLANTED_CHANCES[suspected]
    happens &= (np.arange(MAX_SUSPECTS) < suspects[:, None])[:, :, None]
    return np.where(happens, _PLANTED_TERMS[suspected], -1).reshape(len(substances), -1)


def _limits(count: int) -> Chances:
    weights = np.linspace(1.0, RAREST, count)
    return np.cumsum(weights / weights.sum())


def _planted_by_substance() -> tuple[Ints, Chances]:
    """For each substance its planted reactions, and how likely it brings each of them into a report."""
    terms = np.full((len(SUBSTANCES), PER_SUBSTANCE), -1)
    likely = np.zeros((len(SUBSTANCES), PER_SUBSTANCE))
    once = np.diff(REACTION_LIMITS, prepend=0.0)
    counts = np.arange(1, MAX_REACTIONS + 1)[:, None]
    otherwise = REACTION_COUNTS @ (1 - (1 - once) ** counts)
    for number, substance in enumerate(SUBSTANCES):
        pairs = [(reaction, ratio) for (name, reaction), ratio in PLANTED.items() if name == substance.name]
        for place, (reaction, ratio) in enumerate(pairs):
            terms[number, place] = term = REACTIONS.index(reaction)
            likely[number, place] = (ratio - 1) * otherwise[term] / (1 - otherwise[term])
    return terms, likely


SUBSTANCE_LIMITS, REACTION_LIMITS = _limits(len(SUBSTANCES)), _limits(len(REACTIONS))
DEATH = REACTIONS.index("DEATH")
_DRUGS = {role: drug_texts(role) for role in (SUSPECT, CONCOMITANT, INTERACTING)}
_FORMS = np.array([len(texts) for texts in _DRUGS[SUSPECT]])
_PLANTED_TERMS, _PLANTED_CHANCES = _planted_by_substance()
