"""The catalogue: every kind of fault that a diagnosis looks for, in the order of looking."""

from underhood.faults.feeds import MISSING
from underhood.faults.kinds import Kind
from underhood.faults.labels import DEFINITION
from underhood.faults.served import MODEL, SKEW, WRONG_THRESHOLD
from underhood.faults.training import GAP

KINDS: tuple[Kind, ...] = (MODEL, SKEW, WRONG_THRESHOLD, MISSING, DEFINITION, GAP)
