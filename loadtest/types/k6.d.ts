// What scripts of pipemesh-loadtest find in the modules named after k6's, for editors.

declare module 'k6' {
  export type Tags = Record<string, string | number | boolean>;

  /** Whether all of the tests hold. */
  export function check<T>(value: T, tests: Record<string, boolean | ((value: T) => unknown)>, tags?: Tags): boolean;
  /** Answers what the function answers: a promise if it is async, to be awaited before anything else is done. */
  export function group<T>(name: string, inside: () => T): T;
  /** Seconds. To be awaited. */
  export function sleep(seconds: number): Promise<void>;
  export function fail(reason?: string): never;
  /** From then on `Math.random` draws the same numbers in every run. */
  export function randomSeed(seed: number): void;

  const k6: { check: typeof check; group: typeof group; sleep: typeof sleep; fail: typeof fail; randomSeed: typeof randomSeed };
  export default k6;
}

declare module 'k6/metrics' {
  import { Tags } from 'k6';

  export class Counter {
    constructor(name: string, isTime?: boolean);
    readonly name: string;
    add(value: number, tags?: Tags): void;
  }
  export class Gauge {
    constructor(name: string, isTime?: boolean);
    readonly name: string;
    add(value: number, tags?: Tags): void;
  }
  export class Rate {
    constructor(name: string);
    readonly name: string;
    /** Yes or no. */
    add(value: boolean | number, tags?: Tags): void;
    /** So many out of so many. */
    add(value: number, whole: number, tags?: Tags): void;
  }
  export class Trend {
    /** `isTime`: in milliseconds. */
    constructor(name: string, isTime?: boolean);
    readonly name: string;
    add(value: number, tags?: Tags): void;
  }

  const metrics: { Counter: typeof Counter; Gauge: typeof Gauge; Rate: typeof Rate; Trend: typeof Trend };
  export default metrics;
}

declare module 'k6/execution' {
  export const vu: {
    readonly idInInstance: number;
    readonly idInTest: number;
    readonly iterationInInstance: number;
    readonly iterationInScenario: number;
    /** Of everything that this virtual user measures from now on. */
    readonly tags: Record<string, string | number | boolean>;
    readonly metrics: {
      readonly tags: Record<string, string | number | boolean>;
      readonly metadata: Record<string, unknown>;
    };
  };
  export const scenario: {
    readonly name: string;
    readonly executor: string;
    /** Milliseconds since the Unix epoch. */
    readonly startTime: number;
    /** From 0 to 1. */
    readonly progress: number;
    readonly iterationInInstance: number;
    readonly iterationInTest: number;
  };
  export const instance: {
    /** Milliseconds. */
    readonly currentTestRunDuration: number;
    readonly iterationsCompleted: number;
    readonly iterationsInterrupted: number;
    readonly vusActive: number;
    readonly vusInitialized: number;
  };
  export const test: {
    readonly options: Record<string, any>;
    /** Ends the test; teardown and summary still run. */
    abort(reason?: string): never;
    /** The test goes on, and has failed when it is over. */
    fail(reason?: string): void;
  };

  const execution: { vu: typeof vu; scenario: typeof scenario; instance: typeof instance; test: typeof test };
  export default execution;
}

declare module 'k6/data' {
  /** Made once, shared by all virtual users, never changed. */
  export class SharedArray<T = any> extends Array<T> {
    constructor(name: string, make: () => T[]);
  }

  const data: { SharedArray: typeof SharedArray };
  export default data;
}

declare module 'k6/http' {
  import { Tags } from 'k6';

  export interface Params {
    headers?: Record<string, string | number>;
    /** Milliseconds, or text such as `10s`. */
    timeout?: number | string;
    tags?: Tags;
    /** How many are followed, 10 if not given; the answer to the last is the answer. */
    redirects?: number;
    /** What the body is: text if not given, an ArrayBuffer, or null. */
    responseType?: 'text' | 'binary' | 'none';
  }
  export type Body = string | ArrayBuffer | ArrayBufferView | Record<string, string | number | boolean> | null;
  export interface Response {
    /** 0 if there was no answer. */
    status: number;
    status_text: string;
    /** After redirections. */
    url: string;
    headers: Record<string, string>;
    /** An ArrayBuffer if the request's `responseType` was `binary`. */
    body: any;
    /** Empty if there was an answer. */
    error: string;
    error_code: number;
    /** Milliseconds. */
    timings: { duration: number; waiting: number; receiving: number };
    request: { method: string; url: string };
    /** A path such as `a.b.0` picks from it. */
    json(path?: string): any;
  }

  export function request(method: string, url: string, body?: Body, params?: Params): Response;
  /** Leaves the thread to other virtual users. */
  export function asyncRequest(method: string, url: string, body?: Body, params?: Params): Promise<Response>;
  export function get(url: string, params?: Params): Response;
  export function head(url: string, params?: Params): Response;
  export function post(url: string, body?: Body, params?: Params): Response;
  export function put(url: string, body?: Body, params?: Params): Response;
  export function patch(url: string, body?: Body, params?: Params): Response;
  export function del(url: string, body?: Body, params?: Params): Response;
  export function options(url: string, body?: Body, params?: Params): Response;

  const http: {
    request: typeof request; asyncRequest: typeof asyncRequest; get: typeof get; head: typeof head; post: typeof post;
    put: typeof put; patch: typeof patch; del: typeof del; options: typeof options;
  };
  export default http;
}

declare module 'k6/crypto' {
  export type Algorithm = 'sha1' | 'sha256' | 'sha384' | 'sha512' | 'sha512_256';
  export type Encoding = 'hex' | 'base64' | 'base64url' | 'base64rawurl' | 'binary';
  export type Bytes = string | ArrayBuffer | ArrayBufferView;
  export interface Hasher {
    update(value: Bytes): void;
    digest(encoding: Encoding): any;
  }

  export function createHash(algorithm: Algorithm): Hasher;
  export function createHMAC(algorithm: Algorithm, secret: Bytes): Hasher;
  export function hmac(algorithm: Algorithm, secret: Bytes, value: Bytes, encoding: Encoding): any;
  export function sha1(value: Bytes, encoding: Encoding): any;
  export function sha256(value: Bytes, encoding: Encoding): any;
  export function sha384(value: Bytes, encoding: Encoding): any;
  export function sha512(value: Bytes, encoding: Encoding): any;
  export function sha512_256(value: Bytes, encoding: Encoding): any;
  export function hexEncode(value: Bytes): string;
  export function randomBytes(length: number): ArrayBuffer;

  const crypto: {
    createHash: typeof createHash; createHMAC: typeof createHMAC; hmac: typeof hmac; sha1: typeof sha1; sha256: typeof sha256;
    sha384: typeof sha384; sha512: typeof sha512; sha512_256: typeof sha512_256; hexEncode: typeof hexEncode; randomBytes: typeof randomBytes;
  };
  export default crypto;
}

declare module 'k6/encoding' {
  export type Base64 = 'std' | 'rawstd' | 'url' | 'rawurl';

  export function b64encode(value: string | ArrayBuffer | ArrayBufferView, encoding?: Base64): string;
  /** Text with the format `s`. */
  export function b64decode(text: string, encoding: Base64, format: 's'): string;
  export function b64decode(text: string, encoding?: Base64, format?: ''): ArrayBuffer;

  const encoding: { b64encode: typeof b64encode; b64decode: typeof b64decode };
  export default encoding;
}

declare module 'k6/timers' {
  export function setTimeout(callback: (...values: any[]) => void, milliseconds?: number, ...values: any[]): number;
  export function setInterval(callback: (...values: any[]) => void, milliseconds?: number, ...values: any[]): number;
  export function clearTimeout(id: number): void;
  export function clearInterval(id: number): void;

  const timers: {
    setTimeout: typeof setTimeout; setInterval: typeof setInterval; clearTimeout: typeof clearTimeout; clearInterval: typeof clearInterval;
  };
  export default timers;
}

/** What `-e` and the environment say. */
declare const __ENV: Record<string, string | undefined>;
/** From 1; 0 in setup and teardown. */
declare const __VU: number;
/** From 0. */
declare const __ITER: number;
/** Works at the top of a script only. */
declare function open(path: string): string;
declare function open(path: string, mode: 'b'): ArrayBuffer;
