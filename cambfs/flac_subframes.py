"""Where a FLAC frame ends by what it holds: the length of its subframes. Its checksum does not show that.

It decodes no sample. Pure functions on bytes, no threads. The layout is that of RFC 9639, sections 9.1.4 and 9.2.
"""

from __future__ import annotations

_SAMPLE_BITS = {1: 8, 2: 12, 4: 16, 5: 20, 6: 24, 7: 32}
_LEFT_SIDE, _SIDE_RIGHT, _MID_SIDE = 8, 9, 10
_CRC_BYTES = 2
_CONSTANT, _VERBATIM, _FIXED, _PREDICTED = 0, 1, 8, 32
_MOST_FIXED = 4


def end_of(frame: bytes, header_end: int, samples: int, bits: int) -> int:
    """The length of the frame at the beginning of `frame`, with its CRC-16. `samples` is how many it has per channel,
    `bits` the size of each as STREAMINFO says. Raises ValueError unless all of a frame is there."""
    channels, bits = frame[3] >> 4, _SAMPLE_BITS.get(frame[3] >> 1 & 7, bits)
    if channels > _MID_SIDE:
        raise ValueError("reserved channels")
    reader = _Bits(frame, 8 * header_end)
    # A difference of two channels has one bit more.
    side = {_LEFT_SIDE: 1, _SIDE_RIGHT: 0, _MID_SIDE: 1}.get(channels)
    for channel in range(channels + 1 if side is None else 2):
        _pass_subframe(reader, samples, bits + (channel == side))
    return (reader.position + 7) // 8 + _CRC_BYTES


class _Bits:
    """As text, which Python searches for a bit faster than a loop does."""

    def __init__(self, data: bytes, position: int) -> None:
        self.position = position
        self._digits = bin(int.from_bytes(b"\1" + data, "big"))[3:]

    def take(self, count: int) -> int:
        """The number in the next bits. Raises ValueError behind the end."""
        self.position += count
        return int(self._digits[self.position - count : self.position], 2)

    def skip(self, count: int) -> None:
        self.position += count

    def pass_unary(self) -> int:
        """Passes zeros and the one behind them; returns how many bits that were."""
        start = self.position
        self.position = self._digits.index("1", start) + 1
        return self.position - start

    def pass_rice(self, count: int, low_bits: int) -> None:
        """Passes numbers of which each has a part in unary, and so many bits behind it."""
        index, position = self._digits.index, self.position
        for _ in range(count):
            position = index("1", position) + 1 + low_bits
        self.position = position


def _pass_subframe(reader: _Bits, samples: int, bits: int) -> None:
    kind = reader.take(7)
    if reader.take(1):
        bits -= reader.pass_unary()  # the lowest ones, which are 0 in all samples
        if bits < 1:
            raise ValueError("samples without bits")
    if kind == _CONSTANT:
        reader.skip(bits)
    elif kind == _VERBATIM:
        reader.skip(bits * samples)
    elif _FIXED <= kind <= _FIXED + _MOST_FIXED:
        _pass_prediction(reader, samples, bits, kind - _FIXED)
    elif _PREDICTED <= kind < 2 * _PREDICTED:
        order = kind - _PREDICTED + 1
        _pass_prediction(reader, samples, bits, order, is_fixed=False)
    else:
        raise ValueError("a reserved subframe")


def _pass_prediction(reader: _Bits, samples: int, bits: int, order: int, *, is_fixed: bool = True) -> None:
    """The first samples as they are, the coefficients, and how far the others are from what those predict."""
    reader.skip(order * bits)
    if not is_fixed:
        precision = reader.take(4) + 1
        reader.skip(5 + order * precision)
    if reader.take(1):
        raise ValueError("a reserved coding")
    parameter_bits = 4 + reader.take(1)
    partitions = 1 << reader.take(4)
    for number in range(partitions):
        count = samples // partitions - (order if number == 0 else 0)
        parameter = reader.take(parameter_bits)
        if parameter == (1 << parameter_bits) - 1:
            reader.skip(reader.take(5) * count)
        else:
            reader.pass_rice(count, parameter)
