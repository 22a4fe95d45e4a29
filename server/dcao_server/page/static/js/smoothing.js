// Exponential smoothing, corrected for its start as Adam's averages are (Kingma and Ba 2015, section 3).

/** Values smoothed by a weight in [0, 1); 0 leaves them as they are, and what is absent stays absent. */
export function smoothed(values, weight) {
  if (!(weight > 0)) return values;
  let average = 0;
  let seen = 0;
  return values.map((value) => {
    if (value === null || value === undefined) return null;
    average = weight * average + (1 - weight) * value;
    seen += 1;
    return average / (1 - weight ** seen);
  });
}
