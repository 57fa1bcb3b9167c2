// `k6/metrics`: metrics of one's own.

import { called } from 'pipemesh:turn';

const host = globalThis.__host;

class Metric {
  #id;

  constructor(kind, name, isTime) {
    this.name = String(name);
    this.#id = host.define(this.name, kind, Boolean(isTime));
  }

  _add(value, weight, tags) {
    called(`${this.constructor.name}.add()`);
    const number = Number(value);
    if (Number.isNaN(number)) {
      throw new TypeError(`'${value}' is no number, and cannot be added to the metric '${this.name}'`);
    }
    host.add(this.#id, number, weight, tags ?? null);
  }
}

export class Counter extends Metric {
  constructor(name, isTime = false) {
    super('counter', name, isTime);
  }
  add(value, tags) {
    this._add(value, 1, tags);
  }
}

export class Gauge extends Metric {
  constructor(name, isTime = false) {
    super('gauge', name, isTime);
  }
  add(value, tags) {
    this._add(value, 1, tags);
  }
}

export class Rate extends Metric {
  constructor(name) {
    super('rate', name, false);
  }
  /** `add(true)`, or `add(12, 1000)`: so many out of so many. */
  add(value, whole, tags) {
    if (typeof whole === 'number') this._add(value, whole, tags);
    else this._add(value ? 1 : 0, 1, whole);
  }
}

export class Trend extends Metric {
  /** `isTime`: in milliseconds. */
  constructor(name, isTime = false) {
    super('trend', name, isTime);
  }
  add(value, tags) {
    this._add(value, 1, tags);
  }
}

export default { Counter, Gauge, Rate, Trend };
