//! `k6/http` against a server.

use crate::bench::{Bench, finish};
use crate::server::Server;

fn run(script: &str, server: &Server, arguments: &[&str]) -> crate::bench::Ran {
    let bench = Bench::new(script);
    let mut command = bench.command(&[arguments, &["--log-format", "raw"]].concat());
    finish(command.env("URL", &server.url))
}

#[test]
fn requests_are_sent_as_they_are_written() {
    let server = Server::start();
    let ran = run(
        "import http from 'k6/http';
        import { check } from 'k6';
        export const options = { userAgent: 'tester/1', thresholds: {
          http_reqs: ['count==6'], 'http_reqs{name:named}': ['count==1'], 'http_req_failed{status:404}': ['rate==1'],
          http_req_failed: ['rate<0.2'], http_req_duration: ['max>0'], checks: ['rate==1'], data_received: ['count>0'] } };
        export default async function () {
          const got = http.get(`${__ENV.URL}/a?b=c`, { headers: { 'X-Mine': 'm' }, tags: { name: 'named' } });
          check(got, {
            status: (it) => it.status === 200 && it.status_text.includes('200'),
            json: (it) => it.json().method === 'GET' && it.json('path') === '/a?b=c' && it.json('list.0.name') === 'first',
            agent: (it) => it.json('agent') === 'tester/1',
            headers: (it) => it.headers['Content-Type'] === 'application/json' && it.headers['X-Custom-Name'] === 'yes',
            timings: (it) => it.timings.duration > 0 && it.timings.waiting > 0,
          });
          const form = http.post(`${__ENV.URL}/form`, { a: '1 2', b: 'é' });
          check(form, { form: (it) => it.json('body') === 'a=1%202&b=%C3%A9' });
          const json = http.post(`${__ENV.URL}/json`, JSON.stringify({ x: 1 }), { headers: { 'Content-Type': 'application/json' } });
          check(json, { body: (it) => it.json('body') === '{\"x\":1}' });
          const methods = [http.put(`${__ENV.URL}/put`, 'p'), http.del(`${__ENV.URL}/del`)].map((it) => it.json('method'));
          check(methods, { methods: (it) => it.join() === 'PUT,DELETE' });
          check(http.get(`${__ENV.URL}/missing`), { missing: (it) => it.status === 404 && it.body === 'nothing here' && it.error_code === 0 });
        }",
        &server,
        &[],
    );
    ran.exits(0);
    let received = server.received();
    assert_eq!(received.len(), 6, "{received:?}");
    assert_eq!(received[0].header("x-mine"), Some("m"));
    assert_eq!(
        received[1].header("content-type"),
        Some("application/x-www-form-urlencoded")
    );
    assert_eq!(received[2].header("content-type"), Some("application/json"));
}

#[test]
fn requests_that_get_no_answer_are_counted_and_may_throw() {
    let server = Server::start();
    let script = "import http from 'k6/http';
        export const options = { thresholds: { http_req_failed: ['rate==1'], 'http_reqs{error_code:1050}': ['count==1'] } };
        export default function () {
          const slow = http.get(`${__ENV.URL}/slow`, { timeout: '100ms' });
          console.log(slow.status, slow.error_code, slow.error !== '');
          const refused = http.get('http://127.0.0.1:1/', { timeout: 5000 });
          console.log(refused.status, refused.error_code);
        }";
    let ran = run(script, &server, &[]);
    ran.exits(0).says("0 1050 true\n").says("0 1210\n");
    let ran = run(script, &server, &["--throw"]);
    ran.exits(0).says("/slow").keeps_quiet_about("0 1210");
}

#[test]
fn waiting_requests_do_not_stop_others() {
    let server = Server::start();
    let ran = run(
        "import http from 'k6/http';
        export default async function () {
          const slow = http.asyncRequest('GET', `${__ENV.URL}/slow`, null, { timeout: '400ms' }).then((it) => console.log('slow', it.error_code));
          const fast = await http.asyncRequest('POST', `${__ENV.URL}/fast`, 'x');
          console.log('fast', fast.json('body'));
        }",
        &server,
        &["-q"],
    );
    ran.exits(0);
    assert_eq!(ran.lines(), ["fast x", "slow 1050"], "{ran}");
}

#[test]
fn redirections_are_followed_as_far_as_is_asked_for() {
    let server = Server::start();
    let ran = run(
        "import http from 'k6/http';
        const tell = (it) => console.log(it.status, it.url.replace(__ENV.URL, ''), it.body.length > 0);
        export default function () {
          tell(http.get(`${__ENV.URL}/moved/2`));
          tell(http.get(`${__ENV.URL}/moved/2`, { redirects: 0 }));
          tell(http.get(`${__ENV.URL}/moved/2`, { redirects: 2 }));
          tell(http.get(`${__ENV.URL}/moved/11`));
          try { http.get(__ENV.URL, { redirects: 'all' }); } catch (error) { console.log(error.message); }
        }",
        &server,
        &["-q"],
    );
    ran.exits(0);
    assert_eq!(
        ran.lines(),
        [
            "200 /arrived true",
            "302 /moved/2 true",
            "302 /moved/0 true",
            "302 /moved/1 true",
            "redirects of the request: \"all\" is no number",
        ],
        "{ran}"
    );
}

#[test]
fn bodies_are_bytes_where_that_is_asked_for() {
    let server = Server::start();
    let ran = run(
        "import http from 'k6/http';
        const show = (body) => (body instanceof ArrayBuffer ? Array.from(new Uint8Array(body)).join() : String(body));
        export default async function () {
          const url = `${__ENV.URL}/bytes`;
          console.log(show(http.get(url, { responseType: 'binary' }).body));
          console.log(show((await http.asyncRequest('GET', url, null, { responseType: 'binary' })).body));
          console.log(show(http.get(url, { responseType: 'none' }).body));
          console.log(show(http.get(`${__ENV.URL}/text`, { responseType: 'text' }).body));
          http.post(`${__ENV.URL}/sent`, new Uint8Array([0, 255, 7]).buffer);
          http.post(`${__ENV.URL}/sent`, new Uint8Array([1, 2, 254]).subarray(1));
          try { http.get(url, { responseType: 'json' }); } catch (error) { console.log(error.message); }
          try { http.get(url, { responseType: 'binary' }).json(); } catch (error) { console.log(error.message); }
        }",
        &server,
        &["-q"],
    );
    ran.exits(0);
    assert_eq!(
        ran.lines(),
        [
            "0,255,254,7",
            "0,255,254,7",
            "null",
            "some text",
            "responseType of the request: text, binary or none, not json",
            "json() needs a body that is text: leave responseType away",
        ],
        "{ran}"
    );
    let received = server.received();
    let sent: Vec<&[u8]> = received
        .iter()
        .filter(|it| it.path == "/sent")
        .map(|it| it.body.as_slice())
        .collect();
    assert_eq!(sent, [&[0, 255, 7][..], &[2, 254]]);
}
