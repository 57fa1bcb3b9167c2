// `k6/data`: data that all virtual users share, made once.

const host = globalThis.__host;

export class SharedArray {
  constructor(name, make) {
    if (!name) throw new TypeError('a SharedArray needs a name');
    if (typeof make !== 'function') throw new TypeError(`the SharedArray '${name}' needs a function that makes it`);
    const id = host.sharedArray(String(name), () => {
      const made = make();
      if (!Array.isArray(made)) throw new TypeError(`the function of the SharedArray '${name}' has to answer an array`);
      return made.map((element) => JSON.stringify(element) ?? 'null');
    });
    const length = host.sharedLength(id);
    const at = (index) => JSON.parse(host.sharedElement(id, index));
    const refuse = () => {
      throw new TypeError('a SharedArray cannot be changed');
    };
    return new Proxy([], {
      get(target, name) {
        if (name === 'length') return length;
        if (typeof name === 'string' && /^\d+$/.test(name)) return Number(name) < length ? at(Number(name)) : undefined;
        return target[name];
      },
      has: (target, name) => (typeof name === 'string' && /^\d+$/.test(name) ? Number(name) < length : name in target),
      set: refuse,
      defineProperty: refuse,
      deleteProperty: refuse,
    });
  }
}

export default { SharedArray };
