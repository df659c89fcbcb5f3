"""The page: what a person may see of a community, in a browser, live and for a day that has passed. It commands nothing.

`commonwatt-coordinator page` is a process of its own, so that nothing that a browser does can harm control. It holds no signing key: it
reads the community from a second, read-only broker, publishes views on that broker alone, and serves files, the feeder's shape and the
stored day over HTTP. Browsers get what is live as MQTT over websockets, through a relay to that broker, whose access list decides.

Three kinds of people, and what each sees:

| who | what |
|---|---|
| anybody who reaches the page | the feeder in classes, sums over at least `MIN_GROUP` homes, term, round, price, events without names |
| a household, by its token | the same, and its own devices, envelope, state and reasons |
| an administrator, by a token | everything, in numbers |

A voltage at each bus, exactly, would tell what each home draws: the power flow can be inverted. So the public picture has classes for
voltages, loadings in steps and only of branches that feed at least `MIN_GROUP` homes, and it changes only when that many homes have
reported anew, because two sums that differ by one home's report would give it away.
"""
