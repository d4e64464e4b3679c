"""Later passes over a repeated source: the same samples under keys of their own, made when they are asked for."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from schemas.base import InputError
from schemas.sample import Sample, key_again


@dataclass(frozen=True)
class Passes(Mapping[str, Sample]):
    """Candidates by key. Of a later pass (`{key}-e{epoch}`) too, of which none is held."""

    samples: Mapping[str, Sample]
    """Those of the first pass."""

    def first(self, key: str) -> str:
        """The key that the sample of `key` has in the first pass."""
        return key if key in self.samples else key.rpartition("-e")[0]

    def __getitem__(self, key: str) -> Sample:
        if key in self.samples:
            return self.samples[key]
        first, _, epoch = key.rpartition("-e")
        return self.samples[first].again(int(epoch)) if epoch.isdecimal() else self.samples[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self.samples)

    def __len__(self) -> int:
        return len(self.samples)


def check_apart(samples: Mapping[str, Sample], epochs: Mapping[str, int]) -> None:
    """Raises InputError where a sample has the very key that another would have in a later pass.

    `epochs` is, by source, the number of the last pass.
    """
    for sample in samples.values():
        for epoch in range(1, epochs.get(sample.source, 0) + 1):
            if (taken := key_again(sample.key, epoch)) in samples:
                raise InputError(
                    f"mixture.repeats of {sample.source} would give {sample.key} the key {taken} in a later pass, "
                    f"but that is a sample of {samples[taken].source}: rename that one, or do not repeat this"
                )
