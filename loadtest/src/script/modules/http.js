// `k6/http`: what it takes to talk to an application's own server. Requests block, as in k6;
// `asyncRequest` does not, and leaves the thread to other virtual users.

import { bytesOf } from 'pipemesh:bytes';
import { asked, called } from 'pipemesh:turn';

const host = globalThis.__host;

class Response {
  /** `told`: JSON, and a body that is no text beside it. */
  constructor(told) {
    const [json, binary] = [told].flat();
    Object.assign(this, JSON.parse(json));
    if (binary !== undefined) this.body = binary;
  }

  /** The body as JSON; a path such as `a.b.0` picks from it. */
  json(path) {
    if (typeof this.body !== 'string') throw new TypeError("json() needs a body that is text: leave responseType away");
    const whole = JSON.parse(this.body);
    if (path === undefined) return whole;
    return String(path).split('.').reduce((value, name) => value?.[name], whole);
  }
}

const prepared = (method, url, body, params = {}) => {
  const headers = { ...(params?.headers ?? {}) };
  const says = (name) => Object.keys(headers).some((it) => it.toLowerCase() === name);
  let sent = body ?? null;
  if (sent instanceof ArrayBuffer || ArrayBuffer.isView(sent)) sent = bytesOf(sent);
  else if (sent !== null && typeof sent === 'object') {
    sent = Object.entries(sent).map((pair) => pair.map(encodeURIComponent).join('=')).join('&');
    if (!says('content-type')) headers['Content-Type'] = 'application/x-www-form-urlencoded';
  } else if (sent !== null) sent = String(sent);
  return [String(method).toUpperCase(), String(url), sent, JSON.stringify({
    headers,
    timeout: params?.timeout ?? null,
    redirects: params?.redirects ?? null,
    responseType: params?.responseType ?? null,
  }), params?.tags ?? null];
};

export function request(method, url, body = null, params = {}) {
  called('http.request()');
  return new Response(host.http(...prepared(method, url, body, params)));
}

export async function asyncRequest(method, url, body = null, params = {}) {
  called('http.asyncRequest()');
  return new Response(await asked('http.asyncRequest()', host.httpAsync(...prepared(method, url, body, params))));
}

export const get = (url, params) => request('GET', url, null, params);
export const head = (url, params) => request('HEAD', url, null, params);
export const post = (url, body, params) => request('POST', url, body, params);
export const put = (url, body, params) => request('PUT', url, body, params);
export const patch = (url, body, params) => request('PATCH', url, body, params);
export const del = (url, body, params) => request('DELETE', url, body, params);
export const options = (url, body, params) => request('OPTIONS', url, body, params);

export default { request, asyncRequest, get, head, post, put, patch, del, options };
