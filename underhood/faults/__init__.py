"""The catalogue: every kind of fault that a diagnosis looks for, in the order of looking."""

from underhood.faults.calibration import WRONG_CALIBRATION
from underhood.faults.censoring import FEEDBACK, LABEL_DELAY
from underhood.faults.drift import CONCEPT, COVARIATE, PRIOR, REAL_EVENT
from underhood.faults.envelope import ENVELOPE
from underhood.faults.feeds import MISSING
from underhood.faults.flips import FLIP
from underhood.faults.kinds import Kind
from underhood.faults.labels import DEFINITION
from underhood.faults.leakage import LEAKAGE
from underhood.faults.nulls import NULL_JOIN, UNPARSED
from underhood.faults.rules import MISROUTING
from underhood.faults.sampling import REPEATS, SAMPLING
from underhood.faults.served import MODEL, SKEW, WRONG_THRESHOLD
from underhood.faults.skews import FEATURE_SKEW
from underhood.faults.traffic import TRAFFIC_KINDS
from underhood.faults.training import GAP
from underhood.faults.training_labels import CENSORED
from underhood.faults.values import VALUE_KINDS
from underhood.faults.vectors import DEFAULT, FEATURE_ORDER

KINDS: tuple[Kind, ...] = (
    MODEL,
    DEFAULT,
    FEATURE_ORDER,
    WRONG_CALIBRATION,
    FEATURE_SKEW,
    *TRAFFIC_KINDS,
    *VALUE_KINDS,
    SKEW,
    WRONG_THRESHOLD,
    MISROUTING,
    MISSING,
    NULL_JOIN,
    UNPARSED,
    DEFINITION,
    ENVELOPE,
    GAP,
    CENSORED,
    LEAKAGE,
    SAMPLING,
    REPEATS,
    FLIP,
    LABEL_DELAY,
    FEEDBACK,
    REAL_EVENT,
    COVARIATE,
    PRIOR,
    CONCEPT,
)
