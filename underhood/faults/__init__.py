"""The catalogue: every kind of fault that a diagnosis looks for, in the order of looking."""

from underhood.faults.feeds import MISSING
from underhood.faults.kinds import Kind
from underhood.faults.labels import DEFINITION
from underhood.faults.served import MODEL, SKEW, WRONG_THRESHOLD
from underhood.faults.training import GAP
from underhood.faults.values import VALUE_KINDS

KINDS: tuple[Kind, ...] = (MODEL, *VALUE_KINDS, SKEW, WRONG_THRESHOLD, MISSING, DEFINITION, GAP)
