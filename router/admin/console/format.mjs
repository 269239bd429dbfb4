// Numbers and times as people read them. What is not known is a dash.

export const NONE = "–";

export function number(value) {
  if (value === null || value === undefined) return NONE;
  const size = Math.abs(value);
  if (size >= 1e6) return `${(value / 1e6).toFixed(size >= 1e7 ? 0 : 1)}M`;
  if (size >= 1e4) return `${(value / 1e3).toFixed(size >= 1e5 ? 0 : 1)}k`;
  if (size >= 100 || Number.isInteger(value)) return Math.round(value).toLocaleString("en-GB");
  return value.toFixed(size >= 10 ? 1 : 2);
}

export const rate = (value) => (value && value < 100 ? value.toFixed(value < 0.1 ? 2 : 1) : number(Math.round(value)));

export function ms(value) {
  if (value === null || value === undefined) return NONE;
  if (value >= 60_000) return seconds(value / 1000);
  if (value >= 1000) return `${(value / 1000).toFixed(value >= 10_000 ? 0 : 1)} s`;
  return `${value.toFixed(value >= 10 ? 0 : 1)} ms`;
}

export function seconds(value) {
  if (value < 60) return `${value.toFixed(value < 10 ? 1 : 0)} s`;
  if (value < 3600) return `${Math.floor(value / 60)} min ${Math.round(value % 60)} s`;
  return `${Math.floor(value / 3600)} h ${Math.floor((value % 3600) / 60)} min`;
}

export function usd(value) {
  if (!value) return "$0";
  return `$${value >= 100 ? number(Math.round(value)) : value.toFixed(value >= 1 ? 2 : 4)}`;
}

export function bytes(value) {
  const [size, unit] = value >= 2 ** 30 ? [2 ** 30, "GiB"] : value >= 2 ** 20 ? [2 ** 20, "MiB"] : [2 ** 10, "KiB"];
  return `${(value / size).toFixed(1)} ${unit}`;
}

export const share = (value) => `${Math.round(value * 100)} %`;

export const words = (text) => text.replaceAll("_", " ");

const CLOCK = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", second: "2-digit" });

export const clock = (wall_s) => CLOCK.format(wall_s * 1000);

export const moment = (wall_s) => new Date(wall_s * 1000).toISOString().replace("T", " ").replace("Z", " UTC");

export const sum = (rates) => Object.values(rates).reduce((total, each) => total + each, 0);
