// Median and quartiles of curves at common values of x.
const POINTS = 80;

// Points of a line that a logarithmic axis can show. A bound of 0 or less says nothing.
function positive(line) {
  const at = line.y.map((_, k) => k).filter((k) => line.y[k] > 0), pick = (values) => values && at.map((k) => values[k]);
  return { ...line, x: pick(line.x), y: pick(line.y), low: pick(line.low), high: pick(line.high), unplaced: line.y.length - at.length };
}

// Median and quartiles at values of x that all runs reach; against the loss, at the first row of each run below it.
function band(curves, axis) {
  const falling = axis === "loss" ? -1 : 1;
  const sound = curves.map((curve) => monotone(curve, falling)).filter((curve) => curve.x.length);
  if (!sound.length || sound.length < curves.length) return sound.length ? band(sound, axis) : null;
  if (curves.length === 1) return curves[0];
  const first = Math.max(...sound.map((curve) => curve.x[0])), last = Math.min(...sound.map((curve) => curve.x.at(-1)));
  if (first > last) return null;
  const xs = Array.from({ length: POINTS }, (_, k) => first + ((last - first) * k) / (POINTS - 1));
  const at = xs.map((x) => sound.map((curve) => between(curve, x)));
  const [low, y, high] = [0.25, 0.5, 0.75].map((share) => at.map((values) => quantile(values, share)));
  return { x: xs.map((x) => Math.exp(falling * x)), y, low, high };
}

// Logarithms of x with the sign that makes them increase; rows that do not increase are dropped, as is an x of 0.
function monotone(curve, sign) {
  const made = { x: [], y: [] };
  let last = -Infinity;
  curve.x.forEach((value, k) => {
    const x = sign * Math.log(value);
    if (Number.isFinite(x) && x > last) { made.x.push(x); made.y.push(curve.y[k]); last = x; }
  });
  return made;
}

function between(curve, x) {
  const upper = curve.x.findIndex((value) => value >= x - 1e-9);
  if (upper <= 0) return curve.y[Math.max(upper, 0)];
  const [a, b] = [curve.x[upper - 1], curve.x[upper]];
  return curve.y[upper - 1] + ((curve.y[upper] - curve.y[upper - 1]) * (x - a)) / (b - a);
}
