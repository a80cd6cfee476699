// Numbers in IEEE half precision.

/** The bits of a positive normal number, rounded to the nearest. RangeError for what half precision cannot hold so. */
export function float16Bits(value) {
  const exponent = Math.floor(Math.log2(value));
  const bits = Math.round((value / 2 ** exponent - 1) * 1024) + (exponent + 15) * 1024;
  if (!(bits >= 0x0400 && bits < 0x7c00)) throw new RangeError(`${value} is no positive normal number of half precision`);
  return bits;
}
