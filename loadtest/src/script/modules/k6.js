// `k6`: checks, groups, sleeping.

import { called, toAwait, whereabouts } from 'pipemesh:turn';

const host = globalThis.__host;

export function check(value, tests, tags = null) {
  called('check()');
  let passed = true;
  for (const [name, test] of Object.entries(tests)) {
    let result;
    try {
      result = typeof test === 'function' ? test(value) : test;
    } catch (error) {
      host.check(name, false, tags);
      throw error;
    }
    if (typeof result?.then === 'function') {
      throw new TypeError(`the check '${name}' answers a promise: await the value first, then check it`);
    }
    host.check(name, Boolean(result), tags);
    passed = passed && Boolean(result);
  }
  return passed;
}

/**
 * Takes an async function as well, and then answers a promise, which is to be awaited before anything
 * else is done: a virtual user is in one group at a time, whichever of its functions goes on.
 */
export function group(name, inside) {
  called('group()');
  const outside = host.enterGroup(String(name));
  const began = performance.now();
  const leave = () => host.leaveGroup(outside, performance.now() - began);
  let result;
  try {
    result = inside();
  } catch (error) {
    leave();
    throw error;
  }
  if (typeof result?.then !== 'function') {
    leave();
    return result;
  }
  toAwait('group', whereabouts());
  return Promise.resolve(result).finally(leave);
}

/** Seconds. What it answers is to be awaited. */
export function sleep(seconds) {
  called('sleep()');
  const milliseconds = Number(seconds) * 1000;
  if (!(milliseconds >= 0)) throw new TypeError(`sleep() takes seconds, not ${seconds}`);
  const over = host.sleep(milliseconds);
  toAwait('sleep', whereabouts());
  return {
    then: (resolved, rejected) => over.then(resolved, rejected),
    catch: (rejected) => over.catch(rejected),
    finally: (settled) => over.finally(settled),
  };
}

export function fail(reason = '') {
  called('fail()');
  throw new Error(String(reason));
}

/** From then on `Math.random` draws the same numbers in every run. */
export function randomSeed(seed) {
  let state = Number(seed) >>> 0;
  Math.random = () => {
    state = (state + 0x9e3779b9) >>> 0;
    let mixed = state;
    mixed = Math.imul(mixed ^ (mixed >>> 16), 0x21f0aaad);
    mixed = Math.imul(mixed ^ (mixed >>> 15), 0x735a2d97);
    return ((mixed ^ (mixed >>> 15)) >>> 0) / 2 ** 32;
  };
}

export default { check, group, sleep, fail, randomSeed };
