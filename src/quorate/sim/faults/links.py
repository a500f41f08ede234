"""Faults of links: blocked in one direction or in both, flapping, slow, losing, doubling or reordering frames."""

from __future__ import annotations

from quorate.sim.faults.scene import Injector, Occurrence, Scene
from quorate.sim.random_streams import SeededRng


class LinkFaults:
    """Each injector returns what it did."""

    def __init__(self, scene: Scene) -> None:
        self._scene = scene

    def injectors(self) -> dict[str, Injector]:
        return {
            "partition": self._partition,
            "one way": self._one_way,
            "isolate": self._isolate,
            "reset": self._reset,
            "slow link": self._slow_link,
            "slow node": self._slow_node,
            "loss": self._loss,
            "duplication": self._duplication,
            "reordering": self._reordering,
            "ring": self._ring,
            "bridge": self._bridge,
            "flap": self._flap,
        }

    def heal(self) -> None:
        """All links are open and healthy."""
        network = self._scene.cluster.network
        for (source, target), link in network.links.items():
            if link.blocked:
                network.unblock(source, target)
            link.recover()

    def _block(self, pairs: list[tuple[int, int]], rng: SeededRng, for_ms: float | None = None) -> None:
        """Block these links, those that are not blocked yet, for a while."""
        network = self._scene.cluster.network
        fresh = [(source, target) for source, target in pairs if not network.links[source, target].blocked]
        for source, target in fresh:
            network.block(source, target)

        def heal() -> None:
            for source, target in fresh:
                if network.links[source, target].blocked:
                    network.unblock(source, target)

        self._scene.later(rng.uniform(50.0, 6_000.0) if for_ms is None else for_ms, heal)

    def _partition(self, fault: Occurrence) -> str:
        rng = fault.rng
        numbers = self._scene.cluster.present()
        side = sorted(rng.sample(numbers, 1 + rng.below(len(numbers) - 1)))
        other = [number for number in numbers if number not in side]
        self._block([pair for a in side for b in other for pair in ((a, b), (b, a))], rng)
        return f"{side} | {other}"

    def _isolate(self, fault: Occurrence) -> str:
        rng = fault.rng
        numbers = self._scene.cluster.present()
        alone = rng.choice(numbers)
        outgoing = rng.chance(0.7)
        incoming = not outgoing or rng.chance(0.7)
        others = [number for number in numbers if number != alone]
        pairs = [(alone, other) for other in others if outgoing] + [(other, alone) for other in others if incoming]
        self._block(pairs, rng)
        return f"n{alone}{' sends' if outgoing else ''}{' hears' if incoming else ''} nothing"

    def _one_way(self, fault: Occurrence) -> str:
        rng = fault.rng
        source, target = rng.sample(self._scene.cluster.present(), 2)
        self._block([(source, target)], rng)
        return f"n{source} ↛ n{target}"

    def _ring(self, fault: Occurrence) -> str:
        """Everybody reaches only two neighbours, so that every two nodes see another part of the cluster."""
        rng = fault.rng
        circle = rng.sample(self._scene.cluster.present(), len(self._scene.cluster.present()))
        size = len(circle)
        apart = [(a, b) for a in range(size) for b in range(size) if (a - b) % size not in (0, 1, size - 1)]
        self._block([(circle[a], circle[b]) for a, b in apart], rng)
        return f"{circle}"

    def _bridge(self, fault: Occurrence) -> str:
        """Two halves that see each other only through one node, which sees everybody."""
        rng = fault.rng
        numbers = rng.sample(self._scene.cluster.present(), len(self._scene.cluster.present()))
        bridge, rest = numbers[0], numbers[1:]
        side, other = rest[: len(rest) // 2], rest[len(rest) // 2 :]
        self._block([pair for a in side for b in other for pair in ((a, b), (b, a))], rng)
        return f"{side} | n{bridge} | {other}"

    def _flap(self, fault: Occurrence) -> str:
        """Links of one node, or one link, that break and heal again and again."""
        rng = fault.rng
        first, second = rng.sample(self._scene.cluster.present(), 2)
        whole = rng.chance(0.4)
        pairs = [
            pair
            for pair in self._scene.cluster.network.links
            if (first in pair if whole else set(pair) == {first, second})
        ]
        times = 2 + rng.below(12)

        def again(left: int) -> None:
            self._block(pairs, rng, rng.choice((50.0, 500.0, 3_000.0)) * rng.random())
            if left:
                self._scene.later(rng.uniform(50.0, 3_000.0), lambda: again(left - 1))

        again(times)
        return f"n{first} {'and all others' if whole else f'and n{second}'}, {times} times"

    def _reset(self, fault: Occurrence) -> str:
        rng = fault.rng
        first, second = rng.sample(self._scene.cluster.present(), 2)
        self._scene.cluster.network.reset(first, second)
        return f"n{first}, n{second}"

    def _degrade(self, rng: SeededRng, pairs: list[tuple[int, int]], **condition: float) -> None:
        """Set attributes of these links for a while."""
        links = [self._scene.cluster.network.links[pair] for pair in pairs]
        for link in links:
            for name, value in condition.items():
                setattr(link, name, value)

        def recover() -> None:
            for link in links:
                link.recover()

        self._scene.later(rng.uniform(500.0, 8_000.0), recover)

    def _slow_link(self, fault: Occurrence) -> str:
        rng = fault.rng
        source, target = rng.sample(self._scene.cluster.present(), 2)
        mean_ms = rng.choice((5.0, 50.0, 400.0))
        self._degrade(rng, [(source, target)], delay_mean_ms=mean_ms)
        return f"n{source} → n{target}, {mean_ms} ms"

    def _slow_node(self, fault: Occurrence) -> str:
        rng = fault.rng
        slow = rng.choice(self._scene.cluster.present())
        mean_ms = rng.choice((5.0, 50.0, 400.0))
        self._degrade(rng, [pair for pair in self._scene.cluster.network.links if slow in pair], delay_mean_ms=mean_ms)
        return f"n{slow}, {mean_ms} ms"

    def _loss(self, fault: Occurrence) -> str:
        rng = fault.rng
        share = rng.choice((0.01, 0.1, 0.5))
        self._degrade(rng, list(self._scene.cluster.network.links), loss=share)
        return f"{share:.0%} of all frames"

    def _duplication(self, fault: Occurrence) -> str:
        rng = fault.rng
        share = rng.choice((0.02, 0.2))
        self._degrade(rng, list(self._scene.cluster.network.links), duplication=share)
        return f"{share:.0%} of all frames"

    def _reordering(self, fault: Occurrence) -> str:
        rng = fault.rng
        share = rng.choice((0.05, 0.5))
        self._degrade(rng, list(self._scene.cluster.network.links), reordering=share, delay_mean_ms=5.0)
        return f"{share:.0%} of all frames"
