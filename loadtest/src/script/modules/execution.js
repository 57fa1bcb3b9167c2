// `k6/execution`: where in the test the script is.

import { called } from 'pipemesh:turn';

const host = globalThis.__host;

/** Tags of everything that the virtual user measures from now on. */
const tags = new Proxy({}, {
  get: (_, name) => (typeof name === 'string' ? host.tag(name) ?? undefined : undefined),
  set: (_, name, value) => {
    if (!['string', 'number', 'boolean'].includes(typeof value)) {
      throw new TypeError(`the tag '${String(name)}' has to be a string, a number or a boolean`);
    }
    host.setTag(String(name), String(value));
    return true;
  },
  deleteProperty: (_, name) => {
    host.setTag(String(name), null);
    return true;
  },
  has: (_, name) => typeof host.tag(String(name)) === 'string',
  ownKeys: () => Object.keys(JSON.parse(host.tags())),
  getOwnPropertyDescriptor: (_, name) => ({ enumerable: true, configurable: true, value: host.tag(String(name)) }),
});

const metadata = {};

export const vu = {
  get idInInstance() { return host.execution('vu.idInInstance'); },
  get idInTest() { return host.execution('vu.idInTest'); },
  get iterationInInstance() { return host.execution('vu.iterationInInstance'); },
  get iterationInScenario() { return host.execution('vu.iterationInScenario'); },
  metrics: { tags, metadata },
  tags,
};

export const scenario = {
  get name() { return host.execution('scenario.name'); },
  get executor() { return host.execution('scenario.executor'); },
  get startTime() { return host.execution('scenario.startTime'); },
  get progress() { return host.execution('scenario.progress'); },
  get iterationInInstance() { return host.execution('scenario.iterationInInstance'); },
  get iterationInTest() { return host.execution('scenario.iterationInTest'); },
};

export const instance = {
  get currentTestRunDuration() { return host.execution('instance.currentTestRunDuration'); },
  get iterationsCompleted() { return host.execution('instance.iterationsCompleted'); },
  get iterationsInterrupted() { return host.execution('instance.iterationsInterrupted'); },
  get vusActive() { return host.execution('instance.vusActive'); },
  get vusInitialized() { return host.execution('instance.vusInitialized'); },
};

export const test = {
  get options() { return JSON.parse(host.options()); },
  /** Ends the test: teardown and summary still run. */
  abort(reason = '') {
    called('exec.test.abort()');
    host.abort(String(reason));
    // It is ended from outside at the next look; no `catch` holds that up.
    for (;;);
  },
  /** The test goes on, and fails when it is over. */
  fail(reason = '') {
    called('exec.test.fail()');
    host.failTest(String(reason));
  },
};

export default { vu, scenario, instance, test };
