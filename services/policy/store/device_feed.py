"""What this replica knows of devices: groups, what nodes see, and what holds."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from services.common.etcd.keys import Keys
from services.common.etcd.types import KeyValue, Revision
from services.common.model.devices import DeviceGroupName
from services.common.model.names import NodeName
from services.policy.devices.health import LegKey, LegState, Observed, rules_of
from services.policy.engine.engine import Engine
from services.policy.store import codec_devices
from services.policy.store.codec_devices import StoredGroup
from services.policy.store.entry import Entry

NOTHING: Mapping[LegKey, LegState] = {}


class DeviceFeed:
    """The records of devices."""

    def __init__(self, keys: Keys, engine: Engine) -> None:
        self._engine = engine
        self.groups: dict[DeviceGroupName, Entry[StoredGroup]] = {}
        self.states: dict[DeviceGroupName, Entry[Mapping[LegKey, LegState]]] = {}
        self.observed: dict[NodeName, Observed] = {}
        self.moves = 0
        """A number that is another one when there is something to decide: groups, what holds of
        them, or what a node sees are others; not when a node only says the same again."""
        self._last_number = 0
        self.takers: Mapping[str, Callable[[str, KeyValue | None], None]] = {
            keys.devices: self._take_group,
            keys.device_states: self._take_state,
            keys.device_numbers: self._take_number,
            keys.observed: self._take_observed,
        }
        """By prefix of keys."""

    @property
    def last_number(self) -> int:
        """The last one that an arm was given; 0: none was."""
        if self._last_number:
            return self._last_number
        # by a version that did not write it down
        given = (entry.value.numbers.values() for entry in self.groups.values())
        return max((number for numbers in given for number in numbers), default=0)

    def states_of(self, name: DeviceGroupName) -> Mapping[LegKey, LegState]:
        """What holds of a group's legs."""
        entry = self.states.get(name)
        return NOTHING if entry is None else entry.value

    def state_revision(self, name: DeviceGroupName) -> Revision:
        """At which that was written; 0: it was not."""
        entry = self.states.get(name)
        return 0 if entry is None else entry.revision

    def _take_group(self, text: str, item: KeyValue | None) -> None:
        name = DeviceGroupName(text)
        if item is None:
            self.groups.pop(name, None)
        else:
            stored = codec_devices.decode_group(name, item.value)
            self.groups[name] = Entry(stored, item.mod_revision)
        self._tell()

    def _take_state(self, text: str, item: KeyValue | None) -> None:
        name = DeviceGroupName(text)
        if item is None:
            self.states.pop(name, None)
        else:
            states = codec_devices.decode_states(item.value)
            self.states[name] = Entry(states, item.mod_revision)
        self._tell()

    def _take_number(self, _: str, item: KeyValue | None) -> None:
        self._last_number = 0 if item is None else codec_devices.decode_number(item.value)

    def _take_observed(self, text: str, item: KeyValue | None) -> None:
        node = NodeName(text)
        before = self.observed.pop(node, None)
        if item is not None:
            self.observed[node] = codec_devices.decode_observed(item.value)
        now = self.observed.get(node)
        if (before and before.legs) != (now and now.legs):
            self.moves += 1

    def _tell(self) -> None:
        self.moves += 1
        self._engine.set_devices(
            {
                name: rules_of(entry.value.group, entry.value.numbers, self.states_of(name))
                for name, entry in self.groups.items()
            }
        )
