"""Every figure that a coordinator exports. A household appears by its node's name alone, with no power of its own."""

from __future__ import annotations

from typing import Final

from protocols.messages import SafetyState
from protocols.observation.book import FamilyMaker

PREFIX: Final = "commonwatt_coordinator"
DELAY_BUCKETS: Final = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0, 300.0)
STATES: Final = tuple(state.value for state in SafetyState)
UNHEARD: Final = "unheard"
"""State of a node that has not spoken since this process began."""

CONDITIONS: Final = ("default-reduced", "infeasible", "no-default", "store", "tightened", "unverified")
REFUSALS: Final = ("BadSignature", "Malformed", "Replayed", "Stale", "UnknownNode", "UnknownSender", "Unsigned")
ROUNDS: Final = ("opened", "refused")

family: Final = FamilyMaker(PREFIX, DELAY_BUCKETS)
FAMILIES: Final = (
    family("build_info", "info", "Version, community and network."),
    family("last_turn_timestamp_seconds", "gauge", "Unix time of the newest turn of the loop that listens and stores."),
    family("last_act_timestamp_seconds", "gauge", "Unix time at which what was due was last computed and published."),
    family("messages_received_total", "counter", "Messages that passed every rule of trust."),
    family("messages_refused_total", "counter", "Messages that broke a rule of trust.", "reason"),
    family("messages_dropped_total", "counter", "Messages lost to full queues, to expiry while the broker was away, or unreadable."),
    family("report_delay_seconds", "histogram", "From the time that a node wrote into its telemetry until it was on the disk."),
    family("nodes", "gauge", "Number of nodes in each state; unheard: nothing was said since this process began.", "state"),
    family("node_online", "gauge", "1 unless the node is offline or was not heard.", "node"),
    family("node_failsafe", "gauge", "1 while the node says that it is in failsafe.", "node"),
    family("node_last_report_timestamp_seconds", "gauge", "Unix time of the newest telemetry of the node.", "node"),
    family("node_envelope_exceeded_seconds_total", "counter", "Time outside its envelope that the node itself reported.", "node"),
    family("net_import_watts", "gauge", "Sum of the newest net imports of the nodes that reported within 15 minutes."),
    family("envelopes_computed_total", "counter", "Intervals for which envelopes were computed."),
    family("controls_published_total", "counter", "Controls sent to nodes, those that were said again included."),
    family("envelope_horizon_seconds", "gauge", "Until when every node has a control, counted from now."),
    family("condition", "gauge", "1 while it holds; the status on the bus says it in words.", "condition"),
    family("store_rows_total", "counter", "Rows brought to the disk."),
    family("store_waiting_rows", "gauge", "Rows that are not on the disk yet."),
    family("store_lost_rows_total", "counter", "Measurements that made room while the store could not be written."),
    family("broker_connected", "gauge", "1 while the broker is connected."),
    family("broker_sessions_total", "counter", "How often the connection to the broker came up."),
    family("leader_term", "gauge", "Term of the leader whose certificate was checked. Not a number without sums."),
    family("rounds_total", "counter", "Aggregates that were opened or refused.", "outcome"),
    family("last_round_timestamp_seconds", "gauge", "Unix time at which the newest sum was opened."),
    family("certificate_expiry_timestamp_seconds", "gauge", "Unix time at which a member's newest certificate expires.", "member"),
)
