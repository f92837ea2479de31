#!/usr/bin/env python3
"""Figures for float schemes, as a C header on standard output: FNV-1a hashes of what torch's
float8 types and torchao's MX and NVFP4 codes give for numbers that are made of integers
alone (float_numbers.h makes the same ones)."""
import sys

import numpy as np
import torch
import torchao.prototype.mx_formats.nvfp4_tensor as nvfp4
from torchao.prototype.custom_fp_utils import _f32_to_floatx_unpacked, _floatx_unpacked_to_f32
from torchao.prototype.mx_formats.config import ScaleCalculationMode
from torchao.prototype.mx_formats.kernels import unpack_uint4
from torchao.prototype.mx_formats.mx_tensor import to_mx

F = np.float32
ELEMENTS = (("E2M3", 2, 3, 7.5, "fp6_e2m3"), ("E3M2", 3, 2, 28, "fp6_e3m2"),
            ("E4M3", 4, 3, 448, torch.float8_e4m3fn), ("E5M2", 5, 2, 57344, torch.float8_e5m2))
RULES = (ScaleCalculationMode.FLOOR, ScaleCalculationMode.RCEIL, ScaleCalculationMode.EVEN)
BLOCKS, ROWS, COLS = 256, 16, 64


def fnv(data):
    h = 14695981039346656037
    for byte in data.tobytes():
        h = (h ^ byte) * 1099511628211 % 2 ** 64
    return h


def words(n):
    return (np.arange(n, dtype=np.uint64) * 2654435761 + 12345) % 2 ** 32


def numbers(n, per):
    """n of many magnitudes; `per` follow each other with one range."""
    w = words(n).astype(np.int64)
    base = ((w >> 8) - 2 ** 23).astype(np.float64) * 2.0 ** -23
    shift = (np.arange(n) // per % 40 - 20) - (w & 7)
    return np.ldexp(base, shift).astype(F)


def patterns():
    """Every finite bf16, and finite words as f32."""
    bits = np.concatenate([np.arange(65536, dtype=np.uint64) << 16, words(65536)])
    x = bits.astype(np.uint32).view(F)
    return x[np.isfinite(x)]


def codes(x, ebits, mbits, largest, kind):
    x = torch.tensor(x)
    if isinstance(kind, str):
        return _f32_to_floatx_unpacked(x, ebits, mbits).numpy()
    return x.clamp(-largest, largest).to(kind).view(torch.uint8).numpy()


def values(ebits, mbits, kind):
    """Of all codes that are finite numbers, as f32."""
    all_codes = torch.arange(1 << (1 + ebits + mbits), dtype=torch.int32).to(torch.uint8)
    if isinstance(kind, str):
        return _floatx_unpacked_to_f32(all_codes, ebits, mbits).numpy()
    x = all_codes.view(kind).float().numpy()
    return x[np.isfinite(x)]


def mx(rule, kind):
    """Bytes of scales, then codes."""
    x = torch.tensor(numbers(BLOCKS * 32, 32).reshape(BLOCKS, 32))
    scale, data = to_mx(x, kind, 32, rule)
    return np.concatenate([scale.view(torch.uint8).numpy().ravel(),
                           data.view(torch.uint8).numpy().ravel()])


def e2m1(y):
    return _f32_to_floatx_unpacked(torch.tensor(y), 2, 1).numpy()


def two_level():
    """Bytes of scales, then codes: by the rule, which must be torchao's but for its
    smallest scale, 2^-6, and for its reciprocal of the scale, which changes few codes."""
    x = numbers(ROWS * COLS, COLS).reshape(ROWS, COLS)
    x = np.ldexp(x, -(np.arange(ROWS) // 2)[:, None]).astype(F)
    second = np.abs(x).max() / F(2688)
    b = np.abs(x.reshape(ROWS, -1, 16)).max(2) / F(6) / second
    b = torch.tensor(np.clip(b, F(2 ** -9), F(448))).to(torch.float8_e4m3fn)
    scale = np.repeat(b.float().numpy() * second, 16, axis=1)
    mine = e2m1((x / scale).astype(F))
    nvfp4.E4M3_EPS = 2.0 ** -9
    theirs_b, theirs = nvfp4.nvfp4_quantize(torch.tensor(x), 16, torch.tensor(second))
    other = np.count_nonzero(unpack_uint4(theirs).numpy().reshape(ROWS, COLS) != mine)
    bytes_ = b.view(torch.uint8).numpy()
    if not np.array_equal(theirs_b.view(torch.uint8).numpy().reshape(bytes_.shape), bytes_):
        sys.exit("torchao gives other scales of blocks")
    if other > mine.size // 100:
        sys.exit(f"torchao gives {other} other codes of {mine.size}")
    print(f"two levels: {other} of {mine.size} codes are others in torchao", file=sys.stderr)
    return np.concatenate([bytes_.ravel(), mine.ravel()]), len(set(bytes_.ravel().tolist()))


def main():
    print("/* Made by tests/interop/floats.py with torch and torchao; not edited by hand. */")
    print("enum { MX_BLOCKS = %d, TWO_ROWS = %d, TWO_COLS = %d };" % (BLOCKS, ROWS, COLS))
    print("\nstatic const struct {\n\tconst char *name;\n\tint ebits, mbits;\n"
          "\tuint64_t values, codes, mx[3];\t/* mx: floor, ceil, even */\n} float_hashes[] = {")
    x = patterns()
    for name, ebits, mbits, largest, kind in ELEMENTS:
        print(f'\t{{ "{name}", {ebits}, {mbits}, {fnv(values(ebits, mbits, kind)):#x}u,')
        print(f"\t  {fnv(codes(x, ebits, mbits, largest, kind)):#x}u,")
        print("\t  { " + ", ".join(f"{fnv(mx(r, kind)):#x}u" for r in RULES) + " } },")
    print("};\n")
    both, different = two_level()
    print(f"static const uint64_t two_level_hash = {fnv(both):#x}u;"
          f"\t/* {different} scales differ */")


if __name__ == "__main__":
    main()
