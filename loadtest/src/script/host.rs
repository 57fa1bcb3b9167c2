//! The functions that our own modules call: `host.…` in `modules/`. Scripts never see them.
//!
//! Here is what measuring and waiting takes; `host/` has the rest.

mod admin;
mod bytes;
mod execution;
mod media;
mod network;
mod rooms;

use std::collections::BTreeMap;
use std::rc::Rc;

use rquickjs::convert::Coerced;
use rquickjs::prelude::{Async, Func};
use rquickjs::{ArrayBuffer, Ctx, Exception, FromJs, Function, IntoJs, Object, Value};

use super::shared::Severity;
use super::timers::span;
use super::vu::Vu;
use crate::metrics::{Contains, Kind};
use crate::options::duration;

/// The global under which they are while a script is loaded.
pub(super) const NAME: &str = "__host";

/// What is thrown is an `Error` with this text.
pub(super) struct Outcome<T>(pub(super) Result<T, String>);

impl<'js, T: IntoJs<'js>> IntoJs<'js> for Outcome<T> {
    fn into_js(self, ctx: &Ctx<'js>) -> rquickjs::Result<Value<'js>> {
        match self.0 {
            Ok(value) => value.into_js(ctx),
            Err(text) => Err(Exception::throw_message(ctx, &text)),
        }
    }
}

/// Tags as scripts give them: numbers and booleans become text.
struct Given(BTreeMap<String, String>);

impl<'js> FromJs<'js> for Given {
    fn from_js(_ctx: &Ctx<'js>, value: Value<'js>) -> rquickjs::Result<Self> {
        let object = Object::from_value(value)?;
        let pairs = object.props::<String, Coerced<String>>();
        let pairs = pairs.map(|pair| pair.map(|(name, value)| (name, value.0)));
        pairs.collect::<rquickjs::Result<_>>().map(Self)
    }
}

/// From a string its UTF-8, from a list its numbers.
struct Bytes(Vec<u8>);

impl<'js> FromJs<'js> for Bytes {
    fn from_js(ctx: &Ctx<'js>, value: Value<'js>) -> rquickjs::Result<Self> {
        if value.is_string() {
            return String::from_js(ctx, value).map(|text| Self(text.into_bytes()));
        }
        Vec::from_js(ctx, value).map(Self)
    }
}

pub(super) fn install<'js>(ctx: &Ctx<'js>, vu: &Rc<Vu>) -> rquickjs::Result<()> {
    let (globals, host) = (ctx.globals(), Object::new(ctx.clone())?);
    let environment = Object::new(ctx.clone())?;
    for (name, value) in &vu.shared.environment {
        environment.set(name, value)?;
    }
    globals.set("__ENV", environment)?;
    globals.set("__VU", vu.id)?;
    globals.set("__ITER", 0)?;
    measuring(&host, vu)?;
    waiting(&host, vu)?;
    loading(ctx, &host, vu)?;
    admin::install(&host, vu)?;
    bytes::install(ctx, &host)?;
    execution::install(&host, vu)?;
    media::install(&host, vu)?;
    network::install(&host, vu)?;
    rooms::install(&host, vu)?;
    globals.set(NAME, host)
}

fn measuring<'js>(host: &Object<'js>, vu: &Rc<Vu>) -> rquickjs::Result<()> {
    let user = Rc::clone(vu);
    let uncaught = move |text: String| user.console(Severity::Error, text);
    host.set("uncaught", Func::from(uncaught))?;
    let user = Rc::clone(vu);
    let define = move |name: String, kind: String, is_time: bool| {
        Outcome(define(&user, &name, &kind, is_time))
    };
    host.set("define", Func::from(define))?;
    let user = Rc::clone(vu);
    let add = move |place: usize, value: f64, weight: f64, tags: Option<Given>| {
        let tags = user.tag_set(tags.as_ref().map(|given| &given.0));
        if let Some(metric) = user.metrics.borrow().get(place) {
            user.measure(*metric, value, weight, tags);
        }
    };
    host.set("add", Func::from(add))?;
    let user = Rc::clone(vu);
    let check = move |name: String, passed: bool, tags: Option<Given>| {
        let mut tags = tags.map_or_else(BTreeMap::new, |given| given.0);
        tags.insert("check".to_owned(), name);
        let tags = user.tag_set(Some(&tags));
        user.measure(
            user.shared.meters.checks,
            f64::from(u8::from(passed)),
            1.0,
            tags,
        );
    };
    host.set("check", Func::from(check))?;
    let user = Rc::clone(vu);
    host.set(
        "enterGroup",
        Func::from(move |name: String| user.tags.enter(&name)),
    )?;
    let user = Rc::clone(vu);
    let leave = move |outside: String, milliseconds: f64| {
        let metric = user.shared.meters.group_duration;
        user.measure(metric, milliseconds, 1.0, user.tag_set(None));
        user.tags.leave(outside);
    };
    host.set("leaveGroup", Func::from(leave))
}

/// Answers the metric's place among the script's.
fn define(vu: &Vu, name: &str, kind: &str, is_time: bool) -> Result<usize, String> {
    if !vu.is_loading.get() {
        return Err(format!(
            "the metric '{name}' has to be made in the init context, at the top of the script"
        ));
    }
    let kind = match kind {
        "counter" => Kind::Counter,
        "gauge" => Kind::Gauge,
        "rate" => Kind::Rate,
        _ => Kind::Trend,
    };
    let contains = if is_time {
        Contains::Time
    } else {
        Contains::Default
    };
    let id = vu.shared.registry.define(name, kind, contains);
    let mut metrics = vu.metrics.borrow_mut();
    metrics.push(id.map_err(|error| error.to_string())?);
    Ok(metrics.len() - 1)
}

fn waiting<'js>(host: &Object<'js>, vu: &Rc<Vu>) -> rquickjs::Result<()> {
    let user = Rc::clone(vu);
    let sleep = move |milliseconds: f64| {
        let user = Rc::clone(&user);
        async move {
            if user.is_loading.get() {
                return Outcome(Err(
                    "sleep() works in functions, not in the init context".to_owned()
                ));
            }
            let _working = user.busy.begin();
            tokio::time::sleep(span(milliseconds)).await;
            Outcome(Ok(()))
        }
    };
    host.set("sleep", Func::from(Async(sleep)))?;
    let user = Rc::clone(vu);
    host.set("startTimer", Func::from(move || user.timers.start()))?;
    let user = Rc::clone(vu);
    let timer = move |id: u32, milliseconds: f64| {
        let user = Rc::clone(&user);
        async move {
            let _working = user.busy.begin();
            Outcome(Ok(user.timers.wait(id, milliseconds).await))
        }
    };
    host.set("timer", Func::from(Async(timer)))?;
    let user = Rc::clone(vu);
    host.set("stopTimer", Func::from(move |id: u32| user.timers.stop(id)))
}

fn loading<'js>(ctx: &Ctx<'js>, host: &Object<'js>, vu: &Rc<Vu>) -> rquickjs::Result<()> {
    let user = Rc::clone(vu);
    let log = move |level: String, text: String| {
        let severity = match level.as_str() {
            "debug" => Severity::Debug,
            "warning" => Severity::Warning,
            "error" => Severity::Error,
            _ => Severity::Info,
        };
        user.console(severity, text);
    };
    host.set("log", Func::from(log))?;
    // A context that a function of its own holds would never be freed: it comes as an argument.
    let user = Rc::clone(vu);
    let open = move |scope: Ctx<'js>, path: String, binary: bool| -> rquickjs::Result<Value<'js>> {
        let refused = |text: String| Exception::throw_message(&scope, &text);
        if !user.is_loading.get() {
            return Err(refused(format!(
                "open({path:?}) works in the init context only, at the top of the script"
            )));
        }
        let files = &user.shared.files;
        let found = files
            .resolve(files.entry(), &path)
            .and_then(|name| files.read(&name));
        let content =
            found.map_err(|error| refused(format!("open({path:?}): {}", super::chain(&error))))?;
        if binary {
            return ArrayBuffer::new(scope.clone(), content.to_vec())?.into_js(&scope);
        }
        String::from_utf8_lossy(&content)
            .into_owned()
            .into_js(&scope)
    };
    host.set("open", Function::new(ctx.clone(), open)?)?;
    let user = Rc::clone(vu);
    let shared_array = move |scope: Ctx<'js>,
                             name: String,
                             make: Function<'js>|
          -> rquickjs::Result<usize> {
        if !user.is_loading.get() {
            let text = format!(
                "the SharedArray '{name}' has to be made in the init context, at the top of the script"
            );
            return Err(Exception::throw_message(&scope, &text));
        }
        if let Some(known) = user.shared.array(&name) {
            return Ok(known);
        }
        let made: Vec<String> = make.call(())?;
        Ok(user.shared.keep_array(&name, made))
    };
    host.set("sharedArray", Function::new(ctx.clone(), shared_array)?)?;
    let user = Rc::clone(vu);
    let length = move |id: usize| user.shared.elements(id).map_or(0, |it| it.len());
    host.set("sharedLength", Func::from(length))?;
    let user = Rc::clone(vu);
    let element = move |id: usize, index: usize| {
        let elements = user.shared.elements(id);
        elements.and_then(|it| it.get(index).cloned())
    };
    host.set("sharedElement", Func::from(element))
}
