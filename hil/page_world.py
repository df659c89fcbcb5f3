"""A community that only talks: homes without devices whose messages have any content and any time, on a broker, with the page before them.

For the tests and measurements of the page, which care about what is said and not about why.
"""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Final

from coordinator.config import CoordinatorConfig, FeederSection, IdentitySection, NodeSection, PassiveSection, StoreSection
from hil.broker import Broker, _free_port
from hil.scratch import discard, scratch_folder
from hil.serving import ServedPage, page_url
from protocols import codec
from protocols.bus import BusMessage
from protocols.messages import SafetyState, Status, Telemetry
from protocols.mqtt_bus import MqttBus, MqttSettings
from protocols.topics import coordinator_status_topic, node_topic

COMMUNITY: Final = "talk"
HOMES_OF_A_BRANCH: Final = 20
ARRIVAL_S: Final = 10.0
HEADS: Final = {
    "buses": "bus,kv_ln,nodes",
    "lines": "line,from_bus,to_bus,phases_from,phases_to,r_self_ohm,x_self_ohm,r_mut_ohm,x_mut_ohm,c_self_nf,c_mut_nf,length_m,amp_a"
    ",in_service",
    "loads": "load,bus,phases,kv,p_kw,q_kvar,vmin_pu,vmax_pu,conn,profile",
    "source": "bus,kv_ll,pu,angle_deg,r1_ohm,x1_ohm,r0_ohm,x0_ohm,base_freq_hz",
    "transformers": "trafo,bus_hv,bus_lv,kva,kv_hv,kv_lv,conn_hv,conn_lv,xhl_pct,r_hv_pct,r_lv_pct,noload_pct,tap_hv,tap_lv",
}  # fmt: skip


def write_network(folder: Path, homes: int) -> None:
    """A low-voltage network for so many homes: branches of twenty, two homes at each pole, phases in turn."""
    folder.mkdir(parents=True, exist_ok=True)
    buses, lines, loads = ["mv,12.701706,1.2.3", "lv,0.23,1.2.3"], [], []
    for home in range(homes):
        branch, place = divmod(home, HOMES_OF_A_BRANCH)
        pole, phase = f"p{branch}_{place // 2}", 1 + home % 3
        if place % 2 == 0:
            before = "lv" if place == 0 else f"p{branch}_{place // 2 - 1}"
            buses.append(f"{pole},0.23,1.2.3")
            lines.append(f"main_{pole},{before},{pole},1.2.3,1.2.3,0.0148,0.0052,0.0074,0.0026,0,0,36.0,280.0,1")
        name = home_name(home)
        buses.append(f"b_{name},0.23,{phase}")
        lines.append(f"s_{name},{pole},b_{name},{phase},{phase},0.0430,0.0028,0,0,0,0,16.0,100.0,1")
        loads.append(f"{name},b_{name},{phase},0.23,1,0.25,0.5,1.5,Y,{name}")
    tables = {
        "buses": buses,
        "lines": lines,
        "loads": loads,
        "source": ["mv,22.0,1.0,0.0,0.6,1.2,0.6,1.2,50"],
        "transformers": [f"tx,mv,lv,{4.0 * homes + 60.0:.0f},22,0.433,D,Yn,3.7,0.78,0.78,0.25,1.025,1"],
    }
    for name, rows in tables.items():
        (folder / f"{name}.csv").write_text("\n".join([HEADS[name], *rows]) + "\n", encoding="utf-8")


def home_name(number: int) -> str:
    """Name of the home with this number, from 0."""
    return f"home_{number + 1:03d}"


class TalkingCommunity:
    """So many homes on one broker, and the page; `async with`."""

    def __init__(self, homes: int, mosquitto: Path | None = None) -> None:
        self.homes = tuple(home_name(number) for number in range(homes))
        self.folder = scratch_folder("page")
        self.broker = Broker(mosquitto)
        self.page = ServedPage(_free_port(), self.folder / "page", mosquitto)
        self._mouth: MqttBus | None = None
        self._sequence = 0

    @property
    def url(self) -> str:
        """Where the page is."""
        return page_url(self.page.port)

    async def __aenter__(self) -> TalkingCommunity:
        write_network(self.folder / "network", len(self.homes))
        try:
            self.broker.start()
            self._mouth = MqttBus(MqttSettings(port=self.broker.port), client_id="mouth")
            await self._mouth.start()
            await self.page.start(self.config(), self.broker.port)
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.page.stop()
        if self._mouth is not None:
            await self._mouth.stop()
        self.broker.close()
        discard(self.folder)

    def config(self) -> CoordinatorConfig:
        """What an operator would write for these homes."""
        return CoordinatorConfig(
            identity=IdentitySection(community=COMMUNITY),
            feeder=FeederSection(network=str(self.folder / "network"), vmin_pu=0.94, vmax_pu=1.1),
            nodes=tuple(
                NodeSection(name=name, connection=name, import_rating_w=15e3, export_rating_w=10e3) for name in self.homes
            ),
            passive=PassiveSection(high_frac=0.0),
            store=StoreSection(url=f"sqlite:///{self.folder / 'coordinator.db'}"),
        )

    def say_telemetry(self, name: str, *, net_import_w: float | None = None, time_s: float | None = None) -> Telemetry:
        """A home says how it is; solar and load follow from its number and the hour unless its net import is given."""
        now_s = time.time() if time_s is None else time_s
        number = self.homes.index(name)
        pv_w = -max(0.0, 3000.0 * math.sin(now_s / 600.0 + number)) if number % 3 else 0.0
        load_w = 900.0 + 600.0 * math.sin(now_s / 97.0 + 1.7 * number)
        ev_w = 3600.0 if number % 7 == 0 else 0.0
        message = Telemetry(
            sender=name,
            time_s=now_s,
            sequence=self._next(),
            start_s=now_s - ARRIVAL_S,
            duration_s=ARRIVAL_S,
            net_import_w=round(load_w + pv_w + ev_w, 1) if net_import_w is None else net_import_w,
            load_w=round(load_w, 1),
            pv_w=round(pv_w, 1) if number % 3 else None,
            battery_w=None,
            ev_w=ev_w if number % 7 == 0 else None,
            soc_frac=None,
            voltage_v=(),
            energy_import_wh=None,
            energy_export_wh=None,
            import_limit_w=7000.0,
            export_limit_w=3500.0,
            exceeded_s=0.0,
            state=SafetyState.CONTROLLED,
        )
        self._publish(node_topic(COMMUNITY, name, "telemetry"), message)
        return message

    def say_status(self, name: str, state: SafetyState, *reasons: str) -> None:
        """A home, or the coordinator, says in which state it is."""
        message = Status(sender=name, time_s=time.time(), sequence=self._next(), state=state, software="bench", reasons=reasons)
        topic = coordinator_status_topic(COMMUNITY) if name == "coordinator" else node_topic(COMMUNITY, name, "status")
        self._publish(topic, message, retain=True)

    def _publish(self, topic: str, message: Telemetry | Status, *, retain: bool = False) -> None:
        assert self._mouth is not None
        self._mouth.publish(BusMessage(topic=topic, payload=codec.encode(message), retain=retain, qos=1))

    def _next(self) -> int:
        self._sequence += 1
        return self._sequence
