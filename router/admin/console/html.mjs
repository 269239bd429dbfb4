// Templates without a build step: htm reads them, preact draws them. All values are text to it, never markup.

import htm from "./vendor/htm.mjs";
import { h } from "./vendor/preact.mjs";

export { Component, render } from "./vendor/preact.mjs";

export const html = htm.bind(h);
