//! Bytes, text and digests; durations, since they are text as well.

use aws_lc_rs::{digest, hmac};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD};
use rand::RngCore;
use rquickjs::convert::Coerced;
use rquickjs::prelude::Func;
use rquickjs::{ArrayBuffer, Ctx, Exception, Function, Object, Value};

use super::{Bytes, Outcome, duration};

/// `randomBytes` answers no more at once.
const MOST_RANDOM: usize = 1 << 20;

pub(super) fn install<'js>(ctx: &Ctx<'js>, host: &Object<'js>) -> rquickjs::Result<()> {
    let utf8 = |scope: Ctx<'js>, text: String| ArrayBuffer::new(scope, text.into_bytes());
    host.set("utf8", Function::new(ctx.clone(), utf8)?)?;
    let text = |bytes: Bytes| String::from_utf8_lossy(&bytes.0).into_owned();
    host.set("text", Func::from(text))?;
    let random = |scope: Ctx<'js>, count: usize| {
        let mut bytes = vec![0; count.min(MOST_RANDOM)];
        rand::rng().fill_bytes(&mut bytes);
        ArrayBuffer::new(scope, bytes)
    };
    host.set("randomBytes", Function::new(ctx.clone(), random)?)?;

    let encode =
        |bytes: Bytes, name: String| Outcome(encoding(&name).map(|it| it.encode(&bytes.0)));
    host.set("base64Encode", Func::from(encode))?;
    let decode =
        |scope: Ctx<'js>, text: String, name: String| -> rquickjs::Result<ArrayBuffer<'js>> {
            let decoded = encoding(&name).and_then(|it| {
                it.decode(&text)
                    .map_err(|error| format!("no base64 ({name}): {error}"))
            });
            let bytes = decoded.map_err(|text| Exception::throw_message(&scope, &text))?;
            ArrayBuffer::new(scope, bytes)
        };
    host.set("base64Decode", Function::new(ctx.clone(), decode)?)?;

    let digested =
        |scope: Ctx<'js>, name: String, bytes: Bytes| -> rquickjs::Result<ArrayBuffer<'js>> {
            let algorithm = match name.as_str() {
                "sha1" => &digest::SHA1_FOR_LEGACY_USE_ONLY,
                "sha256" => &digest::SHA256,
                "sha384" => &digest::SHA384,
                "sha512" => &digest::SHA512,
                "sha512_256" => &digest::SHA512_256,
                other => {
                    return Err(unknown(
                        &scope,
                        other,
                        "sha1, sha256, sha384, sha512, sha512_256",
                    ));
                }
            };
            ArrayBuffer::new(scope, digest::digest(algorithm, &bytes.0).as_ref())
        };
    host.set("digest", Function::new(ctx.clone(), digested)?)?;
    let signed = |scope: Ctx<'js>,
                  name: String,
                  key: Bytes,
                  bytes: Bytes|
     -> rquickjs::Result<ArrayBuffer<'js>> {
        let algorithm = match name.as_str() {
            "sha1" => hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY,
            "sha256" => hmac::HMAC_SHA256,
            "sha384" => hmac::HMAC_SHA384,
            "sha512" => hmac::HMAC_SHA512,
            other => return Err(unknown(&scope, other, "sha1, sha256, sha384, sha512")),
        };
        let tag = hmac::sign(&hmac::Key::new(algorithm, &key.0), &bytes.0);
        ArrayBuffer::new(scope, tag.as_ref())
    };
    host.set("hmac", Function::new(ctx.clone(), signed)?)?;

    host.set(
        "duration",
        Func::from(|value: Value<'js>| Outcome(milliseconds(&value))),
    )
}

fn encoding(name: &str) -> Result<&'static base64::engine::GeneralPurpose, String> {
    match name {
        "std" => Ok(&STANDARD),
        "rawstd" => Ok(&STANDARD_NO_PAD),
        "url" => Ok(&URL_SAFE),
        "rawurl" => Ok(&URL_SAFE_NO_PAD),
        other => Err(format!(
            "base64 is encoded as std, rawstd, url or rawurl, not '{other}'"
        )),
    }
}

fn unknown(ctx: &Ctx<'_>, name: &str, known: &str) -> rquickjs::Error {
    Exception::throw_message(
        ctx,
        &format!("there is no algorithm '{name}' here; there are {known}"),
    )
}

fn milliseconds(value: &Value<'_>) -> Result<f64, String> {
    if let Some(number) = value.as_number() {
        let sound = number.is_finite() && number >= 0.0;
        return if sound {
            Ok(number)
        } else {
            Err(format!("{number} is no duration"))
        };
    }
    let text: Coerced<String> = value.get().map_err(|error| error.to_string())?;
    let parsed = duration::parse(&text.0).map_err(|error| format!("'{}': {error}", text.0))?;
    Ok(parsed.as_secs_f64() * 1_000.0)
}
