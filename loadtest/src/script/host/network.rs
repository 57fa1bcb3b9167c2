//! HTTP and tokens.

use std::rc::Rc;
use std::time::Instant;

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rquickjs::prelude::{Async, Func};
use rquickjs::{Array, ArrayBuffer, Ctx, IntoJs, Object, Value};

use super::{Bytes, Given, Outcome};
use crate::http::{Answer, Http, Request};
use crate::script::vu::Vu;

pub(super) fn install(host: &Object<'_>, vu: &Rc<Vu>) -> rquickjs::Result<()> {
    let user = Rc::clone(vu);
    let blocking = move |method: String,
                         url: String,
                         body: Option<Bytes>,
                         params: String,
                         tags: Option<Given>| {
        let sent = Request::new(method, url, body.map(|it| it.0), &params).and_then(|request| {
            let since = Instant::now();
            let answer = http(&user)?.blocking(request);
            user.limits.excuse(since.elapsed());
            answer
        });
        Outcome(sent.and_then(|answer| told(&user, answer, tags)))
    };
    host.set("http", Func::from(blocking))?;
    let user = Rc::clone(vu);
    let waiting = move |method: String,
                        url: String,
                        body: Option<Bytes>,
                        params: String,
                        tags: Option<Given>| {
        let user = Rc::clone(&user);
        async move {
            let _working = user.busy.begin();
            let request = match Request::new(method, url, body.map(|it| it.0), &params) {
                Ok(request) => request,
                Err(text) => return Outcome(Err(text)),
            };
            let sent = match http(&user) {
                Ok(http) => http.send(request).await,
                Err(text) => Err(text),
            };
            Outcome(sent.and_then(|answer| told(&user, answer, tags)))
        }
    };
    host.set("httpAsync", Func::from(Async(waiting)))?;
    let sign = |secret: String, claims: String| {
        // RFC 7515 appendix A.1.
        let encoded = |text: &str| URL_SAFE_NO_PAD.encode(text);
        let signed = format!(
            "{}.{}",
            encoded(r#"{"alg":"HS256","typ":"JWT"}"#),
            encoded(&claims)
        );
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
        let tag = hmac::sign(&key, signed.as_bytes());
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(tag))
    };
    host.set("sign", Func::from(sign))
}

fn http(vu: &Vu) -> Result<&Http, String> {
    let settings = vu.shared.settings.get().filter(|_| !vu.is_loading.get());
    let http = settings.map(|it| &it.http);
    http.ok_or_else(|| {
        "there is no network in the init context, at the top of the script".to_owned()
    })
}

/// What a script gets of an answer: JSON, and beside it a body that is no text.
struct Told {
    json: String,
    binary: Option<Vec<u8>>,
}

impl<'js> IntoJs<'js> for Told {
    fn into_js(self, ctx: &Ctx<'js>) -> rquickjs::Result<Value<'js>> {
        let Some(binary) = self.binary else {
            return self.json.into_js(ctx);
        };
        let pair = Array::new(ctx.clone())?;
        pair.set(0, self.json)?;
        pair.set(1, ArrayBuffer::new(ctx.clone(), binary)?)?;
        pair.into_js(ctx)
    }
}

/// Measures a request.
fn told(vu: &Vu, mut answer: Answer, tags: Option<Given>) -> Result<Told, String> {
    let mut all = answer.tags();
    all.extend(tags.map_or_else(Default::default, |given| given.0));
    let tags = vu.tag_set(Some(&all));
    let meters = &vu.shared.meters;
    vu.measure(meters.http_reqs, 1.0, 1.0, tags);
    vu.measure(meters.http_req_duration, answer.duration, 1.0, tags);
    vu.measure(
        meters.http_req_failed,
        f64::from(u8::from(!answer.is_expected())),
        1.0,
        tags,
    );
    vu.measure(meters.data_sent, answer.sent as f64, 1.0, tags);
    vu.measure(meters.data_received, answer.received as f64, 1.0, tags);
    let throws = vu.shared.settings.get().is_some_and(|it| it.throws);
    match answer.failure().filter(|_| throws) {
        Some(why) => Err(why),
        None => Ok(Told {
            binary: answer.take_binary(),
            json: answer.to_json(),
        }),
    }
}
