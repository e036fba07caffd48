const factors: Record<string, number> = {
  "": 1,
  k: 1e3,
  M: 1e6,
  G: 1e9,
  T: 1e12,
  Ki: 2 ** 10,
  Mi: 2 ** 20,
  Gi: 2 ** 30,
  Ti: 2 ** 40,
};

/** The number of bytes that a Kubernetes quantity means, if it is a whole positive number with an optional suffix such
 *  as Mi; undefined for every other text. */
export function parseBytes(quantity: string): number | undefined {
  const [, digits, suffix] = /^([1-9][0-9]{0,14})(Ki|Mi|Gi|Ti|k|M|G|T)?$/.exec(quantity) ?? [];
  return digits === undefined ? undefined : Number(digits) * factors[suffix ?? ""]!;
}
