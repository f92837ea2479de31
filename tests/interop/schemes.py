#!/usr/bin/env python3
"""Test vectors for quantization, as C table text on standard output. What a scheme gives is
taken from torch (integers) and torchao (MXFP4); scales follow from the rules of the numeric
contract, which are written out here in numpy and must agree with the peer on every row but
those that the table of MXFP4 rows excuses."""
import re
import sys

import numpy as np
import torch
from torchao.prototype.mx_formats.config import ScaleCalculationMode
from torchao.prototype.mx_formats.mx_tensor import to_mx
from torchao.prototype.mx_formats.kernels import unpack_uint4

F = np.float32
TINY = F(2.0 ** -100)
N = 8
BLOCK = 32

INTEGER_TYPE = """typedef struct {
\tint rule;\t\t/* QAT_SCALE_*; 0: scale and zero are given, not taken from x */
\tint bits, qmin, qmax;
\tdouble divisor;
\tint format;\t\t/* of the scale */
\tfloat scale;
\tint zero;
\tfloat x[8];
\tint codes[8];
\tfloat back[8];\t\t/* compare with ==: the sign of a zero is not said */
\tint dx[8];\t\t/* gradient of x where 1 comes in */
} integer_row;
"""
MX_TYPE = """typedef struct {
\tint byte;\t\t/* of the scale */
\tconst char *codes;\t/* a hex digit each */
} mx_codes;

typedef struct {
\tconst char *name;
\tfloat x[32];
\tmx_codes floor, ceil, even;
} mx_row;
"""

FORMATS = {"f32": torch.float32, "bf16": torch.bfloat16, "f16": torch.float16}


def stored(scale, form):
    return F(torch.tensor(scale).to(FORMATS[form]).float().item())


# -- integer grids ---------------------------------------------------------------------

def usable(scale, x):
    """A block of zeros, or too small for 1/s, or whose scale is stored as 0, has s = 1."""
    return scale if np.abs(x).max() >= TINY and scale != 0 else F(1)


def symmetric(x, divisor, form):
    return usable(stored(np.abs(x).max() / F(divisor), form), x), 0


def signed(x, divisor, form):
    return usable(stored(x[np.abs(x).argmax()] / F(divisor), form), x), 0


def asymmetric(x, qmin, qmax, form):
    lo, hi = min(x.min(), F(0)), max(x.max(), F(0))
    scale = usable(stored((hi - lo) / F(qmax - qmin), form), x)
    return scale, int(np.clip(qmin - np.rint(lo / scale), qmin, qmax))


def by_rule(x, scale, zero, qmin, qmax):
    """(codes, what they stand for, gradient of x for an incoming 1)"""
    free = np.rint(x * (F(1) / scale)) + F(zero)
    codes = np.clip(free, qmin, qmax)
    return codes, scale * (codes - F(zero)), (free >= qmin) & (free <= qmax)


def by_torch(x, scale, zero, qmin, qmax):
    leaf = torch.tensor(x)[None].requires_grad_()
    out = torch.fake_quantize_per_channel_affine(
        leaf, torch.tensor([scale]), torch.tensor([zero], dtype=torch.int32), 0, qmin, qmax)
    out.sum().backward()
    return out.detach()[0].numpy(), leaf.grad[0].numpy() != 0


def same(a, b):
    """Bit for bit, but that -0 and 0 are one: a code has no -0."""
    return np.array_equal(a + F(0), b + F(0))


def ties(scale, zero, qmin, qmax):
    """Halves at both ends of the grid and around zero, and what lies outside."""
    at = [qmin - zero - 0.5, qmin - zero - 0.75, qmax - zero + 0.5, qmax - zero + 0.25,
          0.5, -0.5, 1.5, 8 * (qmax - qmin)]
    return (F(scale) * np.array(at, dtype=F)).astype(F)


def integer_rows():
    """(rule, bits, qmin, qmax, divisor, format, x, scale, zero)"""
    random = np.random.default_rng(1)
    for bits in range(2, 9):
        top = 2 ** (bits - 1) - 1
        x = random.standard_normal(N).astype(F)
        yield "ABSMAX", bits, -top, top, top, "f32", x, *symmetric(x, top, "f32")
        yield "ABSMAX", bits, -top - 1, top, top + 0.5, "f32", x, *symmetric(x, top + 0.5, "f32")
        x = (x + F(0.5)).astype(F)
        yield "MINMAX", bits, -top - 1, top, 0, "f32", x, *asymmetric(x, -top - 1, top, "f32")
        zero = (-1) ** bits * (top // 2)
        x = ties(0.25, zero, -top - 1, top)
        yield "STATIC", bits, -top - 1, top, 0, "f32", x, F(0.25), zero
    yield from odd_rows(random)


def odd_rows(random):
    x = random.standard_normal(N).astype(F)
    for form in ("bf16", "f16"):
        yield "ABSMAX", 4, -7, 7, 7, form, x, *symmetric(x, 7, form)
        yield "MINMAX", 4, -8, 7, 0, form, x, *asymmetric(x, -8, 7, form)
    yield "SIGNED", 4, -8, 7, -8, "f16", x, *signed(x, -8, "f16")
    # the first of two equal magnitudes gives the sign
    twice = np.array([1, -3, 3, 0.75, -0.1875, 0.1875, 2.8125, -2.8125], dtype=F)
    yield "SIGNED", 4, -8, 7, -8, "f32", twice, *signed(twice, -8, "f32")
    zeros = np.zeros(N, dtype=F)
    yield "ABSMAX", 4, -7, 7, 7, "f32", zeros, *symmetric(zeros, 7, "f32")
    yield "MINMAX", 4, -8, 7, 0, "f32", zeros, *asymmetric(zeros, -8, 7, "f32")
    # just below, and at, the magnitude from which a scale is taken
    yield "ABSMAX", 8, -127, 127, 127, "f32", *edge(x, np.nextafter(TINY, F(0)), 127, "f32")
    yield "ABSMAX", 8, -127, 127, 127, "f32", *edge(x, TINY, 127, "f32")
    # a scale that F16 stores as 0
    yield "ABSMAX", 4, -7, 7, 7, "f16", *edge(x, F(2.0 ** -24), 7, "f16")
    for sign in (1, -1):                # all on one side: the grid reaches to 0 all the same
        side = (sign * (np.abs(x) + 1)).astype(F)
        yield "MINMAX", 8, -128, 127, 0, "f32", side, *asymmetric(side, -128, 127, "f32")


def edge(x, amax, divisor, form):
    x = (x / np.abs(x).max() * amax).astype(F)
    x = np.where(np.abs(x) == np.abs(x).max(), np.copysign(amax, x), x).astype(F)
    return x, *symmetric(x, divisor, form)


def numbers(values, form, close="},"):
    """Lines of a C initialiser, at most 100 columns with tabs of 8."""
    lines, line = [], "\t  {"
    for i, value in enumerate(values):
        item = form(value) + (", " if i + 1 < len(values) else close)
        if len(line) + len(item) > 80:
            lines.append(line.rstrip())
            line = "\t   "
        line += item
    return "\n".join(lines + [line.rstrip()])


def c_float(value):
    if value == int(value) and abs(value) < 1e6:
        return str(int(value))
    return re.sub(r"\.?0+p", "p", float(value).hex())


def print_integers():
    print(INTEGER_TYPE)
    print("static const integer_row integer_rows[] = {")
    count = 0
    for rule, bits, qmin, qmax, divisor, form, x, scale, zero in integer_rows():
        codes, back, inside = by_rule(x, scale, zero, qmin, qmax)
        peer, peer_inside = by_torch(x, scale, zero, qmin, qmax)
        if not same(back, peer) or not np.array_equal(inside, peer_inside):
            sys.exit(f"{rule} {bits} {form}: torch gives {peer} {peer_inside}, "
                     f"the rule {back} {inside}")
        name = "0" if rule == "STATIC" else "QAT_SCALE_" + rule
        print(f"\t{{ {name}, {bits}, {qmin}, {qmax}, {divisor}, QAT_{form.upper()}, "
              f"{c_float(scale)}, {zero},")
        print(numbers(x, c_float))
        print(numbers(codes.astype(int), str))
        print(numbers(back, c_float))
        print(numbers(inside.astype(int), str, close="} },"))
        count += 1
    print("};")
    return count


# -- MXFP4 -----------------------------------------------------------------------------

E2M1 = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6])
MODES = {"FLOOR": ScaleCalculationMode.FLOOR, "CEIL": ScaleCalculationMode.RCEIL,
         "EVEN": ScaleCalculationMode.EVEN}


def exponent(amax, rule):
    """e of the block's scale, from the bits of amax."""
    bits = int(F(amax).view(np.int32))
    if bits >> 23 == 0:
        return -127
    if rule == "EVEN":
        bits += 1 << 21
    e = (bits >> 23) - 127 - 2
    if rule == "CEIL" and bits & 0x7fffff > 0x400000:    # above 1.5 * 2^n, so above 6 * 2^e
        e += 1
    return max(-127, min(127, e))


def e2m1(y):
    """Nearest of the grid, ties to the even code, saturating; the sign is bit 3."""
    distance = np.abs(E2M1 - abs(y))
    near = np.flatnonzero(distance == distance.min())
    code = near[0] if near[0] % 2 == 0 or len(near) == 1 else near[1]
    return int(code) | (8 if np.signbit(y) else 0)


def mx_by_rule(x, rule):
    x = np.where(np.abs(x) < F(2.0 ** -126), np.copysign(F(0), x), x)
    e = exponent(np.abs(x).max(), rule)
    return e + 127, [e2m1(float(v) * 2.0 ** -e) for v in x]


def mx_by_torchao(x, rule):
    scale, data = to_mx(torch.tensor(x)[None], torch.float4_e2m1fn_x2, BLOCK, MODES[rule])
    return int(scale.view(torch.uint8)), unpack_uint4(data.view(torch.uint8))[0].tolist()


def mx_block(head, scale=1.0):
    """The values, and their negatives; the rest of the block is 0."""
    values = np.array(head, dtype=F)
    return np.concatenate([np.concatenate([values, -values]) * F(scale),
                           np.zeros(BLOCK - 2 * len(values))]).astype(F)


def above(value):
    return float(np.nextafter(F(value), F(np.inf)))


def below(value):
    return float(np.nextafter(F(value), F(0)))


def mx_rows():
    """(name, x, the rules by which torchao breaks the contract)"""
    tie = [6, .25, .75, 1.25, 1.75, 2.5, 3.5, 5]
    odd = [6, above(.25), below(.75), above(1.25), below(1.75), above(2.5), below(3.5), above(5)]
    rest = [2, 1, .5, .1, 3.1]
    large = [float(np.finfo(F).max), 2.0 ** 127, 2.0 ** 125, 2.0 ** 124]
    random = np.random.default_rng(2)
    return (
        ("ties", mx_block(tie), ()),
        ("beside ties", mx_block(odd), ()),
        ("ties, small", mx_block(tie, 2.0 ** -110), ()),
        ("zeros", mx_block([]), ()),
        ("power of two", mx_block([4] + rest), ()),
        ("largest + 1 ulp", mx_block([above(6)] + rest), ()),
        ("below 1.75 * 2^n", mx_block([below(7)] + rest), ()),
        ("1.75 * 2^n", mx_block([7] + rest), ()),
        ("saturates", mx_block([below(8), 6.5, 5.5] + rest), ()),
        ("smallest scale", mx_block([1, .75, .5, .3], 2.0 ** -124), ()),
        ("largest numbers", mx_block(large), ()),
        ("random", random.standard_normal(BLOCK).astype(F) * F(3), ()),
        # from here: log2 in float32; 2^127 as the inverse of byte 0; subnormals
        ("largest + 1 ulp, large", mx_block([above(6)] + rest, 2.0 ** 100), ("CEIL",)),
        ("byte 0", mx_block([4, 3, 2], 2.0 ** -127), tuple(MODES)),
        ("subnormals", mx_block([1, .25, .2, .125], 2.0 ** -124), tuple(MODES)),
    )


def print_mx():
    print(MX_TYPE)
    print("static const mx_row mx_rows[] = {")
    for name, x, excused in mx_rows():
        print(f'\t{{ "{name}",')
        print(numbers(np.trim_zeros(x, "b") if x.any() else x[:1], c_float))
        for rule in MODES:
            byte, codes = mx_by_rule(x, rule)
            if ((byte, codes) == mx_by_torchao(x, rule)) == (rule in excused):
                sys.exit(f"{name}, {rule}: torchao gives {mx_by_torchao(x, rule)}, "
                         f"the rule {(byte, codes)}")
            close = " }," if rule == "EVEN" else ","
            close += "\t/* by the rule; torchao differs */" if rule in excused else ""
            print(f'\t  {{ {byte}, "{"".join(f"{c:x}" for c in codes)}" }}{close}')
    print("};")
    return len(mx_rows())


def main():
    print("/* Made by tests/interop/schemes.py with torch and torchao; not edited by hand. */")
    rows = print_integers()
    print()
    rows += print_mx()
    print(f"{rows} rows", file=sys.stderr)


if __name__ == "__main__":
    main()
