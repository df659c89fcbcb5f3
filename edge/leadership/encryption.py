"""What a member encrypts with: the operator's checked keys, their combs, and the pool of randomisers. A shell."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path

from edge.leadership.member_shell import Standing
from edge.leadership.pool import RandomiserPool
from edge.leadership.settings import AggregationSection
from protocols.aggregation.calls import checked_key, group_of
from protocols.aggregation.member import Randomiser
from protocols.aggregation.paillier import Encryptor, PublicKey, exponent_from_seed
from protocols.messages import EpochNotice, KeyCard

ENCRYPTORS_KEPT = 2


class Encryption:
    """See the module. `comb` is (teeth, tables); `entropy(count)` gives random bytes."""

    def __init__(
        self,
        settings: AggregationSection,
        folder: Path,
        runtime_folder: Path,
        *,
        durable: bool,
        entropy: Callable[[int], bytes],
        comb: tuple[int, int],
    ) -> None:
        self._settings = settings
        self._folder, self._runtime_folder = folder, runtime_folder
        self._durable = durable
        self._entropy = entropy
        self._comb = comb
        self._encryptors: dict[str, Encryptor] = {}
        self._pool: RandomiserPool | None = None

    def standing(self, notice: EpochNotice, card: KeyCard) -> Standing:
        """What rounds are held under; raises `KeyRefused` or `ValuesRefused` for a key that does not pass its checks."""
        key, layout = checked_key(card, min_bits=self._settings.min_key_bits)
        encryptor = self._encryptors.get(key.key_id)
        if encryptor is None:
            encryptor = self._encryptors[key.key_id] = _encryptor(key, *self._comb)
            while len(self._encryptors) > ENCRYPTORS_KEPT:
                del self._encryptors[next(iter(self._encryptors))]
            self.close()
            self._pool = RandomiserPool(
                self._folder,
                self._runtime_folder,
                encryptor,
                target=self._settings.pool_entries,
                entropy=self._entropy,
                durable=self._durable,
            )
        group = group_of(notice, key, layout, members_min=self._settings.members_min)
        return Standing(notice.epoch, group, encryptor, card.expires_s, notice.settlement)

    def randomisers(self, standing: Standing) -> Sequence[Randomiser]:
        """For one report: from the pool where it is for this key, else computed now."""
        encryptor, count = standing.encryptor, standing.group.ciphertexts
        if self._pool is not None and self._pool.key_id == encryptor.key.key_id:
            return self._pool.take(count)
        seeds = [self._entropy(32) for _ in range(count)]
        return [Randomiser(seed, encryptor.randomiser(exponent_from_seed(encryptor.key, seed))) for seed in seeds]

    def fill(self) -> None:
        """Use a moment of idle time."""
        if self._pool is not None:
            self._pool.fill()

    def close(self) -> None:
        """Let another process have the pool."""
        if self._pool is not None:
            self._pool.close()


@lru_cache(maxsize=4)
def _encryptor(key: PublicKey, teeth: int, tables: int) -> Encryptor:
    """The table of a comb is public and the same for all members: those of one process share it."""
    return Encryptor(key, teeth=teeth, tables=tables)
