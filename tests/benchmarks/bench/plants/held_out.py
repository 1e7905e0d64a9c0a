"""The held-out plants: models, magnitudes and mechanisms that the rules of the verdict were not made with.

They were written without a look at the rules. ``why`` says for each, before its first run, which first causes a fair
judge accepts. After the rules are mended for their misses, these plants are tuned ones, and new ones have to be
written.
"""

from __future__ import annotations

from .held_out_foreign import ON_OTHERS
from .held_out_slipway import ON_SLIPWAY

HELD_OUT = (*ON_SLIPWAY, *ON_OTHERS)
