"""Words for what happens, as people who do not know the code read them. Data."""

from __future__ import annotations

from typing import Final

from protocols.messages import SafetyState

REASON_WORDS: Final = {
    "store": "the record cannot be written, so no new envelope is published",
    "infeasible": "no envelope is safe for an interval ahead; the default holds there",
    "unverified": "an envelope could not be verified and was not published",
    "tightened": "earlier envelopes were no longer safe and were replaced",
    "no-default": "no default is safe on this feeder",
    "default-reduced": "the configured default is not safe for all homes at once and was reduced",
    "refused": "a message was refused",
    "events-dropped": "more happened in one step than is recorded",
    "connection lost": "the connection was lost",
    "sum refused": "the sum of a round was refused",
    "rows-lost": "measurements were lost while the record could not be written",
    "offline": "offline; envelopes that were delivered run on",
    "back online": "back online",
}
"""The kinds of the coordinator's events and conditions (`coordinator.journal`), without names of homes."""

STATE_WORDS: Final = {
    "failsafe": "a home is in failsafe: it holds its safest limits until its devices or its envelope are back",
    "default": "a home fell back to its default envelope",
    "controlled": "a home follows its envelope",
    "offline": "a home has gone offline",
    "exceeded": "a home was outside its envelope for more than 15 s",
    "leader": "the homes have a new leader",
}


def event_of_state(after: SafetyState, reasons: tuple[str, ...]) -> tuple[str, str]:
    """Kind and words of a home's change of state; why, where it is for the worse."""
    kind, words = _state_words(after)
    return kind, f"{words}: {'; '.join(reasons)}" if reasons and kind != "controlled" else words


def _state_words(after: SafetyState) -> tuple[str, str]:
    match after:
        case SafetyState.FAILSAFE:
            return "failsafe", "failsafe"
        case SafetyState.DEFAULT:
            return "default", "holds its default envelope"
        case SafetyState.OFFLINE:
            return "offline", "offline"
        case _:
            return "controlled", "follows its envelope"
