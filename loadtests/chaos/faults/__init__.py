"""All faults: importing this package registers them in `loadtests.chaos.world.FAULTS`."""

from loadtests.chaos.faults import clock, disk, frozen, kills, network, postgres, power, programme, valkey, writers

__all__ = ["clock", "disk", "frozen", "kills", "network", "postgres", "power", "programme", "valkey", "writers"]
