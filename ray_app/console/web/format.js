// Formats numbers, rates, percentages and times for display.

const WHOLE = new Intl.NumberFormat("en-US");
export const DASH = "–";
/** Holdout figures by importance, with their names for people, and whether less of them is better. */
export const FIGURES = [
  ["pr_auc", "PR-AUC"], ["auc", "AUC"], ["f1", "F1"],
  ["accuracy", "Accuracy"], ["macro_f1", "Macro F1"], ["log_loss", "Log loss", true],
  ["r2", "R²"], ["rmse", "RMSE", true], ["mae", "MAE", true],
];

/** A count with separators: 12,345. */
export function count(value) {
  return WHOLE.format(value);
}

/** A number with two to three significant digits. */
export function figure(value) {
  if (value === null || value === undefined) return DASH;
  if (value === 0) return "0";
  const size = Math.abs(value);
  return value.toFixed(size >= 100 ? 0 : size >= 10 ? 1 : size >= 0.995 ? 2 : 3);
}

/** A rate: 58.2, 0.40, 0. */
export function rate(value) {
  if (!value) return "0";
  return value >= 100 ? count(Math.round(value)) : value.toFixed(value >= 10 ? 1 : 2);
}

/** Milliseconds, without the unit. */
export function ms(value) {
  if (value === null || value === undefined) return DASH;
  return value >= 1000 ? count(Math.round(value)) : String(Number(value.toPrecision(3)));
}

/** A weight, given in percent: 5 %, 0.25 %. */
export function weight(value) {
  return `${Number(value.toFixed(2))} %`;
}

/** `part` of `whole` as a percentage. */
export function share(part, whole) {
  if (!whole) return DASH;
  const percent = (100 * part) / whole;
  return `${percent === 0 ? "0" : percent < 0.01 ? "< 0.01" : Number(percent.toPrecision(3))} %`;
}

/** A duration in its largest unit: 4 s, 3 min, 2 h, 5 d. */
export function duration(seconds) {
  if (seconds < 59.5) return `${Math.max(Math.round(seconds), 0)} s`;
  if (seconds < 3570) return `${Math.round(seconds / 60)} min`;
  return seconds < 129_600 ? `${Math.round(seconds / 3600)} h` : `${Math.round(seconds / 86_400)} d`;
}

/** A point in time, given in s since 1970: the time of day if it is today, else date and time. */
export function moment(at, now) {
  const date = new Date(at * 1000);
  const today = new Date(now * 1000).toDateString() === date.toDateString();
  const time = date.toLocaleTimeString("en-GB");
  return today ? time : `${date.toLocaleDateString("en-CA")} ${time.slice(0, 5)}`;
}

/** The day of an ISO 8601 time. */
export function day(iso) {
  return iso ? iso.slice(0, 10) : DASH;
}
